//! What batching must reach without any setting.
use super::super::super::settings::Settings;
use super::super::super::tuner::{Learned, Wait};
use super::server::Curve;
use super::world::{Load, World};
use super::{MODELS, base, capacity, find, fixed, learned, warm};
use crate::concurrency::Micros;

#[test]
fn many_clients_get_nearly_what_the_best_fixed_setting_gives() {
    let mut low = Vec::new();
    for model in MODELS {
        let curve = &model.curve;
        for (clients, best) in [64, 256].into_iter().zip(model.best) {
            let load = Load::Closed(clients);
            let best = fixed(curve, load, best, 2_000 + 30 * clients);
            let (seen, world) = learned(curve, load, warm(curve), 20_000);
            let found = seen.rate() / best.rate();
            let line = format!(
                "{}, {clients} clients: {found:.3} of {:.0} rows a second with {}",
                curve.name,
                best.rate(),
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
fn runs_that_may_take_a_tenth_more_or_less_are_learned_as_well() {
    for (name, clients) in [("GPU bert-base", 64), ("GPU resnet-50", 256), ("CPU mlp", 256)] {
        let curve = Curve { noise: 0.1, ..*find(name) };
        let model = MODELS.iter().find(|model| model.curve.name == name).expect("a model");
        let load = Load::Closed(clients);
        let best = fixed(&curve, load, model.best[usize::from(clients > 64)], 6_000);
        let (seen, _) = learned(&curve, load, 2 * warm(&curve), 6_000);
        let found = seen.rate() / best.rate();
        assert!(found >= 0.93, "{name}: {found:.3}");
    }
}

#[test]
fn a_lone_client_gets_what_it_gets_without_batching() {
    for model in MODELS {
        let curve = &model.curve;
        let alone = fixed(curve, Load::Closed(1), (1, 1, Wait::No), 500);
        let (seen, _) = learned(curve, Load::Closed(1), 100_000, 500);
        assert!(seen.percentile(0.99) <= alone.percentile(0.99), "{}", curve.name);
        assert!((seen.mean_rows() - 1.0).abs() < 1e-9);
    }
}

#[test]
fn requests_that_come_at_random_are_answered_no_later_than_without_batching() {
    // Where batching is not needed: the server could do it without.
    for (name, part) in [("linear", 0.3), ("linear", 0.6), ("CPU cnn", 0.3), ("dearer by the row", 0.3)] {
        let curve = find(name);
        let load = Load::Open(capacity(curve) * part);
        let without = fixed(curve, load, (8, 1, Wait::No), 20_000);
        let (seen, world) = learned(curve, load, warm(curve), 20_000);
        let ratio = |part| seen.percentile(part) / without.percentile(part);
        let line =
            format!("{name} {part}: {:.3} {:.3} {}", ratio(0.5), ratio(0.99), world.queue(0).setting());
        println!("{line}");
        // The 99th percentile of so many requests is itself off by some per cent.
        assert!(ratio(0.5) <= 1.02 && ratio(0.99) <= 1.05, "{line}");
    }
}

#[test]
fn requests_that_come_at_random_do_not_wait_for_a_timer() {
    for name in ["GPU bert-base", "GPU mlp"] {
        let curve = find(name);
        let load = Load::Open(capacity(curve) * 0.6);
        // The best of a grid of rows and delays has 64 rows and no delay.
        let best = fixed(curve, load, (1, 64, Wait::No), 20_000);
        let (seen, world) = learned(curve, load, 4 * warm(curve), 20_000);
        let ratio = seen.percentile(0.99) / best.percentile(0.99);
        let line = format!("{name}: {ratio:.3} with {}", world.queue(0).setting());
        println!("{line}");
        assert!(ratio <= 1.1, "{line}");
    }
}

#[test]
fn a_step_in_load_is_followed() {
    let curve = find("GPU resnet-50");
    let mut world = World::new(curve, 3);
    let model = world.model(curve, &base(), &Learned::default());
    world.add(model, Load::Closed(4), 1);
    world.run(warm(curve));
    let many = world.add(model, Load::Closed(252), 2);
    world.run(warm(curve) / 4);
    world.reset();
    world.run(warm(curve) / 4);
    let best = fixed(curve, Load::Closed(256), (2, 32, Wait::No), 10_000);
    let rate: f64 = world.seen.iter().map(super::Seen::rate).sum();
    assert!(rate >= 0.9 * best.rate(), "{rate:.0} of {:.0}", best.rate());
    world.stop(many);
    world.run(warm(curve) / 4);
    world.reset();
    world.run(warm(curve) / 4);
    let few = fixed(curve, Load::Closed(4), (1, 4, Wait::No), 1_000);
    assert!(world.seen[0].rate() >= 0.9 * few.rate(), "{:.0} of {:.0}", world.seen[0].rate(), few.rate());
}

#[test]
fn a_slower_server_is_learned_again() {
    let (fast, slow) = (find("GPU recommender"), find("GPU resnet-50"));
    let mut world = World::new(fast, 3);
    let model = world.model(fast, &base(), &Learned::default());
    world.add(model, Load::Closed(64), 1);
    world.run(warm(fast));
    world.replace(model, slow);
    world.run(warm(slow));
    world.reset();
    world.run(warm(slow) / 2);
    let best = fixed(slow, Load::Closed(64), (2, 21, Wait::No), 6_000);
    let rate = world.seen[0].rate();
    assert!(rate >= 0.9 * best.rate(), "{rate:.0} of {:.0}", best.rate());
}

#[test]
fn what_was_learned_is_a_first_guess_for_the_next_version() {
    let curve = find("GPU dense");
    let (_, world) = learned(curve, Load::Closed(256), warm(curve), 6_000);
    let next = world.queue(0).learned();
    let span: Micros = 20_000;
    let rate = |learned: &Learned| {
        let mut world = World::new(curve, 5);
        let model = world.model(curve, &base(), learned);
        world.add(model, Load::Closed(256), 1);
        world.run(span);
        world.seen[0].rate()
    };
    assert!(rate(&next) > 1.1 * rate(&Learned::default()));
}

#[test]
fn two_models_share_a_server() {
    let (first, second) = (find("GPU bert-base"), find("GPU recommender"));
    let mut world = World::new(first, 7);
    for curve in [first, second] {
        let model = world.model(curve, &base(), &Learned::default());
        world.add(model, Load::Closed(64), 1);
    }
    world.run(2 * warm(first));
    world.reset();
    world.run(warm(first) / 2);
    // In turn, each with half of its requests in a run.
    for seen in &world.seen {
        let ideal = 32.0 / ((first.cost)(32.0) + (second.cost)(32.0)) * 1e6;
        assert!(seen.rate() >= 0.8 * ideal, "{:.0} of {ideal:.0}", seen.rate());
    }
}

#[test]
fn a_greedy_client_costs_a_polite_one_two_runs() {
    let curve = find("GPU bert-base");
    let mut world = World::new(curve, 9);
    let model = world.model(curve, &base(), &Learned::default());
    world.add(model, Load::Closed(1_000), 1);
    let polite = world.add(model, Load::Closed(1), 2);
    world.run(warm(curve));
    world.reset();
    world.run(warm(curve) / 2);
    let seen = &world.seen[polite];
    let run = (curve.cost)(64.0);
    // The run that was in flight, and its own; three while a second one in flight is tried.
    assert!(seen.percentile(0.5) <= 2.0 * run + 500.0, "{}", seen.percentile(0.5));
    assert!(seen.percentile(0.99) <= 3.0 * run + 500.0, "{}", seen.percentile(0.99));
    assert_eq!(seen.refused, 0);
}

#[test]
fn runs_are_kept_short_for_a_latency_that_is_wanted() {
    let curve = find("CPU mlp");
    let settings = Settings { slo_p99: std::time::Duration::from_millis(10), ..base() };
    let load = Load::Open(6_000.0);
    let (seen, _) = super::simulate(curve, load, &Learned::default(), &settings, warm(curve), 10_000);
    assert!(seen.percentile(0.99) < 10_000.0, "{}", seen.percentile(0.99));
}
