//! The limiter as one thread gets them: its shard, what other threads hand to it, and its requests'
//! waiters.
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::{Grant, Limiter, Queued};
use crate::concurrency::Sent;
use crate::fault::Fault;

/// The limiter as one thread gets them.
#[derive(Debug, Clone)]
pub struct ShardHandle {
    pub(super) limiter: Arc<Limiter>,
    pub(super) number: usize,
}

/// What other threads hand to the requests of this one; there are never more of them than limiter.
#[derive(Debug)]
pub struct GrantReceiver(pub(super) mpsc::UnboundedReceiver<Grant>);

/// The right to have one request in flight; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    pub(super) shard: ShardHandle,
    pub(super) sent: Sent,
    pub(super) held: bool,
}

/// A request in the queue; leaves it when dropped.
#[derive(Debug)]
pub struct Waiter {
    pub(super) shard: ShardHandle,
    number: i64,
    permit: oneshot::Receiver<Permit>,
    served: bool,
}

/// Where a request that must wait stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Back,
    /// It had a permit already and was sent back.
    Front,
}

impl ShardHandle {
    /// Takes a permit, if one is free and nobody waits.
    pub fn take(&self) -> Option<Permit> {
        if self.limiter.queued.load(SeqCst) > 0 { None } else { self.limiter.try_acquire(self.number) }
    }

    /// Refuses a request that would wait in vain. Costs nothing while nobody waits: made for the
    /// door, before the message is read.
    pub fn check(&self, deadline: Option<Instant>) -> Result<(), Fault> {
        if self.limiter.queued.load(SeqCst) == 0 {
            return Ok(());
        }
        self.limiter.admit(&self.limiter.state(), deadline, Order::Back)
    }

    /// Stands in the queue; [`Waiter::granted`] gives the permit.
    pub fn wait(&self, deadline: Option<Instant>, order: Order) -> Result<Waiter, Fault> {
        let limiter = &self.limiter;
        let mut state = limiter.state();
        limiter.admit(&state, deadline, order)?;
        if state.queue.is_empty() {
            state.limit.waits(limiter.now());
        }
        let (sender, permit) = oneshot::channel();
        let number = match order {
            Order::Back => {
                state.next += 1;
                let number = state.next;
                state.queue.push_back(Queued { number, shard: self.number, grant: sender });
                number
            }
            Order::Front => {
                state.front -= 1;
                let number = state.front;
                state.queue.push_front(Queued { number, shard: self.number, grant: sender });
                number
            }
        };
        // Counted before the look at the free limiter: one that is given back from now on finds
        // this request.
        limiter.queued.fetch_add(1, SeqCst);
        limiter.grant_permits(&mut state, Some(self.number));
        Ok(Waiter { shard: self.clone(), number, permit, served: false })
    }
}

impl GrantReceiver {
    /// Passes on what other threads hand over, until the limiter are gone.
    pub async fn deliver(mut self) {
        while let Some((grant, permit)) = self.0.recv().await {
            // A permit whose request is gone goes to the next one when it is dropped here.
            grant.send(permit).ok();
        }
    }
}

impl Permit {
    /// The server has answered, whatever its answer.
    pub fn answered(mut self) {
        self.held = false;
        self.shard.limiter.release(true, self.shard.number);
    }

    /// The server had no room for the request; nothing was run.
    pub fn refused(self) {
        self.shard.limiter.refused(self.sent);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.held {
            self.shard.limiter.release(false, self.shard.number);
        }
    }
}

impl Waiter {
    /// Waits for the permit.
    pub async fn granted(mut self) -> Option<Permit> {
        let permit = (&mut self.permit).await.ok();
        self.served = permit.is_some();
        permit
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if self.served {
            return;
        }
        let mut state = self.shard.limiter.state();
        // Not there: it was its grant. A permit that was handed over and not fetched goes back with
        // the channel.
        if let Ok(at) = state.queue.binary_search_by_key(&self.number, |waiter| waiter.number) {
            state.queue.remove(at);
            self.shard.limiter.left(&mut state);
        }
    }
}
