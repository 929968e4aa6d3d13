//! One thread's side of the limiter: its handle, its permits, and what other threads hand to it.
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::queue::Flow;
use super::{ADVICE, ADVISE_AFTER, ATTENTIVE, Delivery, Limiter, Queued, Waiter};
use crate::concurrency::Micros;
use crate::fault::Fault;

/// One thread's handle to the limiter.
#[derive(Debug, Clone)]
pub struct ShardHandle {
    pub(super) limiter: Arc<Limiter>,
    pub(super) number: usize,
}

/// Receives what other threads hand to the waiters of this one.
#[derive(Debug)]
pub struct GrantReceiver(pub(super) mpsc::UnboundedReceiver<Delivery>);

/// The right to have one upstream call in flight. Released without an answer when dropped.
#[derive(Debug)]
pub struct Permit {
    pub(super) shard: ShardHandle,
    /// `None` if nothing waited.
    pub(super) granted: Option<Granted>,
    /// How many requests share the call.
    pub(super) requests: u32,
    pub(super) held: bool,
}

/// What a permit was granted for by the queue, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Granted {
    pub(super) flow: Flow,
    pub(super) since: Micros,
    /// The server had refused the request before.
    pub(super) again: bool,
}

/// What the queue is fair by.
#[derive(Debug, Clone, Copy, Default)]
pub struct Source<'a> {
    pub model: &'a str,
    /// The client, as a number that tells it from others.
    pub peer: u64,
}

/// Where a waiter enters the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Back,
    /// For a request that had a permit and is sent again.
    Front,
}

impl ShardHandle {
    /// Takes a permit if one is free and nobody waits.
    pub fn take(&self) -> Option<Permit> {
        let limiter = &self.limiter;
        if limiter.queued.load(SeqCst) & !ATTENTIVE > 0 || !limiter.reserve() {
            return None;
        }
        Some(Permit { shard: self.clone(), granted: None, requests: 1, held: true })
    }

    /// Whether [`ShardHandle::take`] would give a permit now.
    pub(crate) fn is_free(&self) -> bool {
        let limiter = &self.limiter;
        limiter.queued.load(SeqCst) & !ATTENTIVE == 0
            && limiter.inflight.load(SeqCst) < limiter.available.load(SeqCst)
    }

    /// Refuses a request of that client early, before its message is read, if it is certain to be
    /// refused: the model must be known, so there must be only one. Costs one atomic load while
    /// nobody waits.
    ///
    /// # Errors
    ///
    /// If the queue is full, or the request would wait past its deadline.
    pub(crate) fn check(
        &self,
        peer: u64,
        only_model: impl FnOnce() -> bool,
        deadline: Option<Instant>,
    ) -> Result<(), Fault> {
        let limiter = &self.limiter;
        if limiter.queued.load(SeqCst) & !ATTENTIVE == 0 || !only_model() {
            return Ok(());
        }
        let state = limiter.state();
        let Some(model) = state.queue.only_model() else { return Ok(()) };
        let flow = Flow { model, ..limiter.flow(Source { model: "", peer }) };
        if state.queue.len() >= limiter.max_queued() && state.queue.is_longest(flow) {
            let (waiting, limit) = (state.queue.len(), limiter.max_queued());
            return Err(Fault::QueueLong { waiting, limit, retry: state.retry_hint(flow, limiter.now()) });
        }
        state.check_deadline(flow, deadline, limiter.now())
    }

    /// Enters the queue; [`Waiter::outcome`] is the permit.
    ///
    /// # Errors
    ///
    /// If the queue is full, or the request would wait past its deadline.
    pub fn wait(&self, source: Source<'_>, deadline: Option<Instant>, order: Order) -> Result<Waiter, Fault> {
        let limiter = &self.limiter;
        let flow = limiter.flow(source);
        let mut state = limiter.state();
        if order == Order::Back {
            state.check_deadline(flow, deadline, limiter.now())?;
        }
        let (sender, outcome) = oneshot::channel();
        let number = state.queue.number(order == Order::Front);
        limiter.enqueue(&mut state, Queued { flow, number, shard: self.number, outcome: sender });
        limiter.grant_permits(&mut state, Some(self.number));
        if order == Order::Back && !limiter.displace(&mut state, number, self.number) {
            let (waiting, limit) = (state.queue.len(), limiter.max_queued());
            return Err(Fault::QueueLong { waiting, limit, retry: state.retry_hint(flow, limiter.now()) });
        }
        Ok(Waiter::new(self.clone(), flow, number, outcome))
    }

    /// A permit was withheld until now. To be called by the request whose call was refused.
    pub(crate) fn resume(&self) {
        self.limiter.resume(self.number);
    }

    /// TF Serving had no thread for a call. Logs once what helps.
    pub(crate) fn count_refusal(&self) {
        if self.limiter.refusals.fetch_add(1, Relaxed) + 1 == ADVISE_AFTER {
            tracing::warn!(refusals = ADVISE_AFTER, "{ADVICE}");
        }
    }
}

impl GrantReceiver {
    /// Passes on what other threads hand over, until the limiter is gone.
    pub async fn deliver(mut self) {
        while let Some((waiter, outcome)) = self.0.recv().await {
            // If the waiter is gone, the outcome is dropped here and its permit goes to the next.
            waiter.send(outcome).ok();
        }
    }
}

impl Permit {
    /// The server has answered, with success or failure.
    pub fn answered(mut self) {
        self.held = false;
        self.shard.limiter.release(self.requests, self.shard.number, self.granted);
    }

    /// So many requests share the call.
    #[must_use]
    pub fn shared_by(mut self, requests: u32) -> Self {
        self.requests = requests;
        self
    }

    /// The server had no room for the call and ran nothing. An adaptive limit takes it into
    /// account. Returns when `ShardHandle::resume` is to be called if the request has not been
    /// granted another permit until then.
    pub fn refused(mut self) -> Option<Instant> {
        self.held = false;
        self.shard.limiter.refused(self.shard.number, self.granted)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.held {
            self.shard.limiter.release(0, self.shard.number, self.granted);
        }
    }
}
