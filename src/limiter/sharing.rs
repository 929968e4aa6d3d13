//! What requests hand to each other when they share one upstream call.
use std::convert::Infallible;
use std::fmt::Debug;

use tokio::sync::oneshot;

use super::queue::Flow;
use super::{Outcome, Permit, ShardHandle};

/// The types of what requests that share a call hand to each other.
pub trait Sharing: Debug {
    /// Requests with equal keys can share a call.
    type Key: Debug + Eq + Send;
    type Message: Debug + Send;
    type Answer: Debug + Send;
}

/// Requests do not share calls.
#[derive(Debug)]
pub enum Unshared {}

impl Sharing for Unshared {
    type Key = Infallible;
    type Message = Infallible;
    type Answer = Infallible;
}

/// A waiter's offer to share a call, as the leader or as one that joins.
#[derive(Debug)]
pub struct Share<S: Sharing> {
    pub key: S::Key,
    pub rows: usize,
    /// How many rows the call may have if this request leads it. The request alone may have more.
    pub max_rows: usize,
    /// What the leader needs to send for this request. The request keeps what it needs to lead.
    pub message: S::Message,
}

/// The queue's side of a waiter.
#[derive(Debug)]
pub(super) struct Queued<S: Sharing> {
    pub(super) flow: Flow,
    pub(super) number: i64,
    pub(super) shard: usize,
    pub(super) outcome: oneshot::Sender<Outcome<S>>,
    pub(super) share: Option<Share<S>>,
}

/// A permit for one upstream call, and the requests that share it, if any.
#[derive(Debug)]
pub struct Grant<S: Sharing = Unshared> {
    // First, because fields are dropped in this order: these requests are back in the queue when
    // the permit goes to the next waiter.
    pub joined: Option<Joined<S>>,
    pub permit: Permit<S>,
}

/// The requests that joined another one's call. Those that are dropped without an answer go back
/// to their places in the queue; this happens when the leader is cancelled.
#[derive(Debug)]
pub struct Joined<S: Sharing = Unshared> {
    pub(super) leader: ShardHandle<S>,
    pub(super) requests: Vec<Queued<S>>,
}

impl<S: Sharing> Joined<S> {
    /// What to send for each request, in order of arrival.
    pub fn shares(&self) -> impl Iterator<Item = &Share<S>> {
        self.requests.iter().filter_map(|queued| queued.share.as_ref())
    }

    /// Hands each request its answer, in the order of [`Joined::shares`]. A request that was
    /// cancelled meanwhile needs an answer too; it is dropped.
    pub fn answer(mut self, answers: Vec<S::Answer>) {
        let answered = answers.len().min(self.requests.len());
        let state = self.leader.limiter.state();
        for (queued, answer) in self.requests.drain(..answered).zip(answers) {
            let here = Some(self.leader.number);
            state.deliver(here, queued.shard, queued.outcome, Outcome::Answer(answer)).ok();
        }
    }

    /// Forgets the requests that were cancelled.
    pub(super) fn drop_cancelled(&mut self) {
        self.requests.retain(|queued| !queued.outcome.is_closed());
    }
}

impl<S: Sharing> Drop for Joined<S> {
    fn drop(&mut self) {
        if self.requests.is_empty() {
            return;
        }
        let limiter = &self.leader.limiter;
        let mut state = limiter.state();
        // Under the lock: a waiter that is cancelled from now on finds itself in the queue.
        self.requests.retain(|queued| !queued.outcome.is_closed());
        for queued in self.requests.drain(..) {
            limiter.enqueue(&mut state, queued);
        }
        limiter.grant_permits(&mut state, Some(self.leader.number));
    }
}
