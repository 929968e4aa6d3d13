//! Simulations of clients that send their next request after each answer, the limit, and a server
//! with cores, threads and refusals.
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::*;

/// The server's properties. They may change during a simulation.
#[derive(Clone, Copy)]
struct Server {
    /// Calls beyond these are refused.
    threads: usize,
    /// So many calls run at full speed; more share it.
    cores: usize,
    service: Micros,
    /// By how much each running call beyond the cores slows all of them down.
    thrash: f64,
    /// Calls arrive in another order than they were sent, as on two connections.
    shuffled: bool,
}

const DEFAULT: Server = Server { threads: 8, cores: 8, service: 2_000, thrash: 0.0, shuffled: false };

/// What happened during a span of time.
#[derive(Debug, Default)]
struct Seen {
    answered: usize,
    refused: usize,
    /// The longest time from the arrival of a request to its answer.
    waited: Micros,
}

/// When a call ends, its number, when its request arrived, whether it succeeds, and what was known
/// when it was sent.
type End = (Micros, u64, Micros, bool, Sent);

struct World {
    server: Server,
    limit: AdaptiveLimit,
    now: Micros,
    clients: usize,
    inflight: usize,
    running: usize,
    /// When each request arrived first.
    queue: VecDeque<Micros>,
    ends: BinaryHeap<Reverse<End>>,
    number: u64,
    random: u64,
}

/// From the proxy to the server and back.
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
            self.arrive();
        }
    }

    fn arrive(&mut self) {
        if self.queue.is_empty() && self.inflight < self.limit.limit() {
            self.send(self.now);
        } else {
            if self.queue.is_empty() {
                self.limit.queue_filled(self.now);
            }
            self.queue.push_back(self.now);
        }
    }

    /// Service times vary by a fifth.
    fn jitter(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        0.8 + 0.4 * (self.random % 1000) as f64 / 1000.0
    }

    fn send(&mut self, came: Micros) {
        self.inflight += 1;
        // When shuffled, it is chance which of the calls in flight finds the threads busy.
        let inflight = if self.server.shuffled {
            1 + (self.jitter() * 1e6) as usize % self.inflight
        } else {
            self.inflight
        };
        let sent = Sent { inflight, epoch: self.limit.epoch() };
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
                    self.limit.answered(1, end);
                }
                self.dispatch();
                self.arrive();
            } else {
                seen.refused += 1;
                let inflight = sent.inflight.max(self.inflight + 1);
                self.limit.refused(Sent { inflight, ..sent }, end);
                if self.queue.is_empty() {
                    self.limit.queue_filled(end);
                }
                self.queue.push_front(came);
                self.dispatch();
            }
            assert!(self.inflight > 0 || self.queue.is_empty(), "requests wait and nothing is in flight");
            assert!(self.limit.limit() >= 1);
        }
        assert_eq!(self.inflight + self.queue.len(), self.clients, "no request is lost");
        self.now = until;
        seen
    }

    fn dispatch(&mut self) {
        while self.inflight < self.limit.limit() {
            let Some(came) = self.queue.pop_front() else { return };
            if self.queue.is_empty() {
                self.limit.queue_emptied(self.now);
            }
            self.send(came);
        }
    }
}

const SECOND: Micros = 1_000_000;

/// Answers per second, measured over about so many.
fn rate(world: &mut World, answers: usize) -> f64 {
    let (from, mut seen) = (world.now, 0);
    while seen < answers {
        seen += world.run(100 * world.server.service).answered;
    }
    seen as f64 * SECOND as f64 / (world.now - from) as f64
}

/// Answers per second at a fixed limit.
fn fixed(server: Server, limit: usize) -> f64 {
    let mut world = World::new(server, AdaptiveLimit::fixed(limit), 64);
    rate(&mut world, 200);
    rate(&mut world, 2_000)
}

fn best_rate(server: Server) -> f64 {
    let sweep = [1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64].into_iter().filter(|limit| *limit <= server.threads);
    sweep.map(|limit| fixed(server, limit)).fold(0.0, f64::max)
}

