//! The limiter: how many upstream calls may be in flight at a time, and a queue for the requests
//! that have to wait.
//!
//! All threads share one [`Limiter`]. Each has a [`ShardHandle`] to it. A call needs a [`Permit`];
//! a request that gets none at once becomes a [`Waiter`] in the queue. The limit is fixed or adapts
//! (`concurrency`).
//!
//! While a permit is free and nobody waits, acquiring and releasing one takes a few atomic
//! operations: no lock, no clock, no allocation. Tasks never cross a thread: what one thread grants
//! to a waiter of another goes to that thread's [`GrantReceiver`], so that one wake-up, which is a
//! system call, serves many grants.
//!
//! A permit is released when the answer begins, not when the client has read it. The server has
//! done its work by then, and a client that does not read blocks nobody.
//!
//! # Order
//!
//! The queue is fair by model, and within a model by client (`queue`); each flow is first in,
//! first out. A request that the server refused goes to the front. If the queue is full, the flow
//! with the longest backlog loses its newest waiter, so that one client or model does not keep
//! others out. A waiter's deadline is compared with the position in its own flow.
//!
//! A call that several requests share takes one permit, for which one waiter stands in the queue
//! (`runs`).
pub mod admission;
mod budget;
mod model;
mod queue;
mod ranks;
mod shard_handle;
#[cfg(test)]
mod tests;
mod waiter;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::concurrency::{AdaptiveLimit, Micros, STUCK};
use crate::config::{Limits, UpstreamConcurrency};
use crate::fault::Fault;
use queue::{FairQueue, Flow};
use shard_handle::Granted;
pub use shard_handle::{GrantReceiver, Order, Permit, ShardHandle, Source};
pub use waiter::{Outcome, Waiter};

/// Bounds of the retry hint for clients that were turned away.
const MIN_HINT: Duration = Duration::from_millis(10);
const MAX_HINT: Duration = Duration::from_secs(5);
/// Flags beside the number of waiters. Set while some models may not take the permits that others
/// need: then every call goes through the queue, to be counted.
const CAPPED: usize = 1 << (usize::BITS - 1);
/// Set while every answer is of interest.
const ATTENTIVE: usize = 1 << (usize::BITS - 2);
/// From so many refusals on, the operator gets advice.
const ADVISE_AFTER: u64 = 32;
/// What helps if TF Serving refuses calls.
const ADVICE: &str = "TF Serving refuses calls because all its threads are busy; they are sent again. Its default of 4 threads per core is too few for small models: with --grpc_max_threads=128 it answered three times as many requests a second of a small model on 2 cores";

/// The limit, the permits in use and the queue, shared by all threads.
#[derive(Debug)]
pub struct Limiter {
    /// A copy of what the state's limit allows, for the path that takes no lock.
    available: AtomicUsize,
    inflight: AtomicUsize,
    /// The number of waiters, and the flags above.
    queued: AtomicUsize,
    /// Calls that TF Serving refused because it had no free thread.
    refusals: AtomicU64,
    max_queued: AtomicUsize,
    start: Instant,
    hasher: RandomState,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limit: AdaptiveLimit,
    queue: FairQueue<Queued>,
    /// One per shard.
    grant_senders: Vec<mpsc::UnboundedSender<Delivery>>,
}

/// An outcome on its way to another thread.
type Delivery = (oneshot::Sender<Outcome>, Outcome);

/// The queue's side of a waiter.
#[derive(Debug)]
struct Queued {
    flow: Flow,
    number: i64,
    shard: usize,
    outcome: oneshot::Sender<Outcome>,
}

/// The numbers that operators see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Occupancy {
    pub limit: usize,
    /// Permits of the limit that are kept back because calls were refused.
    pub withheld: usize,
    /// Upstream calls.
    pub inflight: usize,
    /// Requests.
    pub queued: usize,
}

