//! Simulations: clients in a closed loop, the limit, and an invented server with cores, threads,
//! and refusals.
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::*;

/// What the server is like; it may change under way.
#[derive(Clone, Copy)]
struct Server {
    /// More than these are refused.
    threads: usize,
    /// So many run at full speed, more share it.
    cores: usize,
    service: Micros,
    /// What each running request beyond the cores costs all, in parts of the service time.
    thrash: f64,
    /// Requests come in another order than they were sent in, as those of two connections do.
    shuffled: bool,
}

const DEFAULT: Server = Server { threads: 8, cores: 8, service: 2_000, thrash: 0.0, shuffled: false };

/// What happened in a span of time.
#[derive(Debug, Default)]
struct Seen {
    answered: usize,
    refused: usize,
    /// The longest that an answered request waited before it was sent for the last time.
    waited: Micros,
}

/// When a request ends, its number, when it came, whether it was refused, and what it knew.
type End = (Micros, u64, Micros, bool, Sent);

struct World {
    server: Server,
    limit: AdaptiveLimit,
    now: Micros,
    clients: usize,
    inflight: usize,
    running: usize,
    /// When each request came first.
    queue: VecDeque<Micros>,
    ends: BinaryHeap<Reverse<End>>,
    number: u64,
    random: u64,
}

/// From the sidecar to the server and back.
const TRIP: Micros = 50;

impl World {
    fn new(server: Server, limit: AdaptiveLimit, clients: usize) -> Self {
        let mut world = Self {
            server,
            limit,
            now: 0,
            clients: 0,
            inflight: 0,
            running: 0,
            queue: VecDeque::new(),
            ends: BinaryHeap::new(),
            number: 0,
            random: 88_172_645_463_325_252,
        };
        world.add(clients);
        world
    }

    fn add(&mut self, clients: usize) {
        self.clients += clients;
        for _ in 0..clients {
            self.come();
        }
    }

    fn come(&mut self) {
        if self.queue.is_empty() && self.inflight < self.limit.limit() {
            self.send(self.now);
        } else {
            if self.queue.is_empty() {
                self.limit.waits(self.now);
            }
            self.queue.push_back(self.now);
        }
    }

    /// Times vary by a fifth.
    fn jitter(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        0.8 + 0.4 * (self.random % 1000) as f64 / 1000.0
    }

    fn send(&mut self, came: Micros) {
        self.inflight += 1;
        // Which of the requests in flight meets the threads that are taken is chance, when they are
        // shuffled.
        let knows = if self.server.shuffled {
            1 + (self.jitter() * 1e6) as usize % self.inflight
        } else {
            self.inflight
        };
        let sent = Sent { inflight: knows, epoch: self.limit.epoch() };
        let ok = self.running < self.server.threads;
        let mut end = self.now + TRIP;
        if ok {
            self.running += 1;
            let over = self.running.saturating_sub(self.server.cores) as f64;
            let slow =
                (self.running as f64 / self.server.cores as f64).max(1.0) * (1.0 + self.server.thrash * over);
            end += (self.server.service as f64 * slow * self.jitter()) as Micros;
        }
        self.number += 1;
        self.ends.push(Reverse((end, self.number, came, ok, sent)));
    }

    fn run(&mut self, span: Micros) -> Seen {
        let until = self.now + span;
        let mut seen = Seen::default();
        while let Some(&Reverse((end, ..))) = self.ends.peek() {
            if end > until {
                break;
            }
            let Some(Reverse((end, _, came, ok, sent))) = self.ends.pop() else { break };
            self.now = end;
            self.inflight -= 1;
            if ok {
                self.running -= 1;
                seen.answered += 1;
                seen.waited = seen.waited.max(end - came);
                if !self.queue.is_empty() {
                    self.limit.answered(end);
                }
                self.dispatch();
                self.come();
            } else {
                seen.refused += 1;
                let inflight = sent.inflight.max(self.inflight + 1);
                self.limit.refused(Sent { inflight, ..sent }, end);
                if self.queue.is_empty() {
                    self.limit.waits(end);
                }
                self.queue.push_front(came);
                self.dispatch();
            }
            assert!(self.inflight > 0 || self.queue.is_empty(), "somebody waits and nothing is under way");
            assert!(self.limit.limit() >= 1);
        }
        assert_eq!(self.inflight + self.queue.len(), self.clients, "every request is somewhere");
        self.now = until;
        seen
    }

