//! The retry budget: one retry per ten requests, plus ten at the start.

/// The price of a retry; each request earns 1.
const COST: u32 = 10;
const MAX: u32 = 10 * COST;

/// The budget of one thread.
#[derive(Debug)]
pub struct Budget {
    balance: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self { balance: MAX }
    }
}

impl Budget {
    /// Adds what one request earns.
    pub fn earn(&mut self) {
        self.balance = (self.balance + 1).min(MAX);
    }

    /// Takes the price of a retry if the budget has it. A request may be retried only if it has.
    pub fn spend(&mut self) -> bool {
        let left = self.balance.checked_sub(COST);
        self.balance = left.unwrap_or(self.balance);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_retry_per_ten_requests_is_allowed() {
        let mut budget = Budget::default();
        assert_eq!((0..100).filter(|_| budget.spend()).count(), 10, "at the start");
        let retried = (0..1000).filter(|_| {
            budget.earn();
            budget.spend()
        });
        assert_eq!(retried.count(), 100);
    }
}
