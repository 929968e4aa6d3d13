//! Simulations of clients, the limit and servers in virtual time.
//!
//! `LIMIT_SEEDS` is the number of random curves; `make sweep-limit` tries many.
mod servers;
mod units;
mod world;

use super::*;
use servers::{Cores, Curve, Random, Server};
use world::{Seen, World};

const SECOND: Micros = 1_000_000;

/// Runs until so many requests were answered, and for at least so long.
fn run(world: &mut World, answers: usize, least: Micros) -> (f64, Seen) {
    let from = world.now;
    let mut all = Seen::default();
    let step = (20 * world.server.service()).max(SECOND / 20);
    while all.answered < answers || world.now - from < least {
        let seen = world.run(step);
        all.answered += seen.answered;
        all.refused += seen.refused;
        all.retries = all.retries.max(seen.retries);
    }
    (all.answered as f64 * SECOND as f64 / (world.now - from) as f64, all)
}

/// The highest rate of a fixed limit that keeps refusals within the bound.
fn best_fixed(server: &dyn Server, clients: usize, others: usize) -> f64 {
    let steps = (0..24).map(|step| 1.2_f64.powi(step).round() as usize);
    let mut limits: Vec<usize> = steps.chain([5, 7, 8, 11, 14]).filter(|limit| *limit <= clients).collect();
    limits.sort_unstable();
    limits.dedup();
    let rate = |limit: &usize| {
        let mut world = World::new(server.fresh(), AdaptiveLimit::fixed(*limit), clients, 7);
        world.others = others;
        run(&mut world, 200, 0);
        let (rate, seen) = run(&mut world, 2_000, 0);
        if seen.share() < 0.1 { rate } else { 0.0 }
    };
    limits.iter().map(rate).fold(0.0, f64::max)
}

fn seeds() -> u64 {
    option_env!("LIMIT_SEEDS").map_or(4, |seeds| seeds.parse().expect("a number of seeds"))
}

/// The measured curve by threads, cores with a queue, and random curves.
fn servers() -> Vec<Box<dyn Server>> {
    let mut list: Vec<Box<dyn Server>> = Vec::new();
    for threads in [4, 8, 16, 32, 64] {
        list.push(Box::new(Curve::measured(threads)));
    }
    for (cores, threads, service, exponential) in [
        (1, 1, 500, false),
        (1, 1, 3_000, true),
        (2, 8, 1_000_000, false),
        (8, 8, 3_000, true),
        (8, 8, 100_000, false),
        (8, usize::MAX, 20_000, true),
        (40, 40, 2_000, false),
        (40, 40, 100_000, false),
        (2, 128, 3_000, true),
    ] {
        list.push(Box::new(Cores::new(cores, threads, service, exponential)));
    }
    for seed in 0..seeds() {
        list.push(Box::new(Curve::random(&mut Random::new(seed + 1))));
    }
    list
}

/// Compares the adaptive limit with the best fixed one, after the time it takes to find it.
fn compare(server: &dyn Server, clients: usize, others: usize) {
    let best = best_fixed(server, clients, others);
    let mut world = World::new(server.fresh(), AdaptiveLimit::adaptive(1024), clients, 3);
    world.others = others;
    run(&mut world, 1_500, (300 * server.service()).max(5 * SECOND));
    let (rate, seen) = run(&mut world, 5_000.min((best * 60.0) as usize), 3 * SECOND);
    let (found, limit, share) = (rate / best, world.limit.limit(), 100.0 * seen.share());
    let line = format!(
        "{found:.3} of {best:.0}/s at {limit}, {share:.1} % refused: {clients} clients, {others} others, {}",
        server.name()
    );
    println!("{line}");
    // Of very many random servers a few are hard.
    assert!(found >= if seeds() > 4 { 0.9 } else { 0.95 }, "{line}");
    // A server with fewer threads than the lowest limit is tried with it.
    assert!(share < 15.0 || limit <= 5, "{line}");
    assert!(seen.retries < 100, "a request is refused without end: {line}");
}

