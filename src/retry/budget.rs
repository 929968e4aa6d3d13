//! The retry budget: at most a tenth of the requests, and a few more at first.

/// What a retry costs; a request earns 1.
const COST: u32 = 10;
const MAX: u32 = 10 * COST;

/// The budget of one thread.
#[derive(Debug)]
pub(crate) struct Budget {
    balance: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self { balance: MAX }
    }
}

impl Budget {
    /// To be called for each request.
    pub(crate) fn earn(&mut self) {
        self.balance = (self.balance + 1).min(MAX);
    }

    /// Pays for a retry; false if the budget does not allow one.
    pub(crate) fn spend(&mut self) -> bool {
        let left = self.balance.checked_sub(COST);
        self.balance = left.unwrap_or(self.balance);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_the_requests_may_be_retried() {
        let mut budget = Budget::default();
        assert_eq!((0..100).filter(|_| budget.spend()).count(), 10, "a few at first");
        let retried = (0..1000).filter(|_| {
            budget.earn();
            budget.spend()
        });
        assert_eq!(retried.count(), 100);
    }
}