    fn dispatch(&mut self) {
        while self.inflight < self.limit.limit() {
            let Some(came) = self.queue.pop_front() else { return };
            if self.queue.is_empty() {
                self.limit.emptied(self.now);
            }
            self.send(came);
        }
    }
}

const SECOND: Micros = 1_000_000;

/// Answers a second, over about so many of them.
fn pace(world: &mut World, answers: usize) -> f64 {
    let (from, mut seen) = (world.now, 0);
    while seen < answers {
        seen += world.run(100 * world.server.service).answered;
    }
    seen as f64 * SECOND as f64 / (world.now - from) as f64
}

/// With so many in flight and no learning.
fn fixed(server: Server, limit: usize) -> f64 {
    let mut world = World::new(server, AdaptiveLimit::fixed(limit), 64);
    pace(&mut world, 200);
    pace(&mut world, 2_000)
}

fn best(server: Server) -> f64 {
    let sweep = [1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64].into_iter().filter(|limit| *limit <= server.threads);
    sweep.map(|limit| fixed(server, limit)).fold(0.0, f64::max)
}

#[test]
fn a_thread_limit_is_found_at_once_and_kept() {
    for (threads, shuffled) in [1, 2, 3, 8, 13, 40, 200].into_iter().flat_map(|n| [(n, false), (n, true)]) {
        let server = Server { threads, cores: threads, shuffled, ..DEFAULT };
        let mut world = World::new(server, AdaptiveLimit::learned(1024), 300);
        let first = world.run(3 * SECOND);
        let later = world.run(10 * SECOND);
        let share = |seen: &Seen| seen.refused as f64 / (seen.answered + seen.refused) as f64;
        assert!(share(&first) < 0.05, "{threads} threads: {first:?}");
        assert!(later.refused < 200 && share(&later) < 0.005, "{threads} threads: {later:?}");
        let limit = world.limit.limit();
        assert!(limit <= threads + 1 && limit * 8 >= threads * 6, "{threads} threads: {limit}");
    }
}

#[test]
fn the_throughput_is_that_of_the_best_number_in_flight() {
    for (threads, cores, thrash) in
        [(8, 2, 0.0), (8, 2, 0.03), (8, 8, 0.0), (64, 2, 0.0), (64, 2, 0.02), (64, 8, 0.01), (256, 48, 0.0)]
    {
        for service in [300, 2_000, 40_000] {
            let server = Server { threads, cores, service, thrash, ..DEFAULT };
            let mut world = World::new(server, AdaptiveLimit::learned(1024), 64);
            pace(&mut world, 20_000);
            let found = pace(&mut world, 5_000) / best(server);
            assert!(
                found > 0.9,
                "{threads} threads, {cores} cores, {thrash}, {service}: {found:.2} at {}",
                world.limit.limit()
            );
        }
    }
}

#[test]
fn a_server_that_shrinks_or_grows_is_followed() {
    let mut world =
        World::new(Server { threads: 64, cores: 64, ..DEFAULT }, AdaptiveLimit::learned(1024), 100);
    world.run(10 * SECOND);
    let large = world.limit.limit();
    assert!(large >= 48, "{large}");
    world.server = Server { threads: 4, cores: 4, ..DEFAULT };
    let seen = world.run(SECOND);
    assert!(world.limit.limit() <= 4, "{}", world.limit.limit());
    assert!(seen.refused < 1500, "{seen:?}");
    world.server = Server { threads: 32, cores: 32, ..DEFAULT };
    world.run(120 * SECOND);
    assert!(world.limit.limit() >= 24, "{}", world.limit.limit());
}

#[test]
fn a_server_that_becomes_slower_or_faster_is_no_reason_to_change() {
    let mut world = World::new(DEFAULT, AdaptiveLimit::learned(1024), 64);
    world.run(10 * SECOND);
    for service in [50_000, 300, 10_000] {
        world.server.service = service;
        world.run(20 * SECOND);
        let limit = world.limit.limit();
        assert!((6..=9).contains(&limit), "{service}: {limit}");
    }
}

