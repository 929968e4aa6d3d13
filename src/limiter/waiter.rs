//! A request in the queue.
use std::time::Duration;

use tokio::sync::oneshot;

use super::queue::Flow;
use super::{Permit, ShardHandle};
use crate::fault::Fault;

/// A request in the queue. Leaves the queue when dropped.
#[derive(Debug)]
pub struct Waiter {
    shard: ShardHandle,
    flow: Flow,
    number: i64,
    outcome: oneshot::Receiver<Outcome>,
    done: bool,
}

/// What a waiter gets in the end.
#[derive(Debug)]
pub enum Outcome {
    /// It may make an upstream call.
    Grant(Permit),
    /// The queue is full, and this request was the newest of the longest backlog.
    Displaced { waiting: usize, retry: Duration },
}

impl Outcome {
    /// The permit.
    ///
    /// # Errors
    ///
    /// The request was displaced from the queue.
    pub(crate) fn into_permit(self) -> Result<Permit, Fault> {
        match self {
            Self::Grant(permit) => Ok(permit),
            Self::Displaced { waiting, retry } => Err(Fault::QueueLong { waiting, limit: waiting, retry }),
        }
    }
}

impl Waiter {
    pub(super) fn new(
        shard: ShardHandle,
        flow: Flow,
        number: i64,
        outcome: oneshot::Receiver<Outcome>,
    ) -> Self {
        Self { shard, flow, number, outcome, done: false }
    }

    /// Waits for the outcome; `None` if this thread is shutting down.
    pub async fn outcome(mut self) -> Option<Outcome> {
        let outcome = (&mut self.outcome).await.ok()?;
        self.done = true;
        Some(outcome)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        self.outcome.close();
        let limiter = &self.shard.limiter;
        let mut state = limiter.state();
        // If it is not there, its grant is on its way. A grant that nobody fetches is released with
        // the channel.
        if state.queue.remove(self.flow, self.number).is_some() {
            // Others may be allowed what this one was next for.
            limiter.grant_permits(&mut state, Some(self.shard.number));
        }
    }
}
