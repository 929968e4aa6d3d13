//! The waiters for one model, by peer, and what is known of the model's calls.
use std::collections::{BTreeMap, VecDeque};

use super::ranks::{Ranks, Tag};
use crate::concurrency::Micros;

/// The weight of the past in the learned time of a call, against 1 for the newest.
const PAST: u64 = 7;
/// Demand is the peak of this span and the one before.
pub(super) const EPOCH: Micros = 1_000_000;
/// Idle peers are looked through when there are so many.
const MIN_PEERS: usize = 64;
/// Grants before the pace is known, and until older ones count half.
const MIN_GRANTS: u32 = 8;
const HALF_AFTER: u32 = 64;
/// After so long without a grant, or so many times the usual, earlier grants predict nothing.
const STALE: Micros = 1_000_000;
const STALE_INTERVALS: Micros = 8;
/// For so long, and for so many times its calls take, a model holds no more permits than left a
/// thread to faster models. Trying more may keep them waiting for one call: one part in a hundred.
const LEAVES_FOR: Micros = 30_000_000;
const LEAVES_CALLS: Micros = 100;

#[derive(Debug)]
pub(super) struct Model<T> {
    peers: BTreeMap<u64, Peer<T>>,
    ranks: Ranks,
    /// When idle peers are looked through next, in peers.
    purge_at: usize,
    pub(super) tag: Tag,
    pub(super) waiting: usize,
    /// Permits that its calls hold, as far as they were granted by the queue.
    pub(super) held: usize,
    /// How long a call holds its permit; 0 if that is not known.
    pub(super) cost: Micros,
    /// The permits that left a thread to faster models, and when that was found.
    most: Option<(usize, Micros)>,
    /// The highest `held + waiting` in this epoch and the one before.
    peaks: [usize; 2],
    epoch: Micros,
    /// The time between grants while requests wait: their sum and number.
    intervals: (Micros, u32),
    /// The last grant, and whether requests have waited ever since.
    last_grant: Micros,
    waited: bool,
}

#[derive(Debug)]
struct Peer<T> {
    tag: Tag,
    /// Sorted by number.
    waiters: VecDeque<(i64, T)>,
}

impl<T> Default for Model<T> {
    fn default() -> Self {
        Self {
            peers: BTreeMap::new(),
            ranks: Ranks::default(),
            purge_at: MIN_PEERS,
            tag: 0,
            waiting: 0,
            held: 0,
            cost: 0,
            most: None,
            peaks: [0; 2],
            epoch: 0,
            intervals: (0, 0),
            last_grant: 0,
            waited: false,
        }
    }
}

impl<T> Model<T> {
    pub(super) fn insert(&mut self, peer: u64, number: i64, waiter: T) {
        self.purge();
        let flow = self.peers.entry(peer).or_insert_with(|| Peer { tag: 0, waiters: VecDeque::new() });
        if flow.waiters.is_empty() {
            flow.tag = self.ranks.add(peer, flow.tag);
        }
        let length = flow.waiters.len();
        let at = match flow.waiters.back() {
            Some((last, _)) if *last > number => flow.waiters.partition_point(|(other, _)| *other < number),
            _ => length,
        };
        flow.waiters.insert(at, (number, waiter));
        self.ranks.resize(peer, flow.tag, length, length + 1);
        self.waiting += 1;
    }

    pub(super) fn remove(&mut self, peer: u64, number: i64) -> Option<T> {
        let flow = self.peers.get_mut(&peer)?;
        let at = flow.waiters.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        let (_, waiter) = flow.waiters.remove(at)?;
        let length = flow.waiters.len();
        self.ranks.resize(peer, flow.tag, length + 1, length);
        self.waiting -= 1;
        Some(waiter)
    }

    /// Takes the first waiter of the peer whose turn it is. All calls of a model cost the same.
    pub(super) fn pop(&mut self) -> Option<(u64, i64, T)> {
        let peer = self.ranks.due().next()?;
        let flow = self.peers.get_mut(&peer)?;
        flow.tag = self.ranks.serve(peer, flow.tag, 1);
        let (number, waiter) = flow.waiters.pop_front()?;
        let length = flow.waiters.len();
        self.ranks.resize(peer, flow.tag, length + 1, length);
        self.waiting -= 1;
        Some((peer, number, waiter))
    }

