//! The places that TF Serving has for requests, shared by all threads: taken, waited for in order, and as many as have been learned.
//!
//! While a place is free and nobody waits, taking and giving back are an atomic step each: no lock, no clock, no memory. Who must wait
//! stands in one queue for the whole process, in the order of coming; only a request that the server has sent back goes to its front.
//! A request stays on its thread: the place is handed to it there.
//!
//! A place is given back when the answer begins, not when the client has read it: the server has done its work by then, and a client
//! that does not read holds nothing.
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::config::{Limits, UpstreamConcurrency};
use crate::fault::Fault;
use crate::governor::{Limit, Micros, STUCK, Sent};

/// A hint for clients that were turned away is within these.
const LEAST_HINT: Duration = Duration::from_millis(10);
const MOST_HINT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Places {
    /// What [`Limit`] says, for the way that takes no lock.
    limit: AtomicUsize,
    epoch: AtomicU32,
    inflight: AtomicUsize,
    queued: AtomicUsize,
    most_queued: usize,
    start: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limit: Limit,
    /// In the order of their numbers.
    queue: VecDeque<Waiter>,
    next: i64,
    front: i64,
}

#[derive(Debug)]
struct Waiter {
    number: i64,
    turn: oneshot::Sender<Place>,
}

/// The right to have one request in flight; given back when dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    sent: Sent,
    held: bool,
}

/// A request in the queue; leaves it when dropped.
#[derive(Debug)]
pub struct Turn {
    places: Arc<Places>,
    number: i64,
    place: oneshot::Receiver<Place>,
}

/// Where a request that must wait stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Back,
    /// It had a place already and was sent back.
    Front,
}

/// What operators see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Occupancy {
    pub limit: usize,
    pub inflight: usize,
    pub queued: usize,
}

impl Places {
    /// `None`: as many as come.
    pub fn new(concurrency: UpstreamConcurrency, limits: &Limits) -> Option<Arc<Self>> {
        let limit = match concurrency {
            UpstreamConcurrency::Off => return None,
            UpstreamConcurrency::Auto => Limit::learned(limits.max_inflight_requests),
            UpstreamConcurrency::Fixed(limit) => Limit::fixed(limit),
        };
        Some(Arc::new(Self {
            limit: AtomicUsize::new(limit.limit()),
            epoch: AtomicU32::new(limit.epoch()),
            inflight: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            most_queued: limits.max_queued_requests,
            start: Instant::now(),
            state: Mutex::new(State { limit, queue: VecDeque::new(), next: 0, front: -1 }),
        }))
    }

    pub fn occupancy(&self) -> Occupancy {
        Occupancy {
            limit: self.limit.load(SeqCst),
            inflight: self.inflight.load(SeqCst),
            queued: self.queued.load(SeqCst),
        }
    }

    /// Takes a place, if one is free and nobody waits.
    pub fn take(self: &Arc<Self>) -> Option<Place> {
        if self.queued.load(SeqCst) > 0 { None } else { self.try_take() }
    }

    /// Refuses a request that would wait in vain. Costs nothing while nobody waits: made for the door, before the message is read.
    pub fn check(&self, deadline: Option<Instant>) -> Result<(), Fault> {
        if self.queued.load(SeqCst) == 0 {
            return Ok(());
        }
        self.admit(&self.state(), deadline, Order::Back)
    }

    /// Stands in the queue; [`Turn::come`] gives the place.
    pub fn wait(self: &Arc<Self>, deadline: Option<Instant>, order: Order) -> Result<Turn, Fault> {
        let mut state = self.state();
        self.admit(&state, deadline, order)?;
        if state.queue.is_empty() {
            state.limit.waits(self.now());
        }
        let (sender, place) = oneshot::channel();
        let number = match order {
            Order::Back => {
                state.next += 1;
                let number = state.next;
                state.queue.push_back(Waiter { number, turn: sender });
                number
            }
            Order::Front => {
                state.front -= 1;
                let number = state.front;
                state.queue.push_front(Waiter { number, turn: sender });
                number
            }
        };
        // Counted before the look at the free places: one that is given back from now on finds this request.
        self.queued.fetch_add(1, SeqCst);
        self.hand_out(&mut state);
        Ok(Turn { places: Arc::clone(self), number, place })
    }