#[test]
fn throughput_is_close_to_that_of_the_best_fixed_limit() {
    for server in servers() {
        for clients in [8, 64, 256] {
            compare(&*server, clients, 0);
        }
    }
}

#[test]
fn throughput_is_close_to_the_best_beside_other_users_of_the_threads() {
    for (threads, others) in [(8, 3), (32, 8), (64, 40)] {
        compare(&Curve::measured(threads), 64, others);
        compare(&Cores::new(threads, threads, 2_000, true), 64, others);
    }
}

/// The rate in the fifth second after a change, in parts of what is possible.
fn recovered(world: &mut World, best: f64, what: &str) {
    world.run(4 * SECOND);
    let seen = world.run(SECOND);
    let found = seen.answered as f64 / best;
    println!("{found:.3} of {best:.0}/s at {}: {what}, {}", world.limit.limit(), world.server.name());
    assert!(found >= 0.9, "{found:.3} of {best:.0}/s at {}: {what}", world.limit.limit());
}

#[test]
fn the_limit_recovers_within_seconds_of_a_disturbance() {
    for threads in [4, 8, 32] {
        let (curve, cores) = (Curve::measured(threads), Cores::new(threads, threads, 4_000, true));
        for server in [&curve as &dyn Server, &cores] {
            let best = best_fixed(server, 64, 0);
            let mut world = World::new(server.fresh(), AdaptiveLimit::adaptive(1024), 64, 5);
            recovered(&mut world, best, "after the start");
            // Status calls of another client hold every thread for some seconds.
            for (held, span) in [(64, 4), (threads / 2, 5), (64, 1), (64, 20)] {
                world.others = held;
                world.run(span * SECOND);
                world.others = 0;
                recovered(&mut world, best, &format!("after {held} calls of others for {span} s"));
            }
            // After a time of calm, when the search rests longest.
            world.run(15 * SECOND);
            world.others = 64;
            world.run(4 * SECOND);
            world.others = 0;
            recovered(&mut world, best, "after a long calm");
            world.remove(63);
            world.run(10 * SECOND);
            world.add(63);
            recovered(&mut world, best, "after a time with one client");
        }
    }
}

#[test]
fn the_limit_follows_a_server_that_is_replaced() {
    let sizes = [8, 64, 4, 32, 16];
    let mut world = World::new(Box::new(Curve::measured(8)), AdaptiveLimit::adaptive(1024), 64, 9);
    for threads in sizes {
        let server = Curve::measured(threads);
        let best = best_fixed(&server, 64, 0);
        world.replace(Box::new(server));
        recovered(&mut world, best, "after a restart with other threads");
    }
}

#[test]
fn a_server_without_a_free_thread_is_tried_now_and_then() {
    let mut world =
        World::new(Box::new(Cores::new(8, 8, 1_000, false)), AdaptiveLimit::adaptive(1024), 256, 1);
    world.run(5 * SECOND);
    world.others = 8;
    world.run(SECOND);
    let seen = world.run(5 * SECOND);
    assert_eq!(seen.answered, 0);
    assert!(seen.refused < 600, "{seen:?}");
    let mut alone = World::new(Box::new(Cores::new(8, 0, 1_000, false)), AdaptiveLimit::adaptive(1024), 1, 1);
    let seen = alone.run(5 * SECOND);
    assert!(seen.refused < 600, "{seen:?}");
}

#[test]
fn one_refusal_of_a_lone_request_costs_nothing() {
    let mut world = World::new(Box::new(Cores::new(8, 8, 1_000, false)), AdaptiveLimit::adaptive(1024), 1, 1);
    world.run(SECOND);
    world.others = 8;
    world.run(1_500);
    world.others = 0;
    assert!(world.run(SECOND / 10).answered > 80);
    world.add(63);
    world.run(SECOND);
    assert!(world.limit.limit() >= 8, "{}", world.limit.limit());
}