impl Limiter {
    /// `None` if the number of calls in flight is not limited.
    pub fn new(concurrency: UpstreamConcurrency, limits: &Limits) -> Option<Arc<Self>> {
        let limit = match concurrency {
            UpstreamConcurrency::Off => return None,
            UpstreamConcurrency::Auto => AdaptiveLimit::adaptive(limits.max_inflight_requests),
            UpstreamConcurrency::Fixed(limit) => AdaptiveLimit::fixed(limit),
        };
        Some(Arc::new(Self {
            available: AtomicUsize::new(limit.available()),
            inflight: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            refusals: AtomicU64::new(0),
            max_queued: AtomicUsize::new(limits.max_queued_requests),
            start: Instant::now(),
            hasher: RandomState::new(),
            state: Mutex::new(State { limit, queue: FairQueue::new(), grant_senders: Vec::new() }),
        }))
    }

    /// Changes the limits that a reload may change.
    pub(crate) fn set_limits(&self, limits: &Limits) {
        self.max_queued.store(limits.max_queued_requests, Relaxed);
        self.state().limit.set_max(limits.max_inflight_requests);
    }

    fn max_queued(&self) -> usize {
        self.max_queued.load(Relaxed)
    }

    pub fn occupancy(&self) -> Occupancy {
        let state = self.state();
        Occupancy {
            limit: state.limit.limit(),
            withheld: state.limit.limit() - state.limit.available(),
            inflight: self.inflight.load(SeqCst),
            queued: state.queue.len(),
        }
    }

    /// What the operator should change, if TF Serving has refused more than a few calls.
    pub(crate) fn advice(&self) -> Option<&'static str> {
        (self.refusals.load(Relaxed) >= ADVISE_AFTER).then_some(ADVICE)
    }

    /// The handle for one more thread, which has to run [`GrantReceiver::deliver`].
    #[expect(clippy::disallowed_methods, reason = "holds at most one item per queued request")]
    pub fn shard_handle(self: &Arc<Self>) -> (ShardHandle, GrantReceiver) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.state();
        state.grant_senders.push(sender);
        (
            ShardHandle { limiter: Arc::clone(self), number: state.grant_senders.len() - 1 },
            GrantReceiver(receiver),
        )
    }

    /// Raises the limit when requests wait and no call is answered, and gives withheld permits back
    /// in case nobody else does. Runs forever.
    pub async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(Duration::from_micros(STUCK)).await;
            if self.queued.load(SeqCst) > 0 {
                let mut state = self.state();
                state.limit.raise_if_stuck(self.now());
                self.grant_permits(&mut state, None);
            }
        }
    }

    fn flow(&self, source: Source<'_>) -> Flow {
        Flow { model: self.hasher.hash_one(source.model), peer: source.peer }
    }

    /// Counts one more call in flight if the limit allows it.
    fn reserve(&self) -> bool {
        let available = self.available.load(SeqCst);
        let more = |inflight| (inflight < available).then_some(inflight + 1);
        self.inflight.fetch_update(SeqCst, SeqCst, more).is_ok()
    }

    /// Publishes the limit and grants free permits. `here` is the shard of the calling thread.
    fn grant_permits(self: &Arc<Self>, state: &mut State, here: Option<usize>) {
        self.available.store(state.limit.available(), SeqCst);
        if !state.queue.is_empty() {
            let now = self.now();
            while !state.queue.is_empty() && self.reserve() {
                if !self.grant_next(state, here, now) {
                    self.inflight.fetch_sub(1, SeqCst);
                    break;
                }
            }
        }
        if state.queue.is_empty() && state.limit.is_waiting() {
            state.limit.queue_emptied(self.now());
        }
        self.publish(state);
    }

    /// Hands a permit that was reserved to the next waiter; false if none may have it.
    fn grant_next(self: &Arc<Self>, state: &mut State, here: Option<usize>, now: Micros) -> bool {
        let Some((flow, number, first)) = state.queue.pop(state.limit.available(), now) else { return false };
        state.queue.granted(flow, now);
        let shard = ShardHandle { limiter: Arc::clone(self), number: first.shard };
        let granted = Granted { flow, since: now, again: number < 0 };
        let permit = Permit { shard, granted: Some(granted), requests: 1, held: true };
        let outcome = Outcome::Grant(permit);
        if let Err(Outcome::Grant(mut permit)) = state.deliver(here, first.shard, first.outcome, outcome) {
            // The waiter has just been cancelled, or its thread has ended. Undone by hand, since
            // dropping the grant would take the lock again.
            permit.held = false;
            self.inflight.fetch_sub(1, SeqCst);
            state.queue.released(flow, None);
        }
        true
    }

    /// Puts a waiter into the queue; the caller grants permits.
    fn enqueue(&self, state: &mut State, queued: Queued) {
        if !state.limit.is_waiting() {
            state.limit.queue_filled(self.now());
        }
        state.queue.insert(queued.flow, queued.number, queued);
        // A permit that is released from now on sees this waiter.
        self.publish(state);
    }

    /// A full queue loses the newest waiter of the longest flow. False if that is the one with this
    /// number.
    fn displace(&self, state: &mut State, number: i64, here: usize) -> bool {
        if state.queue.len() <= self.max_queued() {
            return true;
        }
        let Some((flow, last)) = state.queue.last_of_longest() else { return true };
        let retry = state.retry_hint(flow, self.now());
        let Some(queued) = state.queue.remove(flow, last) else { return true };
        if last == number {
            return false;
        }
        let outcome = Outcome::Displaced { waiting: self.max_queued(), retry };
        state.deliver(Some(here), queued.shard, queued.outcome, outcome).ok();
        true
    }

    /// A call has ended, with an answer for so many requests.
    fn release(self: &Arc<Self>, answered: u32, shard: usize, granted: Option<Granted>) {
        self.inflight.fetch_sub(1, SeqCst);
        if granted.is_none() && self.queued.load(SeqCst) == 0 {
            return;
        }
        let mut state = self.state();
        let now = self.now();
        if let Some(Granted { flow, since, .. }) = granted {
            state.queue.released(flow, (answered > 0).then(|| now.saturating_sub(since)));
        }
        if answered > 0 && (!state.queue.is_empty() || state.limit.is_attentive()) {
            state.limit.answered(answered, now);
        }
        self.grant_permits(&mut state, Some(shard));
    }

    /// The server had no room for a call. Returns until when its permit is withheld, if it is.
    fn refused(self: &Arc<Self>, shard: usize, granted: Option<Granted>) -> Option<Instant> {
        self.inflight.fetch_sub(1, SeqCst);
        let mut state = self.state();
        let now = self.now();
        if let Some(Granted { flow, again, .. }) = granted {
            state.queue.released(flow, None);
            if again {
                state.queue.refused_again(flow, now);
            }
        }
        let until = state.limit.refused(now);
        self.grant_permits(&mut state, Some(shard));
        until.map(|until| self.start + Duration::from_micros(until))
    }

    /// Gives back the permits that were withheld long enough.
    fn resume(self: &Arc<Self>, shard: usize) {
        let mut state = self.state();
        state.limit.expire(self.now());
        self.grant_permits(&mut state, Some(shard));
    }

    fn publish(&self, state: &State) {
        let capped = if state.queue.has_caps() { CAPPED } else { 0 };
        let attentive = if state.limit.is_attentive() { ATTENTIVE } else { 0 };
        self.queued.store(state.queue.len() | capped | attentive, SeqCst);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing done under the lock panics halfway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Micros {
        self.start.elapsed().as_micros() as Micros
    }
}

