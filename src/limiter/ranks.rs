//! Which of several flows is next, and which has the longest backlog: start-time fair queueing.
//!
//! A flow has a *tag*: the virtual time at which its next request is due. The flow with the least
//! tag is next, and its tag moves on by what the request costs. A flow that was idle starts at the
//! present virtual time: it gets no credit for the time that it did not use.
use std::collections::BTreeSet;

/// Virtual time, in units of cost.
pub(super) type Tag = u64;

#[derive(Debug, Default)]
pub(super) struct Ranks {
    by_tag: BTreeSet<(Tag, u64)>,
    by_length: BTreeSet<(usize, u64)>,
    now: Tag,
}

impl Ranks {
    /// A flow with that key got its first waiter; returns its tag.
    pub(super) fn add(&mut self, key: u64, tag: Tag) -> Tag {
        let tag = tag.max(self.now);
        self.by_tag.insert((tag, key));
        self.by_length.insert((0, key));
        tag
    }

    /// The number of its waiters has changed. Without one, the flow is no longer ranked.
    pub(super) fn resize(&mut self, key: u64, tag: Tag, from: usize, to: usize) {
        self.by_length.remove(&(from, key));
        if to == 0 {
            self.by_tag.remove(&(tag, key));
        } else {
            self.by_length.insert((to, key));
        }
    }

    /// The flow is served; its next request is due at the returned tag.
    pub(super) fn serve(&mut self, key: u64, tag: Tag, cost: u64) -> Tag {
        self.now = self.now.max(tag);
        let next = tag.saturating_add(cost.max(1));
        self.by_tag.remove(&(tag, key));
        self.by_tag.insert((next, key));
        next
    }

    /// The flows in the order in which they are due.
    pub(super) fn due(&self) -> impl Iterator<Item = u64> {
        self.by_tag.iter().map(|(_, key)| *key)
    }

    pub(super) fn longest(&self) -> Option<u64> {
        self.by_length.last().map(|(_, key)| *key)
    }

    /// How many flows have waiters.
    pub(super) fn len(&self) -> usize {
        self.by_tag.len()
    }

    /// Whether an idle flow with this tag may be forgotten: it would start at the present time.
    pub(super) fn is_past(&self, tag: Tag) -> bool {
        tag <= self.now
    }
}
