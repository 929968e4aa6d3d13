//! The limiter that TF Serving has for requests, shared by all threads: taken, waited for in order,
//! and as many as have been learned.
//!
//! While a permit is free and nobody waits, taking and giving back are an atomic step each: no
//! lock, no clock, no memory. Who must wait stands in one queue for the whole process, in the order
//! of coming; only a request that the server has sent back goes to its front. A request stays on
//! its thread: what another thread gives back for it goes to that thread's [`GrantReceiver`], where
//! one wake-up, which is a system call, serves for many.
//!
//! A permit is given back when the answer begins, not when the client has read it: the server has
//! done its work by then, and a client that does not read holds nothing.
pub mod admission;
mod shard_handle;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::concurrency::{AdaptiveLimit, Micros, STUCK, Sent};
use crate::config::{Limits, UpstreamConcurrency};
use crate::fault::Fault;
pub use shard_handle::{GrantReceiver, Order, Permit, ShardHandle, Waiter};

/// A hint for clients that were turned away is within these.
const MIN_HINT: Duration = Duration::from_millis(10);
const MAX_HINT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Limiter {
    /// What [`Limit`] says, for the way that takes no lock.
    limit: AtomicUsize,
    epoch: AtomicU32,
    inflight: AtomicUsize,
    queued: AtomicUsize,
    max_queued: usize,
    start: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limit: AdaptiveLimit,
    /// In the order of their numbers.
    queue: VecDeque<Queued>,
    /// One for each shard.
    grant_senders: Vec<mpsc::UnboundedSender<Grant>>,
    next: i64,
    front: i64,
}

#[derive(Debug)]
struct Queued {
    number: i64,
    /// The shard of its thread.
    shard: usize,
    grant: oneshot::Sender<Permit>,
}

/// A permit on its way to a thread.
type Grant = (oneshot::Sender<Permit>, Permit);

/// What operators see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Occupancy {
    pub limit: usize,
    pub inflight: usize,
    pub queued: usize,
}

impl Limiter {
    /// `None`: as many as granted.
    pub fn new(concurrency: UpstreamConcurrency, limits: &Limits) -> Option<Arc<Self>> {
        let limit = match concurrency {
            UpstreamConcurrency::Off => return None,
            UpstreamConcurrency::Auto => AdaptiveLimit::learned(limits.max_inflight_requests),
            UpstreamConcurrency::Fixed(limit) => AdaptiveLimit::fixed(limit),
        };
        Some(Arc::new(Self {
            limit: AtomicUsize::new(limit.limit()),
            epoch: AtomicU32::new(limit.epoch()),
            inflight: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            max_queued: limits.max_queued_requests,
            start: Instant::now(),
            state: Mutex::new(State {
                limit,
                queue: VecDeque::new(),
                grant_senders: Vec::new(),
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

    /// For one more thread, which has to run [`GrantReceiver::deliver`].
    #[expect(clippy::disallowed_methods, reason = "never holds more than there are limiter")]
    pub fn shard_handle(self: &Arc<Self>) -> (ShardHandle, GrantReceiver) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.state();
        state.grant_senders.push(sender);
        (
            ShardHandle { limiter: Arc::clone(self), number: state.grant_senders.len() - 1 },
            GrantReceiver(receiver),
        )
    }

    /// Looks now and then, for ever, whether those who wait are waiting for something that does not
    /// granted.
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
        let hint = wait.unwrap_or(MIN_HINT).clamp(MIN_HINT, MAX_HINT);
        if order == Order::Back && ahead >= self.max_queued {
            return Err(Fault::QueueLong { waiting: ahead, limit: self.max_queued, retry: hint });
        }
        match (deadline, wait) {
            (Some(deadline), Some(wait)) if Instant::now() + wait > deadline => {
                Err(Fault::TooLate { waiting: ahead, wait, retry: hint })
            }
            _ => Ok(()),
        }
    }

    /// Takes a permit for a request of that shard.
    fn try_acquire(self: &Arc<Self>, shard: usize) -> Option<Permit> {
        let limit = self.limit.load(SeqCst);
        let taken =
            self.inflight.fetch_update(SeqCst, SeqCst, |inflight| (inflight < limit).then_some(inflight + 1));
        let sent = Sent { inflight: taken.ok()? + 1, epoch: self.epoch.load(SeqCst) };
        Some(Permit { shard: ShardHandle { limiter: Arc::clone(self), number: shard }, sent, held: true })
    }

    /// Gives free limiter to those who wait longest; `here` is the shard of the thread that does
    /// it.
    fn grant_permits(self: &Arc<Self>, state: &mut State, here: Option<usize>) {
        while let Some(first) = state.queue.front() {
            let Some(permit) = self.try_acquire(first.shard) else { return };
            let Some(Queued { shard, grant, .. }) = state.queue.pop_front() else { return };
            self.left(state);
            let unwanted = if here == Some(shard) {
                grant.send(permit).err()
            } else {
                state.grant_senders[shard].send((grant, permit)).err().map(|unsent| unsent.0.1)
            };
            if let Some(mut permit) = unwanted {
                // Gone this very moment. Not by dropping it: that would granted back here.
                permit.held = false;
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

    fn release(self: &Arc<Self>, answered: bool, shard: usize) {
        self.inflight.fetch_sub(1, SeqCst);
        if self.queued.load(SeqCst) == 0 {
            return;
        }
        let mut state = self.state();
        if answered && !state.queue.is_empty() {
            state.limit.answered(self.now());
            self.limit.store(state.limit.limit(), SeqCst);
        }
        self.grant_permits(&mut state, Some(shard));
    }

    /// Somebody is waiting, perhaps for long.
    fn waiting(self: &Arc<Self>) {
        let mut state = self.state();
        state.limit.waiting(self.now());
        self.limit.store(state.limit.limit(), SeqCst);
        self.grant_permits(&mut state, None);
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
