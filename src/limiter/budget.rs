//! A budget that the peers of all connections share: who may take how much of it.
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::fault::Fault;

/// An amount of something that all peers together may hold.
///
/// Up to half of the budget, anyone may take anything. Beyond that, a peer that holds more than its
/// fair share (the budget divided by the peers that hold something) leaves an eighth of the budget
/// to the others, and a peer that holds a small part of its share may go an eighth beyond the
/// budget. So a lone peer may have all of it, and none can lock the others out.
#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicU64,
    /// Peers that hold something.
    holders: AtomicU64,
    max: AtomicU64,
    what: &'static str,
    setting: &'static str,
}

/// What one peer holds of a budget.
#[derive(Debug, Default)]
pub(super) struct Held(AtomicU64);

impl Budget {
    pub(super) fn new(max: u64, what: &'static str, setting: &'static str) -> Self {
        Self { used: AtomicU64::new(0), holders: AtomicU64::new(0), max: AtomicU64::new(max), what, setting }
    }

    pub(super) fn max(&self) -> u64 {
        self.max.load(Relaxed)
    }

    /// Changes the budget. What is held stays held, even if it is more.
    pub(super) fn set_max(&self, max: u64) {
        self.max.store(max, Relaxed);
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// The part of the budget that is left, from 1 to 0, of its upper half.
    pub(super) fn slack(&self) -> f64 {
        let max = self.max();
        let half = (max / 2).max(1);
        (max.saturating_sub(self.used()) as f64 / half as f64).min(1.0)
    }

    /// Takes an amount for a peer, which has to give it back in either case.
    ///
    /// # Errors
    /// The budget is used up, or the peer holds more than its share.
    pub(super) fn take(&self, held: &Held, amount: u64) -> Result<(), Fault> {
        // Counted before it is checked, so that of two requests at the same time only one can be
        // the last that fits.
        let own = held.0.fetch_add(amount, Relaxed).saturating_add(amount);
        if own == amount && amount > 0 {
            self.holders.fetch_add(1, Relaxed);
        }
        let total = self.used.fetch_add(amount, Relaxed).saturating_add(amount);
        if total <= self.max() / 2 { Ok(()) } else { self.check(own, total) }
    }

    /// Gives an amount back.
    pub(super) fn give(&self, held: &Held, amount: u64) {
        if amount > 0 && held.0.fetch_sub(amount, Relaxed) == amount {
            self.holders.fetch_sub(1, Relaxed);
        }
        self.used.fetch_sub(amount, Relaxed);
    }

    /// Whether a peer holds no more than its fair share.
    pub(super) fn is_fair(&self, held: &Held) -> bool {
        held.0.load(Relaxed) <= self.fair()
    }

    fn fair(&self) -> u64 {
        (self.max() / self.holders.load(Relaxed).max(1)).max(1)
    }

    #[cold]
    fn check(&self, own: u64, total: u64) -> Result<(), Fault> {
        let (fair, max) = (self.fair(), self.max());
        let reserve = max / 8;
        let limit = match own {
            own if own == total => max,
            own if own <= (fair / 32).max(1) => max.saturating_add(reserve),
            own if own <= fair => max,
            _ => max - reserve,
        };
        let Self { what, setting, .. } = *self;
        match total {
            total if total <= limit => Ok(()),
            _ if own > fair && own < total => Err(Fault::ShareFull { what, setting, limit: max, held: own }),
            _ => Err(Fault::QueueFull { what, setting, limit: max }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(max: u64) -> Budget {
        Budget::new(max, "requests", "limits.max_inflight_requests")
    }

    /// Takes single ones until the budget refuses; the number that it granted.
    fn fill(budget: &Budget, held: &Held) -> u64 {
        for granted in 0.. {
            if budget.take(held, 1).is_err() {
                budget.give(held, 1);
                return granted;
            }
        }
        unreachable!("every budget has an end")
    }

    #[test]
    fn a_lone_peer_may_have_the_whole_budget() {
        for max in [1, 2, 7, 100, 1024] {
            assert_eq!(fill(&budget(max), &Held::default()), max);
        }
    }

    #[test]
    fn a_greedy_peer_does_not_lock_others_out() {
        let budget = budget(1024);
        let (greedy, other) = (Held::default(), Held::default());
        assert_eq!(fill(&budget, &greedy), 1024);
        assert_eq!(fill(&budget, &other), 512 / 32, "beyond the budget");
        // What the greedy peer gives back goes to the other, not to itself.
        budget.give(&greedy, 128);
        assert!(matches!(budget.take(&greedy, 1), Err(Fault::ShareFull { held: 897, .. })));
        budget.give(&greedy, 1);
        assert_eq!(fill(&budget, &other), 1024 - 896 - 16);
        budget.give(&greedy, 512);
        assert_eq!(fill(&budget, &other), 512 - 128, "its fair share");
    }

    #[test]
    fn a_busy_peer_beside_a_quiet_one_keeps_most_of_the_budget() {
        let budget = budget(1024);
        let (busy, quiet) = (Held::default(), Held::default());
        budget.take(&quiet, 1).unwrap();
        assert_eq!(fill(&budget, &busy), 1024 - 128 - 1);
    }

    #[test]
    fn many_greedy_peers_leave_room_for_one_more() {
        let budget = budget(1024);
        let greedy: Vec<Held> = (0..40).map(|_| Held::default()).collect();
        for held in &greedy {
            fill(&budget, held);
        }
        assert!(fill(&budget, &Held::default()) >= 1);
    }

    #[test]
    fn nothing_is_left_when_all_is_given_back() {
        let (budget, held) = (budget(10), Held::default());
        budget.take(&held, 6).unwrap();
        budget.take(&held, 0).unwrap();
        assert!(budget.take(&held, 6).is_err());
        budget.give(&held, 12);
        assert_eq!((budget.used(), budget.holders.load(Relaxed), held.0.load(Relaxed)), (0, 0, 0));
        assert!((budget.slack() - 1.0).abs() < f64::EPSILON);
    }
}
