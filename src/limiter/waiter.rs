//! A request in the queue.
use std::time::Duration;

use tokio::sync::oneshot;

use super::queue::Flow;
use super::{Grant, Permit, ShardHandle, Sharing, Unshared};
use crate::fault::Fault;

/// A request in the queue. Leaves the queue when dropped.
#[derive(Debug)]
pub struct Waiter<S: Sharing = Unshared> {
    shard: ShardHandle<S>,
    flow: Flow,
    number: i64,
    outcome: oneshot::Receiver<Outcome<S>>,
    done: bool,
}

/// What a waiter gets in the end.
#[derive(Debug)]
pub enum Outcome<S: Sharing = Unshared> {
    /// It may make an upstream call.
    Grant(Grant<S>),
    /// It joined the call of another request, which was answered.
    Answer(S::Answer),
    /// The queue is full, and this request was the newest of the longest backlog.
    Displaced { waiting: usize, retry: Duration },
}

impl Outcome {
    /// The permit of a request that does not share calls.
    ///
    /// # Errors
    ///
    /// The request was displaced from the queue.
    pub(crate) fn into_permit(self) -> Result<Permit, Fault> {
        match self {
            Self::Grant(Grant { permit, .. }) => Ok(permit),
            Self::Displaced { waiting, retry } => Err(Fault::QueueLong { waiting, limit: waiting, retry }),
        }
    }
}

impl<S: Sharing> Waiter<S> {
    pub(super) fn new(
        shard: ShardHandle<S>,
        flow: Flow,
        number: i64,
        outcome: oneshot::Receiver<Outcome<S>>,
    ) -> Self {
        Self { shard, flow, number, outcome, done: false }
    }

    /// Waits for the outcome; `None` if this thread is shutting down.
    pub async fn outcome(mut self) -> Option<Outcome<S>> {
        let mut outcome = (&mut self.outcome).await.ok()?;
        self.done = true;
        if let Outcome::Grant(Grant { joined: Some(joined), .. }) = &mut outcome {
            // Some may have been cancelled while the grant was on its way.
            joined.drop_cancelled();
        }
        Some(outcome)
    }
}

impl<S: Sharing> Drop for Waiter<S> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        // Closed before the lock is taken: the leader of a call does not put it back afterwards.
        self.outcome.close();
        let limiter = &self.shard.limiter;
        let mut state = limiter.state();
        // If it is not there, its grant is on its way, or it joined a call. A grant that nobody
        // fetches is released with the channel.
        if state.queue.remove(self.flow, self.number).is_some() {
            // Others may be allowed what this one was next for.
            limiter.grant_permits(&mut state, Some(self.shard.number));
        }
    }
}
