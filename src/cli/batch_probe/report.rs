//! What `batch-probe` prints: the table, the chart, and the verdict in words.
use std::fmt::Write as _;

use super::advice::{Advice, Pair, Times, Verdict};
use crate::cli::render;

/// The columns of the table.
const TITLES: [&str; 6] = ["rows", "time of a run", "middle half", "us a row", "rows a second", "gain"];

pub(super) fn table(curve: &[Times]) -> String {
    let one = curve.first().map_or(1.0, Times::rate);
    let row = |times: &Times| {
        [
            times.rows.to_string(),
            time(times.median),
            format!("{} - {}", time(times.low), time(times.high)),
            number(times.median / times.rows as f64),
            number(times.rate()),
            format!("{:.1}x", times.rate() / one),
        ]
    };
    render::table(TITLES, &curve.iter().map(row).collect::<Vec<_>>())
}

/// Rows a second by the rows of a run, as bars. No line is wider than `width`, unless that is
/// narrower than the numbers.
pub(super) fn chart(curve: &[Times], width: usize) -> String {
    let labels: Vec<(String, String)> =
        curve.iter().map(|times| (times.rows.to_string(), number(times.rate()))).collect();
    let widest = |of: fn(&(String, String)) -> usize| labels.iter().map(of).max().unwrap_or(0);
    let (left, right) = (widest(|label| label.0.len()), widest(|label| label.1.len()));
    let room = width.saturating_sub(left + right + 3).clamp(1, 60);
    let most = curve.iter().map(Times::rate).fold(f64::MIN_POSITIVE, f64::max);
    let mut text = "rows a second by the rows of a run\n".to_owned();
    for (times, (rows, rate)) in curve.iter().zip(&labels) {
        let bar = "#".repeat(((times.rate() / most * room as f64).round() as usize).max(1));
        writeln!(text, "{rows:>left$} |{bar} {rate}").expect("a string takes any text");
    }
    text
}

/// What two runs at once showed.
pub(super) fn at_once(pairs: &[Pair]) -> String {
    let each: Vec<String> = pairs
        .iter()
        .map(|pair| format!("{:.2} times as long as one of {}", pair.ratio(), rows(pair.rows)))
        .collect();
    let outcome = match (pairs.iter().all(Pair::is_parallel), pairs.iter().any(Pair::is_parallel)) {
        (true, _) => "TF Serving runs two at a time",
        (false, true) => "TF Serving runs two at a time only if they are small",
        (false, false) => "TF Serving runs one at a time",
    };
    format!("Two runs at once take {}: {outcome}.\n", each.join(", and "))
}

/// The verdict, and what it is based on.
pub(super) fn verdict(advice: &Advice, curve: &[Times]) -> String {
    let of = |rows: u64| curve.iter().find(|times| times.rows == rows).map_or(0.0, |times| times.median);
    let (knee, gain) = (advice.knee, format!("{:.1}", advice.gain));
    let much = format!(
        "runs of up to {} give {gain} times the rows a second of single rows.\nA run of {} takes {}, a single row {}.\n",
        rows(knee),
        rows(knee),
        time(of(knee)),
        time(of(1))
    );
    let mut text = match advice.verdict {
        Verdict::Pays => format!("Batching pays: {much}"),
        Verdict::PaysLittle => format!("Batching pays a little: {much}"),
        Verdict::RowsCostAsMuch => {
            "Batching does not pay: rows cost as much in one run as in runs of their own.\n".to_owned()
        }
        Verdict::ParallelIsAsFast => format!(
            "Batching does not pay: one run of {} is {:.1} times as fast as single rows one after the other, but two single rows at once are as fast.\n",
            rows(knee),
            advice.gain_of_one_run
        ),
        Verdict::Unclear => format!(
            "It is unclear whether batching pays: the times vary too much for a gain of about {gain} times. Try again with a longer --duration, while TF Serving has no other load.\n"
        ),
    };
    if advice.pays() && advice.rises {
        let largest = rows(knee);
        writeln!(text, "The gain still grows at {largest}: try a larger --max-rows.")
            .expect("a string takes any text");
    }
    if advice.pays() && advice.compiled {
        text += "The first run of each size took far longer than the others: the model seems to be compiled for each size.\n";
    }
    text
}

pub(super) fn rows(count: u64) -> String {
    format!("{count} row{}", if count == 1 { "" } else { "s" })
}

/// Microseconds with three digits and a unit.
fn time(micros: f64) -> String {
    match micros {
        ..1e3 => format!("{} us", number(micros)),
        ..1e6 => format!("{} ms", number(micros / 1e3)),
        _ => format!("{} s", number(micros / 1e6)),
    }
}