impl State {
    /// Refuses a request that would wait past its deadline.
    fn check_deadline(&self, flow: Flow, deadline: Option<Instant>, now: Micros) -> Result<(), Fault> {
        let Some(deadline) = deadline else { return Ok(()) };
        let (waiting, wait) = self.queue.estimate(flow, now);
        match wait.map(Duration::from_micros) {
            Some(wait) if Instant::now() + wait > deadline => {
                Err(Fault::TooLate { waiting, wait, retry: wait.clamp(MIN_HINT, MAX_HINT) })
            }
            _ => Ok(()),
        }
    }

    fn retry_hint(&self, flow: Flow, now: Micros) -> Duration {
        let (_, wait) = self.queue.estimate(flow, now);
        wait.map_or(MIN_HINT, Duration::from_micros).clamp(MIN_HINT, MAX_HINT)
    }

    /// Hands an outcome to a waiter of the shard `to`; gives it back if the waiter is gone.
    fn deliver(
        &self,
        here: Option<usize>,
        to: usize,
        waiter: oneshot::Sender<Outcome>,
        outcome: Outcome,
    ) -> Result<(), Outcome> {
        if here == Some(to) {
            waiter.send(outcome)
        } else {
            self.grant_senders[to].send((waiter, outcome)).map_err(|unsent| unsent.0.1)
        }
    }
}