#[test]
fn the_number_of_server_threads_is_found_quickly_and_kept() {
    for (threads, shuffled) in [1, 2, 3, 8, 13, 40, 200].into_iter().flat_map(|n| [(n, false), (n, true)]) {
        let server = Server { threads, cores: threads, shuffled, ..DEFAULT };
        let mut world = World::new(server, AdaptiveLimit::adaptive(1024), 300);
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
fn throughput_is_close_to_that_of_the_best_fixed_limit() {
    for (threads, cores, thrash) in
        [(8, 2, 0.0), (8, 2, 0.03), (8, 8, 0.0), (64, 2, 0.0), (64, 2, 0.02), (64, 8, 0.01), (256, 48, 0.0)]
    {
        for service in [300, 2_000, 40_000] {
            let server = Server { threads, cores, service, thrash, ..DEFAULT };
            let mut world = World::new(server, AdaptiveLimit::adaptive(1024), 64);
            rate(&mut world, 20_000);
            let found = rate(&mut world, 5_000) / best_rate(server);
            assert!(
                found > 0.9,
                "{threads} threads, {cores} cores, {thrash}, {service}: {found:.2} at {}",
                world.limit.limit()
            );
        }
    }
}

#[test]
fn the_limit_follows_a_server_that_shrinks_or_grows() {
    let mut world =
        World::new(Server { threads: 64, cores: 64, ..DEFAULT }, AdaptiveLimit::adaptive(1024), 100);
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
fn a_change_of_speed_does_not_change_the_limit() {
    let mut world = World::new(DEFAULT, AdaptiveLimit::adaptive(1024), 64);
    world.run(10 * SECOND);
    for service in [50_000, 300, 10_000] {
        world.server.service = service;
        world.run(20 * SECOND);
        let limit = world.limit.limit();
        assert!((6..=9).contains(&limit), "{service}: {limit}");
    }
}

#[test]
fn a_few_clients_never_wait_and_leave_the_limit_as_it_is() {
    let mut world = World::new(Server { threads: 64, ..DEFAULT }, AdaptiveLimit::adaptive(1024), START);
    let seen = world.run(10 * SECOND);
    assert_eq!((world.limit.limit(), seen.refused), (START, 0));
    assert!(seen.waited < 2 * DEFAULT.service * 2, "{seen:?}");
    let mut alone = World::new(DEFAULT, AdaptiveLimit::adaptive(1024), 1);
    assert!(alone.run(SECOND).waited <= DEFAULT.service * 12 / 10 + TRIP);
}

#[test]
fn a_fixed_limit_never_changes() {
    let mut world = World::new(DEFAULT, AdaptiveLimit::fixed(20), 64);
    assert!(world.run(SECOND).refused > 0);
    assert_eq!(world.limit.limit(), 20);
}

#[test]
fn the_estimated_wait_grows_with_the_queue() {
    let mut limit = AdaptiveLimit::fixed(1);
    limit.queue_filled(0);
    assert_eq!(limit.estimated_wait(3), None);
    for answer in 1..100 {
        limit.answered(1, answer * 1_000);
    }
    assert_eq!(limit.estimated_wait(0), Some(1_000));
    assert_eq!(limit.estimated_wait(9), Some(10_000));
}

#[test]
fn the_limit_rises_when_slow_calls_hold_every_permit() {
    let mut limit = AdaptiveLimit::adaptive(100);
    limit.queue_filled(0);
    for answer in 1..50 {
        limit.answered(1, answer * 20_000);
    }
    let (before, last) = (limit.limit(), 49 * 20_000);
    for later in [STUCK, 2 * STUCK] {
        limit.raise_if_stuck(last + later);
    }
    assert_eq!(limit.limit(), before, "such intervals are usual here");
    limit.raise_if_stuck(last + 3 * STUCK);
    assert!(limit.limit() > before);
    for round in 0..20 {
        limit.raise_if_stuck(last + (round + 1) * SECOND);
    }
    assert_eq!(limit.limit(), 100);
    limit.refused(Sent { inflight: 90, epoch: limit.epoch() }, 30 * SECOND);
    limit.raise_if_stuck(33 * SECOND);
    assert!(limit.limit() < 90, "a refusal has precedence");
}

#[test]
fn each_refusal_of_a_round_lowers_the_limit_by_one() {
    for sent in [1_usize, 9, 16] {
        let mut limit = AdaptiveLimit::adaptive(1024);
        let epoch = limit.epoch();
        // Eight of sixteen are refused, and each leaves one less in flight.
        for inflight in (9..=16).rev() {
            limit.refused(Sent { inflight: sent.max(inflight), epoch }, 0);
        }
        assert_eq!(limit.limit(), 8);
        limit.refused(Sent { inflight: 8, epoch: limit.epoch() }, 0);
        assert_eq!(limit.limit(), 7);
        limit.refused(Sent { inflight: 16, epoch }, 0);
        assert_eq!(limit.limit(), 7, "a late refusal of an earlier round");
    }
}

#[test]
fn one_round_at_most_halves_the_limit() {
    let mut limit = AdaptiveLimit::adaptive(1024);
    let epoch = limit.epoch();
    for _ in 0..16 {
        limit.refused(Sent { inflight: 16, epoch }, 0);
    }
    assert_eq!(limit.limit(), 8);
}

proptest::proptest! {
    #[test]
    fn any_order_of_events_keeps_the_limit_within_its_bounds(
        max in 1_usize..100,
        steps in proptest::collection::vec((0_u8..5, 0_usize..200, 0_u64..100_000), 0..400),
    ) {
        let mut limit = AdaptiveLimit::adaptive(max);
        let mut now = 0;
        for (what, inflight, later) in steps {
            now += later;
            match what {
                0 => limit.queue_filled(now),
                1 => limit.queue_emptied(now),
                4 => limit.raise_if_stuck(now),
                2 => limit.refused(Sent { inflight: inflight.max(1), epoch: limit.epoch() }, now),
                _ => limit.answered(1, now),
            }
            proptest::prop_assert!((1..=max).contains(&limit.limit()));
        }
    }
}