    fn admit(&self, state: &State, deadline: Option<Instant>, order: Order) -> Result<(), Fault> {
        let ahead = match order {
            Order::Back => state.queue.len(),
            Order::Front => 0,
        };
        let wait = state.limit.wait(ahead).map(Duration::from_micros);
        let hint = wait.unwrap_or(LEAST_HINT).clamp(LEAST_HINT, MOST_HINT);
        if order == Order::Back && ahead >= self.most_queued {
            return Err(Fault::QueueLong { waiting: ahead, limit: self.most_queued, retry: hint });
        }
        match (deadline, wait) {
            (Some(deadline), Some(wait)) if Instant::now() + wait > deadline => {
                Err(Fault::TooLate { waiting: ahead, wait, retry: hint })
            }
            _ => Ok(()),
        }
    }

    fn try_take(self: &Arc<Self>) -> Option<Place> {
        let limit = self.limit.load(SeqCst);
        let taken =
            self.inflight.fetch_update(SeqCst, SeqCst, |inflight| (inflight < limit).then_some(inflight + 1));
        let sent = Sent { inflight: taken.ok()? + 1, epoch: self.epoch.load(SeqCst) };
        Some(Place { places: Arc::clone(self), sent, held: true })
    }

    /// Gives free places to those who wait longest.
    fn hand_out(self: &Arc<Self>, state: &mut State) {
        while !state.queue.is_empty() {
            let Some(place) = self.try_take() else { return };
            let Some(waiter) = state.queue.pop_front() else { return };
            self.left(state);
            if let Err(mut place) = waiter.turn.send(place) {
                // Gone this very moment. Not by dropping it: that would come back here.
                place.held = false;
                self.inflight.fetch_sub(1, SeqCst);
            }
        }
    }

    /// One has left the queue.
    fn left(&self, state: &mut State) {
        self.queued.fetch_sub(1, SeqCst);
        if state.queue.is_empty() {
            state.limit.emptied(self.now());
        }
    }

    fn give_back(self: &Arc<Self>, answered: bool) {
        self.inflight.fetch_sub(1, SeqCst);
        if self.queued.load(SeqCst) == 0 {
            return;
        }
        let mut state = self.state();
        if answered && !state.queue.is_empty() {
            state.limit.answered(self.now());
            self.limit.store(state.limit.limit(), SeqCst);
        }
        self.hand_out(&mut state);
    }

    /// Somebody has been waiting for long.
    fn waiting(self: &Arc<Self>) {
        let mut state = self.state();
        state.limit.waiting(self.now());
        self.limit.store(state.limit.limit(), SeqCst);
        self.hand_out(&mut state);
    }

