//! What a run of a model costs by its rows, and the workers that runs wait for.
use crate::Outcome;
use crate::timer::Clock;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The cost of a run, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cost {
    /// `run + row x rows`
    Sum { run: f64, row: f64 },
    /// `max(run, row x rows)`
    Max { run: f64, row: f64 },
}

impl Cost {
    fn of(self, rows: u64) -> Duration {
        let micros = match self {
            Self::Sum { run, row } => run + row * rows as f64,
            Self::Max { run, row } => run.max(row * rows as f64),
        };
        Duration::from_nanos((micros * 1000.0) as u64)
    }
}

/// When each worker is free. A run takes the first free one, so runs start in order of arrival.
#[derive(Debug)]
struct Workers(RefCell<Vec<Instant>>);

impl Workers {
    fn new(count: usize) -> Self {
        Self(RefCell::new(vec![Instant::now(); count]))
    }

    /// Takes a worker and returns when the run ends. A late timer delays an answer, but not the
    /// runs behind it.
    fn run(&self, now: Instant, cost: Duration) -> Instant {
        let mut free = self.0.borrow_mut();
        let Some(first) = free.iter_mut().min() else { return now };
        *first = now.max(*first) + cost;
        *first
    }
}

/// The models that have a curve.
#[derive(Debug, Default)]
pub struct Curves {
    models: BTreeMap<String, (Cost, Rc<Workers>)>,
    pools: BTreeMap<String, Rc<Workers>>,
}

impl Curves {
    /// From `MODEL,sum|max,RUN_US,ROW_US,WORKERS[,POOL]`. Models with the same pool share its
    /// workers.
    pub fn add(&mut self, text: &str) -> Outcome<()> {
        let wrong = || format!("--curve: expected MODEL,sum|max,RUN_US,ROW_US,WORKERS[,POOL], got `{text}`");
        let words: Vec<&str> = text.split(',').collect();
        let ([model, kind, run, row, count] | [model, kind, run, row, count, _]) = words[..] else {
            return Err(wrong().into());
        };
        let (Ok(run), Ok(row), Ok(count)) = (run.parse(), row.parse(), count.parse::<usize>()) else {
            return Err(wrong().into());
        };
        let cost = match kind {
            "sum" => Cost::Sum { run, row },
            "max" => Cost::Max { run, row },
            _ => return Err(wrong().into()),
        };
        let pool = words.get(5).copied().unwrap_or(model).to_owned();
        let workers = self.pools.entry(pool).or_insert_with(|| Rc::new(Workers::new(count))).clone();
        self.models.insert(model.to_owned(), (cost, workers));
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    /// Returns when the run has ended, or immediately for a model without a curve.
    pub async fn run(&self, clock: &Clock, model: &str, rows: u64) -> io::Result<()> {
        let Some((cost, workers)) = self.models.get(model) else { return Ok(()) };
        clock.until(workers.run(Instant::now(), cost.of(rows))).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_costs_its_sum_or_its_maximum() {
        let micros = |cost: Cost, rows| cost.of(rows).as_nanos() as f64 / 1000.0;
        assert_eq!(micros(Cost::Sum { run: 45.0, row: 1.0 }, 64), 109.0);
        assert_eq!(micros(Cost::Max { run: 217.0, row: 1.7 }, 64), 217.0);
        assert_eq!(micros(Cost::Max { run: 217.0, row: 1.7 }, 200), 340.0);
    }

    #[test]
    fn runs_beyond_the_workers_wait_in_order() {
        let workers = Workers::new(2);
        let start = Instant::now();
        let ends: Vec<_> = [40, 30, 10, 10]
            .into_iter()
            .map(|cost| (workers.run(start, Duration::from_millis(cost)) - start).as_millis())
            .collect();
        assert_eq!(ends, [40, 30, 40, 50]);
    }

    #[test]
    fn models_share_the_workers_of_a_pool() {
        let mut curves = Curves::default();
        curves.add("m,sum,45,1,2,gpu").unwrap();
        curves.add("slow,max,7600,127,1,gpu").unwrap();
        curves.add("img,max,3900,74,1").unwrap();
        assert!(Rc::ptr_eq(&curves.models["m"].1, &curves.models["slow"].1));
        assert!(!Rc::ptr_eq(&curves.models["m"].1, &curves.models["img"].1));
        for wrong in ["m", "m,sum,1,1", "m,min,1,1,1", "m,sum,x,1,1", "m,sum,1,1,1,a,b"] {
            assert!(curves.add(wrong).is_err(), "{wrong}");
        }
    }
}
