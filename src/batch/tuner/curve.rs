//! The time of a run by its rows, in classes of rows that double.
use crate::concurrency::Micros;

/// Runs with up to 1, 2, 4 ... rows; the last has all others.
const CLASSES: usize = 16;
/// The weight of the past in a mean, against 1 for the newest.
const PAST: f64 = 7.0;
/// By this part of the difference the lowest time rises with each slower run.
const RISE: f64 = 1.0 / 64.0;
/// A run may be faster than the lowest time that was seen, by this factor.
const FASTER: f64 = 0.8;

/// A class says something after so many runs.
const KNOWN: u32 = 8;
/// Rows cost as much together as apart if a lone one costs at most so many times more.
const APART: f64 = 1.06;

#[derive(Debug, Clone, Copy, Default)]
struct Class {
    rows: f64,
    time: f64,
    low: f64,
    /// The least time for each row.
    row: f64,
    runs: u32,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Curve {
    classes: [Option<Class>; CLASSES],
}

impl Curve {
    /// A run with so many rows took so long.
    pub(super) fn add(&mut self, rows: u64, time: Micros) {
        let (rows, time) = (rows.max(1), time.max(1) as f64);
        let class = &mut self.classes[class(rows)];
        let rows = rows as f64;
        let before = class.unwrap_or(Class { rows, time, low: time, row: time / rows, runs: 0 });
        let mean = |before: f64, new: f64| (before * PAST + new) / (PAST + 1.0);
        let least = |before: f64, new: f64| if new < before { new } else { before + (new - before) * RISE };
        let (low, row) = (least(before.low, time), least(before.row, time / rows));
        let (rows, time) = (mean(before.rows, rows), mean(before.time, time));
        *class = Some(Class { rows, time, low, row, runs: before.runs.saturating_add(1) });
    }

    /// How long a run with so many rows takes, if that is known.
    pub(super) fn expected(&self, rows: u64) -> Option<Micros> {
        self.at(rows, |class| class.time).map(|time| time.max(1.0) as Micros)
    }

    /// The least that it may take.
    pub(super) fn fastest(&self, rows: u64) -> Option<Micros> {
        self.at(rows, |class| class.low * FASTER).map(|time| time.max(1.0) as Micros)
    }

    /// The least time for each row of runs of the class with so many rows, if it is known.
    pub(super) fn row(&self, rows: u64) -> Option<f64> {
        self.classes[class(rows.max(1))].as_ref().map(|class| class.row)
    }

    /// Whether rows cost as much together as apart.
    pub(super) fn is_apart(&self) -> bool {
        let known = |class: &&Class| class.runs >= KNOWN;
        let costs = self.classes[1..].iter().flatten().filter(known).map(|class| class.row);
        let together = costs.fold(f64::INFINITY, f64::min);
        let alone = self.classes[0].as_ref().filter(known).map(|class| class.row);
        alone.is_some_and(|alone| together.is_finite() && alone <= together * APART)
    }

    /// The cost of a run and of each row: the line that fits the classes best.
    pub(super) fn line(&self) -> Option<(f64, f64)> {
        let known: Vec<&Class> = self.classes.iter().flatten().collect();
        let count = known.len() as f64;
        let mean_rows = known.iter().map(|class| class.rows).sum::<f64>() / count;
        let mean_time = known.iter().map(|class| class.time).sum::<f64>() / count;
        let square = |class: &&&Class| (class.rows - mean_rows).powi(2);
        let product = |class: &&Class| (class.rows - mean_rows) * (class.time - mean_time);
        let (squares, products) =
            (known.iter().map(|class| square(&class)).sum::<f64>(), known.iter().map(product).sum::<f64>());
        let slope = if squares > 0.0 { (products / squares).max(0.0) } else { 0.0 };
        (!known.is_empty()).then(|| ((mean_time - slope * mean_rows).max(0.0), slope))
    }

    /// The value at so many rows, on the line between the two classes beside it. Beyond the known
    /// classes it is that of the last one: nothing is claimed that was not seen.
    fn at(&self, rows: u64, value: impl Fn(&Class) -> f64) -> Option<f64> {
        let rows = rows.max(1) as f64;
        let (mut below, mut above): (Option<&Class>, Option<&Class>) = (None, None);
        for class in self.classes.iter().flatten() {
            if class.rows <= rows {
                below = Some(class);
            } else {
                above = above.or(Some(class));
            }
        }
        match (below, above) {
            (Some(below), Some(above)) => {
                let part = (rows - below.rows) / (above.rows - below.rows);
                Some(value(below) + (value(above) - value(below)) * part)
            }
            (below, above) => below.or(above).map(value),
        }
    }
}

fn class(rows: u64) -> usize {
    (rows.next_power_of_two().ilog2() as usize).min(CLASSES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_between_two_known_sizes_is_on_the_line_between_them() {
        let mut curve = Curve::default();
        assert_eq!(curve.expected(4), None);
        assert_eq!(curve.line(), None);
        for _ in 0..50 {
            curve.add(1, 1_000);
            curve.add(33, 4_200);
        }
        assert_eq!(curve.expected(1), Some(1_000));
        assert_eq!(curve.expected(17), Some(2_600));
        assert_eq!(curve.expected(64), Some(4_200));
        assert_eq!(curve.fastest(1), Some(800));
        let (run, row) = curve.line().unwrap();
        assert!((run - 900.0).abs() < 1.0 && (row - 100.0).abs() < 0.1, "{run} {row}");
    }

    #[test]
    fn rows_that_cost_as_much_together_as_apart_are_found() {
        for (run, apart) in [(0, true), (40, true), (100, false), (5_000, false)] {
            let mut curve = Curve::default();
            for rows in (0..7).map(|power| 1_u64 << power) {
                (0..10).for_each(|_| curve.add(rows, run + 1_000 * rows));
            }
            assert_eq!(curve.is_apart(), apart, "{run}");
        }
    }

    #[test]
    fn the_lowest_time_follows_a_server_that_became_slower() {
        let mut curve = Curve::default();
        curve.add(1, 100);
        (0..400).for_each(|_| curve.add(1, 1_000));
        assert!(curve.fastest(1).unwrap() > 700);
        curve.add(1, 100);
        assert_eq!(curve.fastest(1), Some(80));
    }
}