    fn refused(&self, sent: Sent) {
        let mut state = self.state();
        let before = state.limit.limit();
        state.limit.refused(sent, self.now());
        let (limit, epoch) = (state.limit.limit(), state.limit.epoch());
        self.limit.store(limit, SeqCst);
        self.epoch.store(epoch, SeqCst);
        drop(state);
        if limit < before {
            tracing::debug!(from = before, to = limit, "the upstream takes fewer requests at a time");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that is done under the lock leaves it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Micros {
        self.start.elapsed().as_micros() as Micros
    }
}

impl Place {
    /// The server has answered, whatever its answer.
    pub fn answered(mut self) {
        self.held = false;
        self.places.give_back(true);
    }

    /// The server had no room for the request; nothing was run.
    pub fn refused(self) {
        self.places.refused(self.sent);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.held {
            self.places.give_back(false);
        }
    }
}

impl Turn {
    /// Waits for the place.
    pub async fn come(mut self) -> Option<Place> {
        loop {
            match tokio::time::timeout(Duration::from_micros(STUCK), &mut self.place).await {
                Ok(place) => return place.ok(),
                Err(_) => self.places.waiting(),
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.places.state();
        // Not there: it was its turn. A place that was handed over and not fetched goes back with the channel.
        if let Ok(at) = state.queue.binary_search_by_key(&self.number, |waiter| waiter.number) {
            state.queue.remove(at);
            self.places.left(&mut state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn places(limit: usize, queued: usize) -> Arc<Places> {
        let limits = Limits { max_queued_requests: queued, ..Config::default().limits };
        Places::new(UpstreamConcurrency::Fixed(limit), &limits).unwrap()
    }

    fn seen(places: &Places) -> (usize, usize) {
        (places.occupancy().inflight, places.occupancy().queued)
    }

    #[tokio::test]
    async fn who_waits_is_served_in_order() {
        let places = places(1, 10);
        let first = places.take().unwrap();
        assert!(places.take().is_none());
        let second = places.wait(None, Order::Back).unwrap();
        let third = places.wait(None, Order::Back).unwrap();
        let again = places.wait(None, Order::Front).unwrap();
        assert_eq!(seen(&places), (1, 3));
        first.answered();
        let again = again.come().await.unwrap();
        assert!(places.take().is_none(), "nobody overtakes those who wait");
        drop(again);
        drop(second.come().await.unwrap());
        third.come().await.unwrap().answered();
        assert_eq!(seen(&places), (0, 0));
    }

    #[tokio::test]
    async fn who_leaves_is_out_of_the_queue() {
        let places = places(1, 10);
        let first = places.take().unwrap();
        let turns: Vec<Turn> = (0..3).map(|_| places.wait(None, Order::Back).unwrap()).collect();
        let mut turns = turns.into_iter();
        let last = turns.next_back().unwrap();
        drop(turns);
        assert_eq!(seen(&places), (1, 1));
        first.answered();
        // Its place is in the channel: dropped there, it comes back.
        assert_eq!(seen(&places), (1, 0));
        drop(last);
        assert_eq!(seen(&places), (0, 0));
    }

    #[tokio::test]
    async fn the_queue_has_a_bound() {
        let places = places(1, 2);
        let _first = places.take().unwrap();
        let _turns: Vec<Turn> = (0..2).map(|_| places.wait(None, Order::Back).unwrap()).collect();
        assert!(matches!(places.wait(None, Order::Back), Err(Fault::QueueLong { waiting: 2, limit: 2, .. })));
        assert!(places.check(None).is_err());
        assert!(places.wait(None, Order::Front).is_ok(), "what was admitted once is not turned away");
    }

    #[tokio::test(start_paused = true)]
    async fn who_would_wait_in_vain_is_turned_away_at_once() {
        let places = places(1, 100);
        let mut held = places.take().unwrap();
        let mut turns: VecDeque<Turn> = (0..20).map(|_| places.wait(None, Order::Back).unwrap()).collect();
        for _ in 0..10 {
            tokio::time::advance(Duration::from_millis(100)).await;
            held.answered();
            held = turns.pop_front().unwrap().come().await.unwrap();
        }
        let within = |millis| Some(Instant::now() + Duration::from_millis(millis));
        let fault = places.check(within(1_000)).unwrap_err();
        assert!(
            matches!(fault, Fault::TooLate { waiting: 10, wait, .. } if wait == Duration::from_millis(1_100)),
            "{fault:?}"
        );
        assert!(places.check(within(1_200)).is_ok());
        assert!(places.check(None).is_ok());
        assert!(places.wait(within(50), Order::Back).is_err());
    }

    #[test]
    fn threads_lose_and_invent_no_place() {
        let places = places(3, 1 << 20);
        let most = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let (places, most) = (Arc::clone(&places), Arc::clone(&most));
                std::thread::spawn(move || {
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                    runtime.block_on(async {
                        let mut left: Vec<Turn> = Vec::new();
                        for round in 0..5_000 {
                            let place = match places.take() {
                                Some(place) => place,
                                None if round % 7 == thread => {
                                    left.push(places.wait(None, Order::Back).unwrap());
                                    left.truncate(round % 3);
                                    continue;
                                }
                                None => {
                                    left.clear();
                                    places.wait(None, Order::Back).unwrap().come().await.unwrap()
                                }
                            };
                            most.fetch_max(places.occupancy().inflight, SeqCst);
                            if round % 5 == 0 { place.refused() } else { place.answered() }
                        }
                    });
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(seen(&places), (0, 0));
        assert!(most.load(SeqCst) <= 3);
    }
}
