//! How many retries there may be: a tenth of the requests, and a few more at the beginning.

/// What a retry costs; a request brings 1.
const COST: u32 = 10;
const MAX: u32 = 10 * COST;

/// One thread's account.
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
    /// A request came.
    pub fn earn(&mut self) {
        self.balance = (self.balance + 1).min(MAX);
    }

    /// Whether one may be repeated; if so it is paid for.
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
    fn a_tenth_of_the_requests_may_be_repeated() {
        let mut budget = Budget::default();
        assert_eq!((0..100).filter(|_| budget.spend()).count(), 10, "some at once");
        let repeated = (0..1000).filter(|_| {
            budget.earn();
            budget.spend()
        });
        assert_eq!(repeated.count(), 100);
    }
}
