//! The whole of queue and tuner in virtual time, in front of servers with every kind of curve.
mod server;
mod world;

use super::super::settings::Settings;
use super::super::tuner::Learned;
use crate::concurrency::Micros;
use server::Curve;
use world::{Load, Seen, World};

const CURVES: &[Curve] = &[
    Curve::new("cpu dense", 2, |rows| 45.0 + rows),
    Curve::new("cpu mlp", 2, |rows| 1000.0 + 100.0 * rows),
    Curve::new("cpu cnn", 2, |rows| 5500.0 + 3800.0 * rows),
    Curve::new("gpu dense", 1, |_| 136.0),
    Curve::new("gpu mlp", 1, |rows| f64::max(217.0, 1.7 * rows)),
    Curve::new("gpu recommender", 1, |_| 1170.0),
    Curve::new("gpu mobilenet", 1, |rows| f64::max(3900.0, 74.0 * rows)),
    Curve::new("gpu resnet-50", 1, |rows| f64::max(3600.0, 175.0 * rows)),
    Curve::new("gpu bert-base", 1, |rows| f64::max(7600.0, 127.0 * rows)),
    Curve::new("linear", 2, |rows| 1000.0 * rows),
    Curve::new("dearer", 2, |rows| 5000.0 + 3800.0 * rows + 25.0 * rows * rows),
    Curve::new("flat, 8 workers", 8, |_| 1000.0),
    Curve { slows: 0.6, ..Curve::new("slowing", 2, |rows| 1000.0 + 100.0 * rows) },
];

fn base() -> Settings {
    super::settings(64)
}

/// Runs a load before one model and returns what was seen after the warm-up.
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
    world.run(warm, usize::MAX);
    let span = answers as f64 / world.seen[0].rate().max(1e-9) * 1e6;
    world.reset();
    world.run(span as Micros, usize::MAX);
    (world.seen[0].clone(), world)
}

#[test]
fn explore() {
    let only = std::env::var("CURVE").ok();
    for curve in CURVES.iter().filter(|curve| only.as_ref().is_none_or(|only| curve.name.contains(only))) {
        for clients in std::env::var("CLIENTS").map_or(vec![8, 64, 256], |text| vec![text.parse().unwrap()]) {
            let load = Load::Closed(clients);
            let mut best = (0.0, 0, 0, false, 0.0);
            for runs in [1, 2, 3, 4, 6, 8, 12, 16] {
                for (rows, hold) in [1, 2, 4, 6, 8, 11, 13, 16, 21, 24, 32, 48, 64].into_iter().flat_map(|rows| [(rows, false), (rows, true)]) {
                    let warm = ((curve.cost)(rows as f64) * 30.0) as Micros;
                    let (seen, _) = simulate(curve, load, &Learned::fixed(runs, rows, hold), &base(), warm, 2000 + 30 * clients);
                    if seen.rate() > best.0 {
                        best = (seen.rate(), runs, rows, hold, seen.mean_rows());
                    }
                }
            }
            let warm = (curve.cost)(8.0) as Micros;
            for rounds in [30, 100, 300, 1000] {
                let (seen, world) =
                    simulate(curve, load, &Learned::default(), &base(), rounds * warm, 20_000);
                println!(
                    "{:16} {clients:4} {rounds} found {:.3} of {:.0} with {:?}: mean rows {:.1} {:?}",
                    curve.name,
                    seen.rate() / best.0,
                    best.0,
                    (best.1, best.2, best.3),
                    seen.mean_rows(),
                    world.queue(0).setting()
                );
            }
        }
    }
}

#[test]
fn openloop() {
    use std::time::Duration;
    let only = std::env::var("CURVE").ok();
    for curve in CURVES.iter().filter(|curve| only.as_ref().is_none_or(|only| curve.name.contains(only))) {
        let cap = (1..=64).map(|b| b as f64 / (curve.cost)(b as f64)).fold(0.0, f64::max) * 1e6 * curve.workers as f64;
        for part in std::env::var("PART").map_or(vec![0.3, 0.6, 0.9], |t| vec![t.parse().unwrap()]) {
            let load = Load::Open(cap * part);
            let warm = ((curve.cost)(8.0) * std::env::var("ROUNDS").map_or(1000.0, |t| t.parse().unwrap())) as Micros;
            let answers = 30_000;
            let (ours, world) = simulate(curve, load, &Learned::default(), &base(), warm, answers);
            let mut plain = (f64::MAX, f64::MAX, 0);
            for runs in [1, 2, 3, 4, 8, 16] {
                let (seen, _) = simulate(curve, load, &Learned::fixed(runs, 1, false), &base(), warm.min(300_000), answers);
                if seen.refused * 50 < answers && seen.percentile(0.99) < plain.1 {
                    plain = (seen.percentile(0.5), seen.percentile(0.99), runs);
                }
            }
            let mut fixed = (f64::MAX, f64::MAX, 0, 0.0);
            for rows in [2, 4, 8, 16, 32, 64] {
                for delay in [0.0, 0.2, 0.5, 1.0] {
                    let delay = ((curve.cost)(1.0) * delay) as Micros;
                    let settings = Settings { max_delay: Duration::from_micros(delay), ..base() };
                    let (seen, _) = simulate(curve, load, &Learned::fixed(curve.workers, rows, false), &settings, warm.min(300_000), answers);
                    if seen.refused * 50 < answers && seen.percentile(0.99) < fixed.1 {
                        fixed = (seen.percentile(0.5), seen.percentile(0.99), rows, delay as f64);
                    }
                }
            }
            println!("{:16} {part} {:.0}/s rows {:.2} p50 {} p99 {} refused {} {} | static {:.2} {fixed:?} | plain {:.2} {:.2} {plain:?}", curve.name, cap*part, ours.mean_rows(), ours.percentile(0.5), ours.percentile(0.99), ours.refused, world.queue(0).setting(), ours.percentile(0.99) / fixed.1, ours.percentile(0.5) / plain.0, ours.percentile(0.99) / plain.1);
        }
    }
}
