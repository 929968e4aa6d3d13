//! The limiter with requests that share upstream calls: compared with a simple model for any order
//! of events, and run on real threads.
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use tfs_sidecar::config::{Config, UpstreamConcurrency};
use tfs_sidecar::limiter::{Grant, Limiter, Order, Outcome, ShardHandle, Share, Sharing, Source, Waiter};

/// Requests are numbered; the message and the answer are the number.
#[derive(Debug)]
struct Numbered;

impl Sharing for Numbered {
    type Key = u8;
    type Message = usize;
    type Answer = usize;
}

const MAX_ROWS: usize = 8;
const SHARDS: usize = 3;

fn limiter(limit: usize) -> Arc<Limiter<Numbered>> {
    Limiter::new(UpstreamConcurrency::Fixed(limit), &Config::default().limits).unwrap()
}

fn share((key, rows): Offer, message: usize) -> Share<Numbered> {
    Share { key, rows, max_rows: MAX_ROWS, message }
}

/// The key and rows of a request.
type Offer = (u8, usize);

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
        share: Option<(u8, usize)>,
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
    /// A call ends: with an answer, or because its leader is cancelled.
    End {
        call: usize,
        how: u8,
    },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let arrive = (0..SHARDS, prop::option::weighted(0.8, (0_u8..2, 1_usize..5)), prop::bool::weighted(0.1))
        .prop_map(|(shard, share, order)| Event::Arrive { shard, share, order });
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
    offer: Option<Offer>,
    cancelled: bool,
}

/// The model: a queue, and the leader of each call.
#[derive(Debug, Default)]
struct Model {
    limit: usize,
    inflight: usize,
    queue: VecDeque<usize>,
    requests: Vec<Queued>,
    /// The requests that joined the call of each leader.
    calls: BTreeMap<usize, Vec<usize>>,
    /// Leaders whose grant has not reached their shard yet.
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
            let Queued { shard, offer, .. } = self.requests[first];
            let mut joined = Vec::new();
            if let Some((key, mut rows)) = offer {
                for other in self.queue.clone() {
                    match self.requests[other].offer {
                        Some((same, more)) if same == key && rows + more <= MAX_ROWS => {
                            rows += more;
                            joined.push(other);
                        }
                        Some((same, _)) if same == key => break,
                        _ => {}
                    }
                }
            }
            self.queue.retain(|other| !joined.contains(other));
            self.calls.insert(first, joined);
            if shard != here {
                self.transit[shard].push_back(first);
            }
        }
    }

    /// A call that ends without an answer for those that joined it.
    fn give_up(&mut self, leader: usize, here: usize) {
        for request in self.calls.remove(&leader).unwrap() {
            if !self.requests[request].cancelled {
                self.insert(request);
            }
        }
        self.fill(here);
        self.inflight -= 1;
        self.fill(here);
    }
}

struct World {
    limiter: Arc<Limiter<Numbered>>,
    handles: Vec<ShardHandle<Numbered>>,
    receivers: Vec<Boxed<()>>,
    waiting: BTreeMap<usize, Boxed<Option<Outcome<Numbered>>>>,
    calls: BTreeMap<usize, Grant<Numbered>>,
    /// How each request ended: by its own call or by another's.
    ended: BTreeMap<usize, usize>,
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
            ended: BTreeMap::new(),
            model: Model { limit, transit: vec![VecDeque::new(); SHARDS], ..Model::default() },
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Arrive { shard, share: offer, order } => {
                let request = self.model.requests.len();
                let order = if order { Order::Front } else { Order::Back };
                let share = offer.map(|offer| share(offer, request));
                let waiter = self.handles[shard].wait(Source::default(), None, order, share).unwrap();
                self.waiting.insert(request, Box::pin(Waiter::outcome(waiter)));
                let back = request as i64;
                let position = if order == Order::Front { i64::MIN + back } else { back };
                self.model.requests.push(Queued { position, shard, offer, cancelled: false });
                self.model.insert(request);
                self.model.fill(shard);
            }
            Event::Deliver { shard } => {
                assert_eq!(poll(&mut self.receivers[shard]), None);
                let arrived = std::mem::take(&mut self.model.transit[shard]);
                for leader in arrived {
                    if self.model.requests[leader].cancelled {
                        self.model.give_up(leader, shard);
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
                if self.model.calls.contains_key(&request) && !self.model.transit[shard].contains(&request) {
                    self.model.give_up(request, shard);
                }
            }
            Event::End { call, how } => {
                let Some(leader) = choose(&self.calls, call) else { return };
                let Grant { permit, joined } = self.calls.remove(&leader).unwrap();
                let shard = self.model.requests[leader].shard;
                if how == 0 {
                    // The leader is cancelled.
                    drop(Grant { permit, joined });
                    self.model.give_up(leader, shard);
                    return;
                }
                if let Some(joined) = joined {
                    let answers = joined.shares().map(|share| share.message).collect();
                    joined.answer(answers);
                }
                permit.answered();
                self.model.calls.remove(&leader);
                self.model.inflight -= 1;
                self.model.fill(shard);
            }
        }
    }

