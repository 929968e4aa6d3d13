//! The limiter: how many upstream calls may be in flight at a time, and a queue for the requests
//! that have to wait.
//!
//! All threads share one [`Limiter`]. Each has a [`ShardHandle`] to it. A call needs a [`Permit`];
//! a request that gets none at once becomes a [`Waiter`] in the queue. The limit is fixed or adapts
//! ([`crate::concurrency`]).
//!
//! While a permit is free and nobody waits, acquiring and releasing one takes a few atomic
//! operations: no lock, no clock, no allocation. The queue is first in, first out for the whole
//! process; only a request that the server refused goes back to the front. Tasks never cross a
//! thread: what one thread grants to a waiter of another goes to that thread's [`GrantReceiver`],
//! so that one wake-up, which is a system call, serves many grants.
//!
//! A permit is released when the answer begins, not when the client has read it. The server has
//! done its work by then, and a client that does not read blocks nobody.
//!
//! # Shared calls
//!
//! A waiter may offer to *share* an upstream call ([`Share`]): it brings a key, a number of rows
//! and its message. When the waiter at the front is granted a permit, the waiters behind it with
//! the same key *join* its call, in order of arrival, as long as the rows stay within the maximum.
//! They leave the queue with it, even from behind waiters with other keys. The first one leads: its
//! thread sends all the messages in one call and hands each of the others its answer. Messages and
//! answers cross threads, tasks do not.
//!
//! This starves nobody. Joining takes no permit: the waiter at the front decides alone when the
//! next call is made, and every waiter has as many calls before it as without sharing, or fewer.
pub mod admission;
mod budget;
mod queue;
mod shard_handle;
mod sharing;
#[cfg(test)]
mod tests;
mod waiter;

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::concurrency::{AdaptiveLimit, Micros, STUCK, Sent};
use crate::config::{Limits, UpstreamConcurrency};
use crate::fault::Fault;
use queue::{Queue, Queued};
pub use shard_handle::{GrantReceiver, Order, Permit, ShardHandle};
pub use sharing::{Grant, Joined, Share, Sharing, Unshared};
pub use waiter::{Outcome, Waiter};

/// Bounds of the retry hint for clients that were turned away.
const MIN_HINT: Duration = Duration::from_millis(10);
const MAX_HINT: Duration = Duration::from_secs(5);

/// The limit, the permits in use and the queue, shared by all threads.
#[derive(Debug)]
pub struct Limiter<S: Sharing = Unshared> {
    /// Copies of what the state's limit says, for the path that takes no lock.
    limit: AtomicUsize,
    epoch: AtomicU32,
    inflight: AtomicUsize,
    queued: AtomicUsize,
    max_queued: usize,
    start: Instant,
    state: Mutex<State<S>>,
}

#[derive(Debug)]
struct State<S: Sharing> {
    limit: AdaptiveLimit,
    queue: Queue<S>,
    /// One per shard.
    grant_senders: Vec<mpsc::UnboundedSender<Delivery<S>>>,
}

/// An outcome on its way to another thread.
type Delivery<S> = (oneshot::Sender<Outcome<S>>, Outcome<S>);

/// The numbers that operators see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Occupancy {
    pub limit: usize,
    /// Upstream calls.
    pub inflight: usize,
    /// Requests.
    pub queued: usize,
}

impl<S: Sharing> Limiter<S> {
    /// `None` if the number of calls in flight is not limited.
    pub fn new(concurrency: UpstreamConcurrency, limits: &Limits) -> Option<Arc<Self>> {
        let limit = match concurrency {
            UpstreamConcurrency::Off => return None,
            UpstreamConcurrency::Auto => AdaptiveLimit::adaptive(limits.max_inflight_requests),
            UpstreamConcurrency::Fixed(limit) => AdaptiveLimit::fixed(limit),
        };
        Some(Arc::new(Self {
            limit: AtomicUsize::new(limit.limit()),
            epoch: AtomicU32::new(limit.epoch()),
            inflight: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            max_queued: limits.max_queued_requests,
            start: Instant::now(),
            state: Mutex::new(State { limit, queue: Queue::new(), grant_senders: Vec::new() }),
        }))
    }

    pub fn occupancy(&self) -> Occupancy {
        Occupancy {
            limit: self.limit.load(SeqCst),
            inflight: self.inflight.load(SeqCst),
            queued: self.queued.load(SeqCst),
        }
    }

    /// The handle for one more thread, which has to run [`GrantReceiver::deliver`].
    #[expect(clippy::disallowed_methods, reason = "holds at most one item per queued request")]
    pub fn shard_handle(self: &Arc<Self>) -> (ShardHandle<S>, GrantReceiver<S>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.state();
        state.grant_senders.push(sender);
        (
            ShardHandle { limiter: Arc::clone(self), number: state.grant_senders.len() - 1 },
            GrantReceiver(receiver),
        )
    }