    /// The newest waiter of the peer that has the most.
    pub(super) fn last_of_longest(&self) -> Option<(u64, i64)> {
        let peer = self.ranks.longest()?;
        let (number, _) = self.peers.get(&peer)?.waiters.back()?;
        Some((peer, *number))
    }

    /// Whether a new waiter of that peer would be the last of the longest backlog.
    pub(super) fn is_longest(&self, peer: u64) -> bool {
        let length = |peer| self.peers.get(&peer).map_or(0, |flow: &Peer<T>| flow.waiters.len());
        self.ranks.longest().is_none_or(|longest| length(peer) >= length(longest))
    }

    /// How many waiters would be granted a permit before a new one of that peer.
    pub(super) fn ahead(&self, peer: u64) -> usize {
        let own = self.peers.get(&peer).map_or(0, |flow| flow.waiters.len());
        let peers = self.ranks.len() + usize::from(own == 0);
        ((own + 1) * peers - 1).min(self.waiting)
    }

    /// The usual time between grants while requests wait.
    pub(super) fn interval(&self, now: Micros) -> Option<Micros> {
        let (sum, count) = self.intervals;
        let interval = sum.checked_div(Micros::from(count)).filter(|_| count >= MIN_GRANTS)?;
        let age = now.saturating_sub(self.last_grant);
        (age <= STALE.max(STALE_INTERVALS * interval)).then_some(interval)
    }

    /// A permit was granted.
    pub(super) fn granted(&mut self, now: Micros) {
        self.held += 1;
        if !self.waited && now.saturating_sub(self.last_grant) > STALE {
            self.intervals = (0, 0);
        }
        if self.waited {
            self.intervals.0 += now.saturating_sub(self.last_grant);
            self.intervals.1 += 1;
            while self.intervals.1 >= HALF_AFTER {
                self.intervals = (self.intervals.0 / 2, self.intervals.1 / 2);
            }
        }
        self.last_grant = now;
        self.waited = self.waiting > 0;
    }

    /// A permit was released. `answered`: after what time, if the call ran.
    pub(super) fn released(&mut self, answered: Option<Micros>) {
        self.held = self.held.saturating_sub(1);
        if let Some(time) = answered.map(|time| time.max(1)) {
            self.cost = if self.cost == 0 { time } else { (self.cost * PAST + time).div_ceil(PAST + 1) };
        }
    }

    /// What the model holds is one permit too many for a faster one.
    pub(super) fn leave_one(&mut self, now: Micros) {
        let held = self.held.saturating_sub(1).max(1);
        self.most = Some((self.most(now).map_or(held, |most| most.min(held)), now));
    }

    /// The most permits that it may hold beside faster models, as far as that was found lately.
    pub(super) fn most(&self, now: Micros) -> Option<usize> {
        let time = LEAVES_FOR.max(self.cost.saturating_mul(LEAVES_CALLS));
        self.most.filter(|(_, at)| now.saturating_sub(*at) < time).map(|(most, _)| most)
    }

    /// The most permits that the model could have used lately.
    pub(super) fn demand(&self) -> usize {
        self.peaks[0].max(self.peaks[1])
    }

    /// Brings the demand up to date; true if it has changed. More than `limit` is never needed.
    pub(super) fn update_demand(&mut self, limit: usize, now: Micros) -> bool {
        let before = self.demand();
        let epoch = now / EPOCH;
        if epoch != self.epoch {
            let passed = if epoch == self.epoch + 1 { self.peaks[0] } else { 0 };
            self.peaks = [0, passed];
            self.epoch = epoch;
        }
        self.peaks[0] = self.peaks[0].max((self.held + self.waiting).min(limit));
        self.demand() != before
    }

    /// Forgets peers that are idle. They are ahead of the others by one call at most.
    fn purge(&mut self) {
        if self.peers.len() >= self.purge_at {
            self.peers.retain(|_, flow| !flow.waiters.is_empty());
            self.purge_at = (2 * self.peers.len()).max(MIN_PEERS);
        }
    }

    #[cfg(test)]
    pub(super) fn peers(&self) -> usize {
        self.peers.len()
    }
}
