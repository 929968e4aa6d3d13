//! The places that TF Serving has for requests, shared by all threads: taken, waited for in order, and as many as have been learned.
//!
//! While a place is free and nobody waits, taking and giving back are an atomic step each: no lock, no clock, no memory. Who must wait
//! stands in one queue for the whole process, in the order of coming; only a request that the server has sent back goes to its front.
//! A request stays on its thread: what another thread gives back for it goes to that thread's [`Inbox`], where one wake-up, which is a
//! system call, serves for many.
//!
//! A place is given back when the answer begins, not when the client has read it: the server has done its work by then, and a client
//! that does not read holds nothing.
mod desk;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::config::{Limits, UpstreamConcurrency};
use crate::fault::Fault;
use crate::governor::{Limit, Micros, STUCK, Sent};
pub use desk::{Desk, Inbox, Order, Place, Turn};

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
    /// One for each desk.
    inboxes: Vec<mpsc::UnboundedSender<Handed>>,
    next: i64,
    front: i64,
}

#[derive(Debug)]
struct Waiter {
    number: i64,
    /// The desk of its thread.
    desk: usize,
    turn: oneshot::Sender<Place>,
}

/// A place on its way to a thread.
type Handed = (oneshot::Sender<Place>, Place);

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
            state: Mutex::new(State {
                limit,
                queue: VecDeque::new(),
                inboxes: Vec::new(),
                next: 0,
                front: -1,
            }),
        }))
    }

    pub fn occupancy(&self) -> Occupancy {
        Occupancy {
            limit: self.limit.load(SeqCst),
            inflight: self.inflight.load(SeqCst),
            queued: self.queued.load(SeqCst),
        }
    }

    /// For one more thread, which has to run [`Inbox::deliver`].
    #[expect(clippy::disallowed_methods, reason = "never holds more than there are places")]
    pub fn desk(self: &Arc<Self>) -> (Desk, Inbox) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.state();
        state.inboxes.push(sender);
        (Desk { places: Arc::clone(self), number: state.inboxes.len() - 1 }, Inbox(receiver))
    }

    /// Looks now and then, for ever, whether those who wait are waiting for something that does not come.
    pub async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(Duration::from_micros(STUCK)).await;
            if self.queued.load(SeqCst) > 0 {
                self.waiting();
            }
        }
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

    /// Takes a place for a request of that desk.
    fn try_take(self: &Arc<Self>, desk: usize) -> Option<Place> {
        let limit = self.limit.load(SeqCst);
        let taken =
            self.inflight.fetch_update(SeqCst, SeqCst, |inflight| (inflight < limit).then_some(inflight + 1));
        let sent = Sent { inflight: taken.ok()? + 1, epoch: self.epoch.load(SeqCst) };
        Some(Place { desk: Desk { places: Arc::clone(self), number: desk }, sent, held: true })
    }

    /// Gives free places to those who wait longest; `here` is the desk of the thread that does it.
    fn hand_out(self: &Arc<Self>, state: &mut State, here: Option<usize>) {
        while let Some(first) = state.queue.front() {
            let Some(place) = self.try_take(first.desk) else { return };
            let Some(Waiter { desk, turn, .. }) = state.queue.pop_front() else { return };
            self.left(state);
            let unwanted = if here == Some(desk) {
                turn.send(place).err()
            } else {
                state.inboxes[desk].send((turn, place)).err().map(|unsent| unsent.0.1)
            };
            if let Some(mut place) = unwanted {
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

    fn give_back(self: &Arc<Self>, answered: bool, desk: usize) {
        self.inflight.fetch_sub(1, SeqCst);
        if self.queued.load(SeqCst) == 0 {
            return;
        }
        let mut state = self.state();
        if answered && !state.queue.is_empty() {
            state.limit.answered(self.now());
            self.limit.store(state.limit.limit(), SeqCst);
        }
        self.hand_out(&mut state, Some(desk));
    }

    /// Somebody is waiting, perhaps for long.
    fn waiting(self: &Arc<Self>) {
        let mut state = self.state();
        state.limit.waiting(self.now());
        self.limit.store(state.limit.limit(), SeqCst);
        self.hand_out(&mut state, None);
    }

    fn refused(&self, sent: Sent) {
        let mut state = self.state();
        let before = state.limit.limit();
        let inflight = sent.inflight.max(self.inflight.load(SeqCst));
        state.limit.refused(Sent { inflight, ..sent }, self.now());
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
