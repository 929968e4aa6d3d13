//! The limiter compared with a simple model for any order of events, and run on real threads.
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use tfs_sidecar::config::{Config, UpstreamConcurrency};
use tfs_sidecar::limiter::{Limiter, Order, Outcome, Permit, ShardHandle, Source, Waiter};

const SHARDS: usize = 3;

fn limiter(limit: usize) -> Arc<Limiter> {
    Limiter::new(UpstreamConcurrency::Fixed(limit), &Config::default().limits).unwrap()
}

type Boxed<T> = Pin<Box<dyn Future<Output = T>>>;

fn poll<T>(future: &mut Boxed<T>) -> Option<T> {
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// The next event; a number selects one of the existing requests or calls.
#[derive(Debug, Clone)]
enum Event {
    Arrive {
        shard: usize,
        order: bool,
    },
    /// A shard receives what other shards handed over.
    Deliver {
        shard: usize,
    },
    /// Every waiter reads its outcome.
    Read,
    Cancel {
        request: usize,
    },
    /// A call ends: with an answer, or because its request is cancelled.
    End {
        call: usize,
        how: u8,
    },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let arrive =
        (0..SHARDS, prop::bool::weighted(0.1)).prop_map(|(shard, order)| Event::Arrive { shard, order });
    let deliver = (0..SHARDS).prop_map(|shard| Event::Deliver { shard });
    let read = Just(Event::Read);
    let cancel = any::<usize>().prop_map(|request| Event::Cancel { request });
    let end = (any::<usize>(), 0_u8..2).prop_map(|(call, how)| Event::End { call, how });
    vec(prop_oneof![4 => arrive, 1 => deliver, 2 => read, 1 => cancel, 2 => end], 0..120)
}

/// A request as the model sees it.
#[derive(Debug)]
struct Queued {
    position: i64,
    shard: usize,
    cancelled: bool,
}

/// The model: a queue, and the calls.
#[derive(Debug, Default)]
struct Model {
    limit: usize,
    inflight: usize,
    queue: VecDeque<usize>,
    requests: Vec<Queued>,
    calls: BTreeSet<usize>,
    /// Requests whose grant has not reached their shard yet.
    transit: Vec<VecDeque<usize>>,
}

impl Model {
    fn insert(&mut self, request: usize) {
        let at = self
            .queue
            .partition_point(|other| self.requests[*other].position < self.requests[request].position);
        self.queue.insert(at, request);
    }

    fn fill(&mut self, here: usize) {
        while self.inflight < self.limit
            && let Some(first) = self.queue.pop_front()
        {
            self.inflight += 1;
            let Queued { shard, .. } = self.requests[first];
            self.calls.insert(first);
            if shard != here {
                self.transit[shard].push_back(first);
            }
        }
    }

    /// A call ends.
    fn end(&mut self, request: usize, here: usize) {
        assert!(self.calls.remove(&request));
        self.inflight -= 1;
        self.fill(here);
    }
}

struct World {
    limiter: Arc<Limiter>,
    handles: Vec<ShardHandle>,
    receivers: Vec<Boxed<()>>,
    waiting: BTreeMap<usize, Boxed<Option<Outcome>>>,
    calls: BTreeMap<usize, Permit>,
    ended: BTreeSet<usize>,
    model: Model,
}

impl World {
    fn new(limit: usize) -> Self {
        let limiter = limiter(limit);
        let (handles, receivers): (Vec<_>, Vec<_>) = (0..SHARDS).map(|_| limiter.shard_handle()).unzip();
        let receivers = receivers.into_iter().map(|receiver| Box::pin(receiver.deliver()) as Boxed<()>);
        Self {
            limiter,
            handles,
            receivers: receivers.collect(),
            waiting: BTreeMap::new(),
            calls: BTreeMap::new(),
            ended: BTreeSet::new(),
            model: Model { limit, transit: vec![VecDeque::new(); SHARDS], ..Model::default() },
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Arrive { shard, order } => {
                let request = self.model.requests.len();
                let order = if order { Order::Front } else { Order::Back };
                let waiter = self.handles[shard].wait(Source::default(), None, order).unwrap();
                self.waiting.insert(request, Box::pin(Waiter::outcome(waiter)));
                let back = request as i64;
                let position = if order == Order::Front { i64::MIN + back } else { back };
                self.model.requests.push(Queued { position, shard, cancelled: false });
                self.model.insert(request);
                self.model.fill(shard);
            }
            Event::Deliver { shard } => {
                assert_eq!(poll(&mut self.receivers[shard]), None);
                let arrived = std::mem::take(&mut self.model.transit[shard]);
                for request in arrived {
                    if self.model.requests[request].cancelled {
                        self.model.end(request, shard);
                    }
                }
            }
            Event::Read => self.compare(),
            Event::Cancel { request } => {
                let Some(request) = choose(&self.waiting, request) else { return };
                self.waiting.remove(&request);
                self.model.requests[request].cancelled = true;
                self.model.queue.retain(|other| *other != request);
                let shard = self.model.requests[request].shard;
                if self.model.calls.contains(&request) && !self.model.transit[shard].contains(&request) {
                    self.model.end(request, shard);
                }
            }
            Event::End { call, how } => {
                let Some(request) = choose(&self.calls, call) else { return };
                let permit = self.calls.remove(&request).unwrap();
                if how == 0 {
                    drop(permit);
                } else {
                    permit.answered();
                }
                let shard = self.model.requests[request].shard;
                self.model.end(request, shard);
            }
        }
    }

    /// Compares the outcome of every waiter with the model.
    fn compare(&mut self) {
        let requests: Vec<usize> = self.waiting.keys().copied().collect();
        for request in requests {
            let Some(outcome) = poll(self.waiting.get_mut(&request).unwrap()) else { continue };
            self.waiting.remove(&request);
            assert!(self.ended.insert(request), "{request} ended twice");
            match outcome.unwrap() {
                Outcome::Displaced { .. } => panic!("the queue is never full"),
                Outcome::Grant(permit) => {
                    assert!(self.model.calls.contains(&request), "{request} is not next");
                    self.calls.insert(request, permit);
                }
            }
        }
    }

    fn check(&self) {
        let seen = self.limiter.occupancy();
        assert_eq!((seen.inflight, seen.queued), (self.model.inflight, self.model.queue.len()));
    }

    fn deliver_and_compare(&mut self) {
        // A grant whose request is gone goes to the next waiter, perhaps on another shard.
        while let Some(shard) = self.model.transit.iter().position(|requests| !requests.is_empty()) {
            self.apply(Event::Deliver { shard });
        }
        for shard in 0..SHARDS {
            self.apply(Event::Deliver { shard });
        }
        self.compare();
    }
}

fn choose<T>(map: &BTreeMap<usize, T>, number: usize) -> Option<usize> {
    map.keys().nth(number.checked_rem(map.len())?).copied()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_order_of_events_ends_every_request_exactly_once(limit in 1_usize..4, events in events()) {
        let mut world = World::new(limit);
        for event in events {
            world.apply(event);
            world.check();
        }
        world.deliver_and_compare();
        while !world.calls.is_empty() {
            world.apply(Event::End { call: 0, how: 1 });
            world.check();
            world.deliver_and_compare();
        }
        let ends = world.ended.len() + world.model.requests.iter().filter(|request| request.cancelled).count();
        prop_assert_eq!(ends, world.model.requests.len());
        prop_assert!(world.waiting.is_empty());
        prop_assert_eq!(world.limiter.occupancy().inflight, 0);
    }
}

#[test]
fn every_request_on_every_thread_is_answered_once() {
    const REQUESTS: usize = 20_000;
    const THREADS: usize = 4;
    let limiter = limiter(3);
    let [answers, peak] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let limiter = Arc::clone(&limiter);
            let [answers, peak] = [&answers, &peak].map(Arc::clone);
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                runtime.block_on(async {
                    let (shard, receiver) = limiter.shard_handle();
                    tokio::spawn(receiver.deliver());
                    let mut tasks = tokio::task::JoinSet::new();
                    for number in 0..REQUESTS {
                        let (shard, answers) = (shard.clone(), Arc::clone(&answers));
                        let (limiter, peak) = (Arc::clone(&limiter), Arc::clone(&peak));
                        tasks.spawn(async move {
                            let waiter = shard.wait(Source::default(), None, Order::Back).unwrap();
                            let mut outcome = pin!(waiter.outcome());
                            if number % 11 == 0 {
                                // Cancelled if nothing came before the task ran again.
                                tokio::select! {
                                    biased;
                                    outcome = &mut outcome => drop(outcome),
                                    () = tokio::task::yield_now() => {}
                                }
                                return;
                            }
                            match outcome.await.unwrap() {
                                Outcome::Displaced { .. } => panic!("the queue is never full"),
                                Outcome::Grant(permit) => {
                                    peak.fetch_max(limiter.occupancy().inflight, SeqCst);
                                    tokio::task::yield_now().await;
                                    permit.answered();
                                }
                            }
                            answers.fetch_add(1, SeqCst);
                        });
                        if tasks.len() >= 200 {
                            tasks.join_next().await.unwrap().unwrap();
                        }
                    }
                    let all = async {
                        while let Some(ended) = tasks.join_next().await {
                            ended.unwrap();
                        }
                    };
                    tokio::time::timeout(Duration::from_secs(60), all).await.expect("no request is lost");
                });
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let seen = limiter.occupancy();
    assert_eq!((seen.inflight, seen.queued), (0, 0));
    assert!(peak.load(SeqCst) <= 3);
    let answered = answers.load(SeqCst);
    assert_eq!(answered, THREADS * (REQUESTS - REQUESTS.div_ceil(11)));
}
