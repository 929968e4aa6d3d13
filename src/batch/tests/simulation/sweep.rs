//! Every curve and load beside what fixed settings reach, as a table.
use std::fmt::Write as _;
use std::time::Duration;

use super::super::super::settings::Settings;
use super::super::super::tuner::{Learned, Wait};
use super::server::Curve;
use super::world::{Load, Seen};
use super::{Fixed, MODELS, base, capacity, fixed, learned, simulate, warm};
use crate::concurrency::Micros;

const RUNS: [usize; 8] = [1, 2, 3, 4, 6, 8, 12, 16];
const ROWS: [u64; 13] = [1, 2, 4, 6, 8, 11, 13, 16, 21, 24, 32, 48, 64];

/// The best of all fixed settings for a closed loop. `tried`: of those only that the tuner tries,
/// which lingers with one run in flight at most.
fn oracle(curve: &Curve, clients: usize, tried: bool) -> (Seen, Fixed) {
    let all = RUNS.into_iter().flat_map(|runs| ROWS.into_iter().map(move |rows| (runs, rows)));
    let all =
        all.flat_map(|(runs, rows)| [Wait::No, Wait::Hold, Wait::Linger].map(|wait| (runs, rows, wait)));
    let all = all.filter(|(runs, _, wait)| !tried || *runs == 1 || *wait != Wait::Linger);
    let seen = all.map(|it| (fixed(curve, Load::Closed(clients), it, 2_000 + 30 * clients), it));
    seen.max_by(|one, other| one.0.rate().total_cmp(&other.0.rate())).expect("a setting")
}

/// The lowest 99th percentile of those that refuse nearly nothing.
fn quickest(all: impl Iterator<Item = Seen>) -> Option<Seen> {
    all.filter(|seen| seen.refused * 50 < seen.latencies.len())
        .min_by(|one, other| one.percentile(0.99).total_cmp(&other.percentile(0.99)))
}

fn without(curve: &Curve, load: Load, answers: usize) -> Option<Seen> {
    quickest([1, 2, 3, 4, 8, 16].into_iter().map(|runs| fixed(curve, load, (runs, 1, Wait::No), answers)))
}

/// The best of a grid of rows and delays, with as many runs as the server has workers.
fn grid(curve: &Curve, load: Load, answers: usize) -> Option<Seen> {
    let rows = [2, 4, 8, 16, 32, 64].into_iter();
    let all = rows.flat_map(|rows| [0.0, 0.2, 0.5, 1.0].map(|delay| (rows, delay)));
    quickest(all.map(|(rows, delay)| {
        let max_delay = Duration::from_micros(((curve.cost)(1.0) * delay) as Micros);
        let settings = Settings { max_delay, ..base() };
        let learned = Learned::fixed(curve.workers, rows, Wait::No);
        let warm = ((curve.cost)(rows as f64) * 40.0) as Micros;
        simulate(curve, load, &learned, &settings, warm, answers).0
    }))
}

fn ratio(ours: f64, other: Option<f64>) -> String {
    other.map_or_else(|| "refuses".to_owned(), |other| format!("{:.2}", ours / other))
}

fn closed(table: &mut String) {
    table.push_str(
        "| curve | clients | rows a second | rows of a run | without batching | to it | best fixed | to it |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for model in MODELS {
        for clients in [1, 8, 64, 256] {
            let curve = &model.curve;
            let load = Load::Closed(clients);
            let (ours, _) = learned(curve, load, warm(curve), 20_000);
            let alone = [1, 2, 4, 8, 16].map(|runs| fixed(curve, load, (runs, 1, Wait::No), 4_000).rate());
            let alone = alone.into_iter().fold(0.0, f64::max);
            let (best, (runs, rows, wait)) = oracle(curve, clients, false);
            let held = ["", ", held", ", lingering"][wait as usize];
            let _ = writeln!(
                table,
                "| {} | {clients} | {:.0} | {:.1} | {alone:.0} | {:.2} | {:.0} ({runs} x {rows}{held}) | {:.3} |",
                curve.name,
                ours.rate(),
                ours.mean_rows(),
                ours.rate() / alone,
                best.rate(),
                ours.rate() / best.rate()
            );
        }
    }
}

fn open(table: &mut String) {
    table.push_str(
        "\n| curve | load | p50 us | p99 us | to without batching: p50 | p99 | to the best static: p99 |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for model in MODELS {
        for part in [0.3, 0.6, 0.9] {
            let curve = &model.curve;
            let load = Load::Open(capacity(curve) * part);
            let answers = 30_000;
            let (ours, _) = learned(curve, load, 4 * warm(curve), answers);
            let (alone, best) = (without(curve, load, answers), grid(curve, load, answers));
            let at = |seen: &Option<Seen>, part| seen.as_ref().map(|seen| seen.percentile(part));
            let (p50, p99) = (ours.percentile(0.5), ours.percentile(0.99));
            let _ = writeln!(
                table,
                "| {} | {:.0} % | {p50:.0} | {p99:.0} | {} | {} | {} |",
                curve.name,
                part * 100.0,
                ratio(p50, at(&alone, 0.5)),
                ratio(p99, at(&alone, 0.99)),
                ratio(p99, at(&best, 0.99))
            );
        }
    }
}

#[test]
fn the_table_of_all_curves_and_loads() {
    if std::env::var_os("BATCHING_SWEEP").is_none() {
        // The settings that the other tests compare with are the best of their neighbours.
        let model = &MODELS[8];
        let best = fixed(&model.curve, Load::Closed(64), model.best[0], 4_000).rate();
        for other in [(1, 16, Wait::No), (2, 32, Wait::No), (1, 32, Wait::Hold), (2, 21, Wait::No)] {
            assert!(fixed(&model.curve, Load::Closed(64), other, 4_000).rate() <= 1.01 * best);
        }
        return;
    }
    let mut table = String::new();
    closed(&mut table);
    open(&mut table);
    println!("{table}");
    if let Some(path) = std::env::var_os("WRITE_TABLE") {
        std::fs::write(path, &table).expect("the table can be written");
    }
    for model in MODELS {
        for (clients, setting) in [64, 256].into_iter().zip(model.best) {
            let curve = &model.curve;
            let (best, _) = oracle(curve, clients, true);
            let known = fixed(curve, Load::Closed(clients), setting, 2_000 + 30 * clients);
            assert!(known.rate() >= 0.99 * best.rate(), "{} has a better setting now", curve.name);
        }
    }
}
