//! Clients that wait for their answers share one run again as soon as they are answered.
use super::super::super::tuner::{Learned, Wait};
use super::world::{CLIENT_TRIP, JITTER, Load, SERVER_TRIP, World};
use super::{base, capacity, find, fixed, warm};
use crate::concurrency::Micros;

/// Timers fire at once, or at the end of the next millisecond.
const TICKS: [Micros; 2] = [0, 1_000];

fn world(name: &str, load: Load, tick: Micros) -> World {
    let curve = find(name);
    let mut world = World::new(curve, 1);
    world.tick = tick;
    let model = world.model(curve, &base(), &Learned::default());
    world.add(model, load, 1);
    world
}

#[test]
fn clients_that_fit_into_one_run_share_it_each_time() {
    let mut low = Vec::new();
    for (name, clients) in [
        ("GPU bert-base", 64),
        ("GPU mobilenet", 64),
        ("GPU mobilenet", 32),
        ("GPU bert-base", 16),
        ("GPU resnet-50", 64),
        ("GPU recommender", 64),
    ] {
        for tick in TICKS {
            let curve = find(name);
            let mut world = world(name, Load::Closed(clients), tick);
            world.run(2 * warm(curve));
            world.reset();
            world.run(20_000 * 1_000_000 / capacity(curve) as u64);
            let turnaround = (2 * SERVER_TRIP + 2 * CLIENT_TRIP + JITTER) as f64;
            let ideal = clients as f64 * 1e6 / ((curve.cost)(clients as f64) + turnaround);
            let found = world.seen[0].rate() / ideal;
            let line = format!(
                "{name}, {clients} clients, {tick}: {found:.3} of {ideal:.0}, p99 {} with {}",
                world.seen[0].percentile(0.99),
                world.queue(0).setting()
            );
            println!("{line}");
            if found < 0.95 {
                low.push(line);
            }
        }
    }
    assert!(low.is_empty(), "{low:#?}");
}

#[test]
fn clients_that_stop_are_waited_for_no_longer_than_a_part_of_a_run() {
    let curve = find("GPU bert-base");
    for tick in TICKS {
        let mut world = World::new(curve, 1);
        world.tick = tick;
        let model = world.model(curve, &base(), &Learned::fixed(1, 64, Wait::Linger));
        world.add(model, Load::Closed(4), 1);
        let many = world.add(model, Load::Closed(60), 2);
        world.run(warm(curve));
        world.stop(many);
        world.reset();
        world.run(warm(curve) / 8);
        // The run in flight and its own, once a part of a run, and the granularity of the timer.
        let run = (curve.cost)(64.0);
        let most = 2.0 * run + run / 8.0 + 2.0 * tick as f64 + 500.0;
        let seen = &world.seen[0];
        println!("{tick}: {} {} {}", seen.percentile(1.0), seen.percentile(0.5), seen.mean_rows());
        assert!(seen.percentile(1.0) <= most, "{}", seen.percentile(1.0));
        // Those that are left find each other: nobody waits for the others again.
        assert!(seen.mean_rows() >= 2.9 && seen.percentile(0.5) <= run + 500.0);
    }
}

#[test]
fn lingering_is_given_up_when_requests_come_at_random() {
    let curve = find("GPU bert-base");
    let load = Load::Open(capacity(curve) * 0.6);
    for tick in TICKS {
        let mut world = World::new(curve, 1);
        world.tick = tick;
        let model = world.model(curve, &base(), &Learned::default());
        let closed = world.add(model, Load::Closed(64), 1);
        world.run(2 * warm(curve));
        let before = world.queue(0).setting();
        assert!(before.contains("lingering"), "{before}");
        world.stop(closed);
        let open = world.add(model, load, 2);
        world.run(4 * warm(curve));
        world.reset();
        world.run(warm(curve));
        let best = fixed(curve, load, (1, 64, Wait::No), 20_000);
        let ratio = world.seen[open].percentile(0.99) / best.percentile(0.99);
        println!("{tick}: {ratio:.3} with {}", world.queue(0).setting());
        assert!(!world.queue(0).setting().contains("lingering"), "{}", world.queue(0).setting());
    }
}