/// At least three digits.
fn number(value: f64) -> String {
    let digits = match value {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::super::advice::advise;
    use super::*;

    fn curve(times: &[(u64, f64)]) -> Vec<Times> {
        times.iter().map(|(rows, time)| Times::of(*rows, *time, &[time * 0.98, *time, time * 1.04])).collect()
    }

    fn bert() -> Vec<Times> {
        curve(&[(1, 7697.), (2, 7763.), (4, 7662.), (8, 7882.), (16, 7749.), (32, 8160.), (64, 9146.)])
    }

    #[test]
    fn the_curve_is_a_table_and_a_chart() {
        insta::assert_snapshot!(table(&bert()), @r"
        rows  time of a run  middle half        us a row  rows a second  gain
        1     7.70 ms        7.62 ms - 7.85 ms  7697      130            1.0x
        2     7.76 ms        7.69 ms - 7.92 ms  3882      258            2.0x
        4     7.66 ms        7.59 ms - 7.82 ms  1916      522            4.0x
        8     7.88 ms        7.80 ms - 8.04 ms  985       1015           7.8x
        16    7.75 ms        7.67 ms - 7.90 ms  484       2065           15.9x
        32    8.16 ms        8.08 ms - 8.32 ms  255       3922           30.2x
        64    9.15 ms        9.05 ms - 9.33 ms  143       6998           53.9x
        ");
        insta::assert_snapshot!(chart(&bert(), 50), @r"
        rows a second by the rows of a run
         1 |# 130
         2 |## 258
         4 |### 522
         8 |###### 1015
        16 |############ 2065
        32 |####################### 3922
        64 |######################################### 6998
        ");
    }

    #[test]
    fn the_chart_fits_the_width() {
        for width in [20, 50, 80, 200] {
            let text = chart(&bert(), width);
            let widest = text.lines().skip(1).map(str::len).max().unwrap();
            assert!(widest <= width && widest >= width.min(60), "{width}: {text}");
        }
        // Narrower than the numbers: a bar of one character is left.
        assert_eq!(chart(&bert(), 0).lines().last(), Some("64 |# 6998"));
    }

    #[test]
    fn every_verdict_is_said_in_words() {
        let pair = |rows, ratio| Pair { rows, alone: 1.0, both: ratio };
        let linear = curve(&[(1, 1000.), (2, 2000.), (4, 4000.)]);
        let halved = curve(&[(1, 1000.), (2, 1000.), (4, 2000.)]);
        let noisy = [(1, 1000.), (2, 1700.)].map(|(rows, time)| Times {
            low: time * 0.5,
            high: time * 2.0,
            ..Times::of(rows, time, &[time])
        });
        let compiled: Vec<Times> = bert().into_iter().map(|times| Times { first: 3e6, ..times }).collect();
        let all = [
            (bert(), vec![pair(1, 1.98), pair(64, 2.01)]),
            (linear, vec![pair(1, 2.0), pair(4, 2.0)]),
            (halved.clone(), vec![pair(1, 1.05), pair(2, 1.97)]),
            (halved, vec![pair(1, 1.0), pair(2, 1.0)]),
            (noisy.to_vec(), vec![]),
            (compiled, vec![]),
        ];
        let texts: Vec<String> = all
            .iter()
            .map(|(curve, pairs)| {
                let two = if pairs.is_empty() { String::new() } else { at_once(pairs) };
                two + &verdict(&advise(curve, pairs), curve)
            })
            .collect();
        insta::assert_snapshot!(texts.join("\n"), @r"
        Two runs at once take 1.98 times as long as one of 1 row, and 2.01 times as long as one of 64 rows: TF Serving runs one at a time.
        Batching pays: runs of up to 64 rows give 53.3 times the rows a second of single rows.
        A run of 64 rows takes 9.15 ms, a single row 7.70 ms.
        The gain still grows at 64 rows: try a larger --max-rows.

        Two runs at once take 2.00 times as long as one of 1 row, and 2.00 times as long as one of 4 rows: TF Serving runs one at a time.
        Batching does not pay: rows cost as much in one run as in runs of their own.

        Two runs at once take 1.05 times as long as one of 1 row, and 1.97 times as long as one of 2 rows: TF Serving runs two at a time only if they are small.
        Batching does not pay: one run of 2 rows is 2.0 times as fast as single rows one after the other, but two single rows at once are as fast.

        Two runs at once take 1.00 times as long as one of 1 row, and 1.00 times as long as one of 2 rows: TF Serving runs two at a time.
        Batching pays a little: runs of up to 2 rows give 2.0 times the rows a second of single rows.
        A run of 2 rows takes 1.00 ms, a single row 1.00 ms.

        It is unclear whether batching pays: the times vary too much for a gain of about 1.2 times. Try again with a longer --duration, while TF Serving has no other load.

        Batching pays: runs of up to 64 rows give 53.9 times the rows a second of single rows.
        A run of 64 rows takes 9.15 ms, a single row 7.70 ms.
        The gain still grows at 64 rows: try a larger --max-rows.
        The first run of each size took far longer than the others: the model seems to be compiled for each size.
        ");
    }
}
