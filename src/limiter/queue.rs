//! The queue of waiters: its order, and which waiters leave it together.
use std::collections::VecDeque;

use tokio::sync::oneshot;

use super::{Order, Outcome, Share, Sharing};

#[derive(Debug)]
pub(super) struct Queue<S: Sharing> {
    /// Sorted by number.
    waiters: VecDeque<Queued<S>>,
    last_back: i64,
    last_front: i64,
}

/// The queue's side of a waiter.
#[derive(Debug)]
pub(super) struct Queued<S: Sharing> {
    pub(super) number: i64,
    pub(super) shard: usize,
    pub(super) outcome: oneshot::Sender<Outcome<S>>,
    pub(super) share: Option<Share<S>>,
}

impl<S: Sharing> Queue<S> {
    pub(super) fn new() -> Self {
        Self { waiters: VecDeque::new(), last_back: 0, last_front: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// A number behind all the others or before them.
    pub(super) fn number(&mut self, order: Order) -> i64 {
        match order {
            Order::Back => {
                self.last_back += 1;
                self.last_back
            }
            Order::Front => {
                self.last_front -= 1;
                self.last_front
            }
        }
    }

    /// Inserts the waiter where its number belongs.
    pub(super) fn insert(&mut self, queued: Queued<S>) {
        match self.waiters.back() {
            Some(last) if last.number > queued.number => {
                let at = self.waiters.partition_point(|waiter| waiter.number < queued.number);
                self.waiters.insert(at, queued);
            }
            _ => self.waiters.push_back(queued),
        }
    }

    /// Whether the waiter was still there.
    pub(super) fn remove(&mut self, number: i64) -> bool {
        let found = self.waiters.binary_search_by_key(&number, |waiter| waiter.number);
        found.is_ok_and(|at| self.waiters.remove(at).is_some())
    }

    pub(super) fn front_shard(&self) -> Option<usize> {
        self.waiters.front().map(|waiter| waiter.shard)
    }

    /// Takes the first waiter and those that join its call.
    pub(super) fn pop(&mut self) -> Option<(Queued<S>, Vec<Queued<S>>)> {
        let first = self.waiters.pop_front()?;
        let joined = first.share.as_ref().map_or_else(Vec::new, |share| self.take_joining(share));
        Some((first, joined))
    }

    /// The next waiters with the same key, until one does not fit: none overtakes another.
    fn take_joining(&mut self, first: &Share<S>) -> Vec<Queued<S>> {
        let joins = |waiter: &Queued<S>| waiter.share.as_ref().is_some_and(|share| share.key == first.key);
        let mut rows = first.rows;
        let mut end = 0;
        for (at, waiter) in self.waiters.iter().enumerate() {
            if rows >= first.max_rows {
                break;
            }
            let Some(share) = waiter.share.as_ref().filter(|_| joins(waiter)) else { continue };
            rows = rows.saturating_add(share.rows);
            if rows > first.max_rows {
                break;
            }
            end = at + 1;
        }
        let (joined, others): (Vec<_>, Vec<_>) = self.waiters.drain(..end).partition(joins);
        for waiter in others.into_iter().rev() {
            self.waiters.push_front(waiter);
        }
        joined
    }
}