#[test]
fn few_clients_never_wait_and_change_nothing() {
    let mut world = World::new(Server { threads: 64, ..DEFAULT }, AdaptiveLimit::learned(1024), START);
    let seen = world.run(10 * SECOND);
    assert_eq!((world.limit.limit(), seen.refused), (START, 0));
    assert!(seen.waited < 2 * DEFAULT.service * 2, "{seen:?}");
    let mut alone = World::new(DEFAULT, AdaptiveLimit::learned(1024), 1);
    assert!(alone.run(SECOND).waited <= DEFAULT.service * 12 / 10 + TRIP);
}

#[test]
fn a_fixed_limit_stays() {
    let mut world = World::new(DEFAULT, AdaptiveLimit::fixed(20), 64);
    assert!(world.run(SECOND).refused > 0);
    assert_eq!(world.limit.limit(), 20);
}

#[test]
fn the_wait_is_forecast_and_forgotten() {
    let mut limit = AdaptiveLimit::learned(1024);
    limit.waits(0);
    assert_eq!(limit.wait(3), None);
    for answer in 1..100 {
        limit.answered(answer * 1_000);
    }
    assert_eq!(limit.wait(0), Some(1_000));
    assert_eq!(limit.wait(9), Some(10_000));
    limit.emptied(100_000);
    limit.waits(200_000);
    assert_eq!(limit.wait(0), Some(1_000));
    limit.emptied(300_000);
    limit.waits(300_000 + STALE + 1);
    assert_eq!(limit.wait(0), None);
}

#[test]
fn places_that_slow_requests_hold_are_no_limit() {
    let mut limit = AdaptiveLimit::learned(100);
    limit.waits(0);
    for answer in 1..50 {
        limit.answered(answer * 20_000);
    }
    let (before, last) = (limit.limit(), 49 * 20_000);
    for later in [STUCK, 2 * STUCK] {
        limit.waiting(last + later);
    }
    assert_eq!(limit.limit(), before, "that is not unusual here");
    limit.waiting(last + 3 * STUCK);
    assert!(limit.limit() > before);
    for round in 0..20 {
        limit.waiting(last + (round + 1) * SECOND);
    }
    assert_eq!(limit.limit(), 100);
    limit.refused(Sent { inflight: 90, epoch: limit.epoch() }, 30 * SECOND);
    limit.waiting(33 * SECOND);
    assert!(limit.limit() < 90, "a refusal is the stronger word");
}

#[test]
fn each_refusal_of_a_round_is_one_less_whichever_they_are() {
    for knew in [1_usize, 9, 16] {
        let mut limit = AdaptiveLimit::learned(1024);
        let epoch = limit.epoch();
        // Eight of sixteen come back, and each finds one less in flight.
        for inflight in (9..=16).rev() {
            limit.refused(Sent { inflight: knew.max(inflight), epoch }, 0);
        }
        assert_eq!(limit.limit(), 8);
        limit.refused(Sent { inflight: 8, epoch: limit.epoch() }, 0);
        assert_eq!(limit.limit(), 7);
        limit.refused(Sent { inflight: 16, epoch }, 0);
        assert_eq!(limit.limit(), 7, "a straggler of a round before the last");
    }
}

#[test]
fn one_round_halves_at_most() {
    let mut limit = AdaptiveLimit::learned(1024);
    let epoch = limit.epoch();
    for _ in 0..16 {
        limit.refused(Sent { inflight: 16, epoch }, 0);
    }
    assert_eq!(limit.limit(), 8);
}

proptest::proptest! {
    #[test]
    fn whatever_it_is_told_the_limit_stays_in_its_bounds(
        max in 1_usize..100,
        steps in proptest::collection::vec((0_u8..5, 0_usize..200, 0_u64..100_000), 0..400),
    ) {
        let mut limit = AdaptiveLimit::learned(max);
        let mut now = 0;
        for (what, inflight, later) in steps {
            now += later;
            match what {
                0 => limit.waits(now),
                1 => limit.emptied(now),
                4 => limit.waiting(now),
                2 => limit.refused(Sent { inflight: inflight.max(1), epoch: limit.epoch() }, now),
                _ => limit.answered(now),
            }
            proptest::prop_assert!((1..=max).contains(&limit.limit()));
        }
    }
}