    /// Compares the outcome of every waiter with the model.
    fn compare(&mut self) {
        let requests: Vec<usize> = self.waiting.keys().copied().collect();
        for request in requests {
            let Some(outcome) = poll(self.waiting.get_mut(&request).unwrap()) else { continue };
            self.waiting.remove(&request);
            assert!(self.ended.insert(request, request).is_none(), "{request} ended twice");
            match outcome.unwrap() {
                Outcome::Answer(answer) => assert_eq!(answer, request),
                Outcome::Displaced { .. } => panic!("the queue is never full"),
                Outcome::Grant(grant) => {
                    let joined: Vec<usize> =
                        grant.joined.iter().flat_map(|j| j.shares().map(|s| s.message)).collect();
                    let expected = self.model.calls[&request].iter().copied();
                    let expected: Vec<usize> =
                        expected.filter(|other| !self.model.requests[*other].cancelled).collect();
                    assert_eq!(joined, expected, "joined the call of {request}");
                    self.calls.insert(request, grant);
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
        while let Some(shard) = self.model.transit.iter().position(|leaders| !leaders.is_empty()) {
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
fn waiters_with_the_same_key_leave_with_the_first_one() {
    let mut world = World::new(1);
    world.apply(Event::Arrive { shard: 0, share: None, order: false });
    for share in [Some((0, 3)), Some((1, 1)), None, Some((0, 4)), Some((0, 2)), Some((0, 1))] {
        world.apply(Event::Arrive { shard: 0, share, order: false });
    }
    world.compare();
    let mut calls = Vec::new();
    while let Some((leader, _)) = world.calls.first_key_value() {
        calls.push((*leader, world.model.calls[leader].clone()));
        world.apply(Event::End { call: 0, how: 1 });
        world.compare();
    }
    // 5 would make nine rows, and 6 does not overtake it.
    assert_eq!(calls, [(0, vec![]), (1, vec![4]), (2, vec![]), (3, vec![]), (5, vec![6])]);
}

#[test]
fn requests_that_joined_a_thread_that_has_ended_are_granted_their_own_call() {
    let limiter = limiter(1);
    let ((here, _receiver), (there, ended)) = (limiter.shard_handle(), limiter.shard_handle());
    let permit = here.take().unwrap();
    let leader = there.wait(Source::default(), None, Order::Back, Some(share((0, 1), 0))).unwrap();
    let joined = here.wait(Source::default(), None, Order::Back, Some(share((0, 1), 1))).unwrap();
    let mut joined: Boxed<_> = Box::pin(joined.outcome());
    drop(ended);
    permit.answered();
    let Some(Some(Outcome::Grant(Grant { permit, joined: None }))) = poll(&mut joined) else {
        panic!("a call of its own")
    };
    assert_eq!((limiter.occupancy().inflight, limiter.occupancy().queued), (1, 0));
    drop((leader, permit));
    assert_eq!(limiter.occupancy().inflight, 0);
}

#[test]
fn every_request_on_every_thread_is_answered_once() {
    const REQUESTS: usize = 20_000;
    const THREADS: usize = 4;
    let limiter = limiter(3);
    let [calls, answers, peak] = [(); 3].map(|()| Arc::new(AtomicUsize::new(0)));
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let limiter = Arc::clone(&limiter);
            let [calls, answers, peak] = [&calls, &answers, &peak].map(Arc::clone);
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                runtime.block_on(async {
                    let (shard, receiver) = limiter.shard_handle();
                    tokio::spawn(receiver.deliver());
                    let mut tasks = tokio::task::JoinSet::new();
                    for number in 0..REQUESTS {
                        let (shard, calls, answers) =
                            (shard.clone(), Arc::clone(&calls), Arc::clone(&answers));
                        let (limiter, peak) = (Arc::clone(&limiter), Arc::clone(&peak));
                        tasks.spawn(async move {
                            let offer = ((number % 3 < 2) as u8, 1 + number % 4);
                            let share = (number % 5 > 0).then(|| share(offer, thread * REQUESTS + number));
                            let waiter = shard.wait(Source::default(), None, Order::Back, share).unwrap();
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
                                Outcome::Answer(answer) => assert_eq!(answer, thread * REQUESTS + number),
                                Outcome::Displaced { .. } => panic!("the queue is never full"),
                                Outcome::Grant(Grant { permit, joined }) => {
                                    peak.fetch_max(limiter.occupancy().inflight, SeqCst);
                                    calls.fetch_add(1, SeqCst);
                                    tokio::task::yield_now().await;
                                    if let Some(joined) = joined {
                                        let rows: usize = joined.shares().map(|share| share.rows).sum();
                                        assert!(rows + offer.1 <= MAX_ROWS);
                                        assert!(joined.shares().all(|share| share.key == offer.0));
                                        if number % 7 > 0 {
                                            let messages = joined.shares().map(|share| share.message);
                                            let messages = messages.collect();
                                            joined.answer(messages);
                                        }
                                    }
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
    assert!(calls.load(SeqCst) < answered, "some calls were shared");
}
