//! One thread's side of the limiter: its handle, its permits, and what other threads hand to it.
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::queue::Queued;
use super::{Delivery, Limiter, Share, Sharing, Unshared, Waiter};
use crate::concurrency::Sent;
use crate::fault::Fault;

/// One thread's handle to the limiter.
#[derive(Debug)]
pub struct ShardHandle<S: Sharing = Unshared> {
    pub(super) limiter: Arc<Limiter<S>>,
    pub(super) number: usize,
}

/// Receives what other threads hand to the waiters of this one.
#[derive(Debug)]
pub struct GrantReceiver<S: Sharing = Unshared>(pub(super) mpsc::UnboundedReceiver<Delivery<S>>);

/// The right to have one upstream call in flight. Released without an answer when dropped.
#[derive(Debug)]
pub struct Permit<S: Sharing = Unshared> {
    pub(super) shard: ShardHandle<S>,
    pub(super) sent: Sent,
    /// How many requests share the call.
    pub(super) requests: u32,
    pub(super) held: bool,
}

/// Where a waiter enters the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Back,
    /// For a request that had a permit and is sent again.
    Front,
}

// Not derived: that would ask for `S: Clone`.
impl<S: Sharing> Clone for ShardHandle<S> {
    fn clone(&self) -> Self {
        Self { limiter: Arc::clone(&self.limiter), number: self.number }
    }
}

impl<S: Sharing> ShardHandle<S> {
    /// Takes a permit if one is free and nobody waits.
    pub fn take(&self) -> Option<Permit<S>> {
        if self.limiter.queued.load(SeqCst) > 0 { None } else { self.limiter.try_acquire(self.number) }
    }

    /// Refuses a request early, before its message is read. Costs one atomic load while nobody
    /// waits.
    ///
    /// # Errors
    ///
    /// If the queue is full, or the request would wait past its deadline.
    pub fn check(&self, deadline: Option<Instant>) -> Result<(), Fault> {
        if self.limiter.queued.load(SeqCst) == 0 {
            return Ok(());
        }
        self.limiter.admit(&self.limiter.state(), deadline, Order::Back)
    }

    /// Enters the queue; [`Waiter::outcome`] is the permit, or an answer if the request offered to
    /// share a call.
    ///
    /// # Errors
    ///
    /// If the queue is full, or the request would wait past its deadline.
    pub fn wait(
        &self,
        deadline: Option<Instant>,
        order: Order,
        share: Option<Share<S>>,
    ) -> Result<Waiter<S>, Fault> {
        let limiter = &self.limiter;
        let mut state = limiter.state();
        limiter.admit(&state, deadline, order)?;
        let (sender, outcome) = oneshot::channel();
        let number = state.queue.number(order);
        limiter.enqueue(&mut state, Queued { number, shard: self.number, outcome: sender, share });
        limiter.grant_permits(&mut state, Some(self.number));
        Ok(Waiter::new(self.clone(), number, outcome))
    }
}

impl<S: Sharing> GrantReceiver<S> {
    /// Passes on what other threads hand over, until the limiter is gone.
    pub async fn deliver(mut self) {
        while let Some((waiter, outcome)) = self.0.recv().await {
            // If the waiter is gone, the outcome is dropped here and its permit goes to the next.
            waiter.send(outcome).ok();
        }
    }
}

impl<S: Sharing> Permit<S> {
    /// The server has answered, with success or failure.
    pub fn answered(mut self) {
        self.held = false;
        self.shard.limiter.release(self.requests, self.shard.number);
    }

    /// The server had no room for the call and ran nothing. Lowers an adaptive limit.
    pub fn refused(self) {
        self.shard.limiter.refused(self.sent);
    }
}

impl<S: Sharing> Drop for Permit<S> {
    fn drop(&mut self) {
        if self.held {
            self.shard.limiter.release(0, self.shard.number);
        }
    }
}