    /// Raises the limit when requests wait and no call is answered. Runs forever.
    pub async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(Duration::from_micros(STUCK)).await;
            if self.queued.load(SeqCst) > 0 {
                self.raise_if_stuck();
            }
        }
    }

    /// Refuses a request for which the queue is too long, or that would wait past its deadline.
    fn admit(&self, state: &State<S>, deadline: Option<Instant>, order: Order) -> Result<(), Fault> {
        let waiting = match order {
            Order::Back => state.queue.len(),
            Order::Front => 0,
        };
        let wait = state.limit.estimated_wait(waiting).map(Duration::from_micros);
        let hint = wait.unwrap_or(MIN_HINT).clamp(MIN_HINT, MAX_HINT);
        if order == Order::Back && waiting >= self.max_queued {
            return Err(Fault::QueueLong { waiting, limit: self.max_queued, retry: hint });
        }
        match (deadline, wait) {
            (Some(deadline), Some(wait)) if Instant::now() + wait > deadline => {
                Err(Fault::TooLate { waiting, wait, retry: hint })
            }
            _ => Ok(()),
        }
    }

    /// Takes a free permit for a request of that shard.
    fn try_acquire(self: &Arc<Self>, shard: usize) -> Option<Permit<S>> {
        let limit = self.limit.load(SeqCst);
        let taken =
            self.inflight.fetch_update(SeqCst, SeqCst, |inflight| (inflight < limit).then_some(inflight + 1));
        let sent = Sent { inflight: taken.ok()? + 1, epoch: self.epoch.load(SeqCst) };
        let shard = ShardHandle { limiter: Arc::clone(self), number: shard };
        Some(Permit { shard, sent, requests: 1, held: true })
    }

    /// Grants free permits to the waiters at the front. `here` is the shard of the calling thread.
    fn grant_permits(self: &Arc<Self>, state: &mut State<S>, here: Option<usize>) {
        while let Some(shard) = state.queue.front_shard() {
            let Some(mut permit) = self.try_acquire(shard) else { return };
            let Some((first, requests)) = state.queue.pop() else { return };
            self.left(state, 1 + requests.len());
            permit.requests += requests.len() as u32;
            let joined = (!requests.is_empty()).then(|| Joined { leader: permit.shard.clone(), requests });
            let outcome = Outcome::Grant(Grant { joined, permit });
            if let Err(Outcome::Grant(mut grant)) = state.deliver(here, shard, first.outcome, outcome) {
                // The waiter has just been cancelled, or its thread has ended. Undone by hand,
                // since dropping the grant would take the lock again.
                grant.permit.held = false;
                self.inflight.fetch_sub(1, SeqCst);
                for queued in grant.joined.iter_mut().flat_map(|joined| joined.requests.drain(..)) {
                    self.enqueue(state, queued);
                }
            }
        }
    }

    /// Puts a waiter into the queue.
    fn enqueue(&self, state: &mut State<S>, queued: Queued<S>) {
        if state.queue.is_empty() {
            state.limit.queue_filled(self.now());
        }
        state.queue.insert(queued);
        // A permit that is released from now on sees this waiter; the caller grants those that are
        // free already.
        self.queued.fetch_add(1, SeqCst);
    }

    /// So many waiters have left the queue.
    fn left(&self, state: &mut State<S>, waiters: usize) {
        self.queued.fetch_sub(waiters, SeqCst);
        if state.queue.is_empty() {
            state.limit.queue_emptied(self.now());
        }
    }

    /// A call has ended, with an answer for so many requests.
    fn release(self: &Arc<Self>, answered: u32, shard: usize) {
        self.inflight.fetch_sub(1, SeqCst);
        if self.queued.load(SeqCst) == 0 {
            return;
        }
        let mut state = self.state();
        if answered > 0 && !state.queue.is_empty() {
            state.limit.answered(answered, self.now());
            self.limit.store(state.limit.limit(), SeqCst);
        }
        self.grant_permits(&mut state, Some(shard));
    }

    fn raise_if_stuck(self: &Arc<Self>) {
        let mut state = self.state();
        state.limit.raise_if_stuck(self.now());
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
            tracing::debug!(from = before, to = limit, "lowered the limit of calls in flight");
        }
    }

    fn state(&self) -> MutexGuard<'_, State<S>> {
        // Nothing done under the lock panics halfway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Micros {
        self.start.elapsed().as_micros() as Micros
    }
}

impl<S: Sharing> State<S> {
    /// Hands an outcome to a waiter of the shard `to`; gives it back if the waiter is gone.
    fn deliver(
        &self,
        here: Option<usize>,
        to: usize,
        waiter: oneshot::Sender<Outcome<S>>,
        outcome: Outcome<S>,
    ) -> Result<(), Outcome<S>> {
        if here == Some(to) {
            waiter.send(outcome)
        } else {
            self.grant_senders[to].send((waiter, outcome)).map_err(|unsent| unsent.0.1)
        }
    }
}
