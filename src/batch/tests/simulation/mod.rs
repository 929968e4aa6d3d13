//! The whole of queue and tuner in virtual time, in front of servers with every kind of curve.
//!
//! `BATCHING_SWEEP=1` looks at every curve and load, searches the best fixed settings again, and
//! with `WRITE_TABLE=path` writes what was found as a Markdown table.
mod bars;
mod linger;
mod server;
mod sweep;
mod world;

use super::super::settings::Settings;
use super::super::tuner::{Learned, Wait};
use crate::concurrency::Micros;
use server::Curve;
use world::{Load, Seen, World};

/// The time to learn: that of so many runs of eight rows, or of so many answers, and no less than
/// this.
const WARM_ROUNDS: f64 = 1_000.0;
const WARM_ANSWERS: f64 = 40_000.0;
const MIN_WARM: f64 = 200_000.0;

/// Runs in flight, rows of a run, and what requests wait for.
type Fixed = (usize, u64, Wait);

/// A curve, and the best that fixed settings reach before it, for 64 and for 256
/// clients of one row.
struct Model {
    curve: Curve,
    best: [Fixed; 2],
}

const fn model(curve: Curve, few: Fixed, many: Fixed) -> Model {
    Model { curve, best: [few, many] }
}

const MODELS: &[Model] = &[
    model(Curve::new("CPU dense", 2, |rows| 45.0 + rows), (3, 16, Wait::Hold), (3, 48, Wait::No)),
    model(Curve::new("CPU mlp", 2, |rows| 1000.0 + 100.0 * rows), (2, 24, Wait::No), (3, 64, Wait::No)),
    model(Curve::new("CPU cnn", 2, |rows| 5500.0 + 3800.0 * rows), (2, 48, Wait::Hold), (3, 64, Wait::No)),
    model(Curve::new("GPU dense", 1, |_| 136.0), (1, 64, Wait::No), (2, 64, Wait::No)),
    model(Curve::new("GPU mlp", 1, |rows| f64::max(217.0, 1.7 * rows)), (1, 64, Wait::No), (3, 64, Wait::No)),
    model(Curve::new("GPU recommender", 1, |_| 1170.0), (1, 64, Wait::Linger), (3, 64, Wait::No)),
    model(
        Curve::new("GPU mobilenet", 1, |rows| f64::max(3900.0, 74.0 * rows)),
        (1, 64, Wait::Linger),
        (3, 64, Wait::No),
    ),
    model(
        Curve::new("GPU resnet-50", 1, |rows| f64::max(3600.0, 175.0 * rows)),
        (2, 21, Wait::No),
        (2, 32, Wait::No),
    ),
    model(
        Curve::new("GPU bert-base", 1, |rows| f64::max(7600.0, 127.0 * rows)),
        (1, 64, Wait::Linger),
        (1, 64, Wait::No),
    ),
    model(Curve::new("linear", 2, |rows| 1000.0 * rows), (4, 64, Wait::No), (3, 64, Wait::No)),
    model(
        Curve::new("dearer by the row", 2, |rows| 5000.0 + 3800.0 * rows + 25.0 * rows * rows),
        (3, 16, Wait::No),
        (16, 13, Wait::No),
    ),
    model(Curve::new("flat, 8 workers", 8, |_| 1000.0), (8, 21, Wait::Hold), (8, 64, Wait::Hold)),
    model(
        Curve { slows: 0.6, ..Curve::new("2 that slow each other", 2, |rows| 1000.0 + 100.0 * rows) },
        (2, 24, Wait::No),
        (3, 64, Wait::No),
    ),
];

fn find(name: &str) -> &'static Curve {
    &MODELS.iter().find(|model| model.curve.name == name).expect("a curve").curve
}

fn base() -> Settings {
    super::settings(64)
}

/// The time to learn before a curve.
fn warm(curve: &Curve) -> Micros {
    let answers = WARM_ANSWERS * 1e6 / capacity(curve);
    ((curve.cost)(8.0) * WARM_ROUNDS).max(answers).max(MIN_WARM) as Micros
}

/// Rows a second that the server can compute.
fn capacity(curve: &Curve) -> f64 {
    let rate = |rows: i32| f64::from(rows) / (curve.cost)(f64::from(rows));
    (1..=64).map(rate).fold(0.0, f64::max) * curve.workers as f64 * 1e6
}

/// Runs a load before one model and returns what was seen after the warm-up, for about so many
/// answers.
fn simulate(
    curve: &Curve,
    load: Load,
    learned: &Learned,
    settings: &Settings,
    warm: Micros,
    answers: usize,
) -> (Seen, World) {
    let mut world = World::new(curve, 1);
    let model = world.model(curve, settings, learned);
    world.add(model, load, 1);
    world.run(warm);
    let span = answers as f64 / world.seen[0].rate().max(1e-9) * 1e6;
    world.reset();
    world.run(span as Micros);
    (world.seen[0].clone(), world)
}

/// What fixed settings reach.
fn fixed(curve: &Curve, load: Load, (runs, rows, wait): Fixed, answers: usize) -> Seen {
    let warm = ((curve.cost)(rows as f64) * 40.0) as Micros;
    simulate(curve, load, &Learned::fixed(runs, rows, wait), &base(), warm, answers).0
}

/// What is reached without any setting, after the time to learn.
fn learned(curve: &Curve, load: Load, warm: Micros, answers: usize) -> (Seen, World) {
    simulate(curve, load, &Learned::default(), &base(), warm, answers)
}
