//! A budget that refills with time and with useful work. The clock is read only when it is spent.
use std::time::Instant;

#[derive(Debug)]
pub(super) struct Budget {
    left: u32,
    max: u32,
    per_second: u32,
    refilled: Instant,
}

impl Budget {
    pub(super) fn new(max: u32, per_second: u32) -> Self {
        Self { left: max, max, per_second, refilled: Instant::now() }
    }

    pub(super) fn earn(&mut self, amount: u32) {
        self.left = self.left.saturating_add(amount).min(self.max);
    }

    /// Takes one; `false` if there is none.
    pub(super) fn spend(&mut self) -> bool {
        if self.left == 0 {
            self.refill(Instant::now());
        }
        let has_some = self.left > 0;
        self.left = self.left.saturating_sub(1);
        has_some
    }

    pub(super) fn is_spent(&self) -> bool {
        self.left == 0
    }

    #[cold]
    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.refilled).as_secs_f64();
        let amount = (elapsed * f64::from(self.per_second)) as u32;
        if amount > 0 {
            self.refilled = now;
            self.earn(amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_spent_budget_refills_with_time_up_to_its_size() {
        let mut budget = Budget::new(10, 1_000);
        budget.per_second = 0;
        assert_eq!((0..20).filter(|_| budget.spend()).count(), 10);
        budget.earn(3);
        assert_eq!((0..20).filter(|_| budget.spend()).count(), 3);
        budget.per_second = 1_000;
        let start = budget.refilled;
        budget.refill(start + Duration::from_millis(4));
        assert_eq!(budget.left, 4);
        budget.refill(start + Duration::from_secs(60));
        assert_eq!(budget.left, 10);
    }
}
