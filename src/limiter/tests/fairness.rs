//! The queue alone, in virtual time: what each model and each client gets of a server's threads.
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashSet};

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::queue::{FairQueue, Flow};
use crate::concurrency::Micros;

const SECOND: Micros = 1_000_000;

/// Clients of one model and peer.
#[derive(Clone, Copy)]
struct Clients {
    flow: Flow,
    /// The time of a call.
    service: Micros,
    /// So many streams that send the next request after each answer, or requests this far apart.
    load: Load,
}

#[derive(Clone, Copy)]
enum Load {
    Streams(usize),
    Every(Micros),
}

/// What the clients have seen.
#[derive(Debug, Clone, Default)]
struct Seen {
    answered: usize,
    waits: Vec<Micros>,
}

impl Seen {
    /// The wait that 99 of 100 requests do not exceed.
    fn p99(&self) -> Micros {
        let mut waits = self.waits.clone();
        waits.sort_unstable();
        waits.get(waits.len() * 99 / 100).copied().unwrap_or(0)
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival(usize),
    /// Of clients, granted by the queue or not.
    End(usize, bool),
}

struct World<'a> {
    permits: usize,
    clients: &'a [Clients],
    queue: FairQueue<(usize, Micros)>,
    inflight: usize,
    now: Micros,
    events: BinaryHeap<Reverse<(Micros, u64, Event)>>,
    number: u64,
    seen: Vec<Seen>,
}

impl World<'_> {
    fn at(&mut self, time: Micros, event: Event) {
        self.number += 1;
        self.events.push(Reverse((time, self.number, event)));
    }

    /// As the limiter does it: past the queue if nothing waits and no model is limited.
    fn arrive(&mut self, who: usize) {
        if self.queue.is_empty() && !self.queue.has_caps() && self.inflight < self.permits {
            return self.send(who, self.now, false);
        }
        let number = self.queue.number(false);
        self.queue.insert(self.clients[who].flow, number, (who, self.now));
        self.grant();
    }

    fn send(&mut self, who: usize, came: Micros, queued: bool) {
        self.inflight += 1;
        self.seen[who].waits.push(self.now - came);
        self.at(self.now + self.clients[who].service, Event::End(who, queued));
    }

    fn grant(&mut self) {
        while self.inflight < self.permits {
            let Some((flow, _, (who, came))) = self.queue.pop(self.permits, self.now) else { return };
            self.queue.granted(flow, self.now);
            self.send(who, came, true);
        }
    }

    fn run(&mut self, until: Micros) {
        while let Some(Reverse((time, ..))) = self.events.peek()
            && *time <= until
        {
            let Some(Reverse((time, _, event))) = self.events.pop() else { return };
            self.now = time;
            match event {
                Event::Arrival(who) => {
                    if let Load::Every(interval) = self.clients[who].load {
                        self.at(time + interval, Event::Arrival(who));
                    }
                    self.arrive(who);
                }
                Event::End(who, queued) => {
                    self.inflight -= 1;
                    self.seen[who].answered += 1;
                    if queued {
                        self.queue.released(self.clients[who].flow, Some(self.clients[who].service));
                    }
                    self.grant();
                    if matches!(self.clients[who].load, Load::Streams(_)) {
                        self.arrive(who);
                    }
                }
            }
        }
    }
}

/// What each has seen from the fifth second to the thirtieth.
fn run(permits: usize, clients: &[Clients]) -> Vec<Seen> {
    let mut world = World {
        permits,
        clients,
        queue: FairQueue::new(),
        inflight: 0,
        now: 0,
        events: BinaryHeap::new(),
        number: 0,
        seen: vec![Seen::default(); clients.len()],
    };
    for (who, clients) in clients.iter().enumerate() {
        let streams = if let Load::Streams(streams) = clients.load { streams } else { 1 };
        for stream in 0..streams {
            world.at(stream as Micros, Event::Arrival(who));
        }
    }
    world.run(5 * SECOND);
    world.seen = vec![Seen::default(); clients.len()];
    world.run(30 * SECOND);
    world.seen
}

fn clients(model: u64, peer: u64, service: Micros, load: Load) -> Clients {
    Clients { flow: Flow { model, peer }, service, load }
}

#[test]
fn a_slow_model_leaves_room_for_a_fast_one() {
    for permits in [3, 8] {
        for (slow, streams) in [(SECOND, 64), (SECOND, 2_000), (100_000, 256), (2 * SECOND, 64)] {
            // Half of what its fair share of the permits can do.
            let interval = 4_000 / permits as Micros;
            let both =
                [clients(1, 1, slow, Load::Streams(streams)), clients(2, 1, 1_000, Load::Every(interval))];
            let alone = &run(permits, &both[1..])[0];
            let seen = run(permits, &both);
            let kept = seen[1].answered as f64 / alone.answered as f64;
            let used = seen[0].answered as f64 * slow as f64 / (25.0 * SECOND as f64 * permits as f64);
            println!(
                "{permits} permits, {slow} us: fast {kept:.3}, p99 wait {} us, slow uses {used:.2}",
                seen[1].p99()
            );
            assert!(kept >= 0.99, "{permits} permits, {slow} us: {kept:.3}");
            assert!(seen[1].p99() < 20_000, "{permits} permits, {slow} us: {}", seen[1].p99());
            // One permit at least is free for the fast model, half of them at most.
            assert!(used >= 0.45, "{permits} permits, {slow} us: {used:.2}");
        }
    }
}

#[test]
fn two_models_that_want_everything_get_half_of_the_time_each() {
    for (left, right) in [(1_000, 1_000), (1_000, 30_000), (500, 1_000_000)] {
        let seen =
            run(8, &[clients(1, 1, left, Load::Streams(100)), clients(2, 1, right, Load::Streams(1_000))]);
        let time = [seen[0].answered as u64 * left, seen[1].answered as u64 * right];
        let share = time[0] as f64 / (time[0] + time[1]) as f64;
        assert!((0.45..0.56).contains(&share), "{left} and {right}: {share:.3}");
        assert!(time[0] + time[1] > 8 * 25 * SECOND * 9 / 10, "{left} and {right}: the permits are used");
    }
}

#[test]
fn a_polite_client_gets_what_it_needs_beside_a_greedy_one() {
    for streams in [1, 2, 4] {
        let polite = clients(1, 1, 1_000, Load::Streams(streams));
        let alone = run(8, &[polite])[0].answered as f64;
        let seen = run(8, &[polite, clients(1, 2, 1_000, Load::Streams(4_000))]);
        let kept = seen[0].answered as f64 / alone;
        println!("{streams} streams beside 4,000: {kept:.3}");
        // A permit is free after an eighth of a call.
        assert!(kept >= 0.85, "{streams} streams: {kept:.3}");
    }
    let many = clients(1, 1, 1_000, Load::Streams(64));
    let seen = run(8, &[many, clients(1, 2, 1_000, Load::Streams(4_000))]);
    let share = seen[0].answered as f64 / (seen[0].answered + seen[1].answered) as f64;
    assert!((0.49..0.51).contains(&share), "{share:.3}");
}

#[test]
fn one_client_of_many_models_gets_no_more_of_a_model_than_another() {
    let mut all = vec![clients(1, 1, 1_000, Load::Streams(16))];
    for model in 1..=4 {
        all.push(clients(model, 2, 1_000, Load::Streams(500)));
    }
    let seen = run(8, &all);
    let total: usize = seen.iter().map(|seen| seen.answered).sum();
    let share = seen[0].answered as f64 / total as f64;
    assert!((0.12..0.13).contains(&share), "half of a quarter: {share:.3}");
}

#[test]
fn flows_that_are_gone_are_forgotten() {
    let mut queue = FairQueue::new();
    for round in 0..100_000_u64 {
        let flow = Flow { model: round % 3, peer: round };
        let number = queue.number(false);
        queue.insert(flow, number, round);
        if round % 50 == 49 {
            while let Some((flow, ..)) = queue.pop(8, round) {
                queue.granted(flow, round);
                queue.released(flow, Some(100));
            }
        }
    }
    assert!(queue.peers() < 1_000, "{}", queue.peers());
    for round in 0..10_000_u64 {
        let flow = Flow { model: round + 10, peer: 1 };
        let number = queue.number(false);
        queue.insert(flow, number, round);
        queue.remove(flow, number).unwrap();
    }
    assert!(queue.models() < 1_000, "{}", queue.models());
}

/// The next thing that happens to the queue.
#[derive(Debug, Clone)]
enum Step {
    Insert { flow: Flow, again: bool },
    Remove(usize),
    Pop,
    Release(usize, Micros),
    Displace,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let flow = (0_u64..4, 0_u64..4).prop_map(|(model, peer)| Flow { model, peer });
    let insert = (flow, prop::bool::weighted(0.1)).prop_map(|(flow, again)| Step::Insert { flow, again });
    vec(
        prop_oneof![
            5 => insert,
            1 => any::<usize>().prop_map(Step::Remove),
            3 => Just(Step::Pop),
            2 => (any::<usize>(), 1_u64..2_000_000).prop_map(|(which, time)| Step::Release(which, time)),
            1 => Just(Step::Displace),
        ],
        0..300,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn any_order_of_steps_loses_and_invents_no_waiter(steps in steps()) {
        let mut queue = FairQueue::new();
        let mut waiting: BTreeMap<i64, Flow> = BTreeMap::new();
        let mut held: Vec<Flow> = Vec::new();
        let mut gone = HashSet::new();
        let mut leave = |waiting: &mut BTreeMap<i64, Flow>, flow, number, item| {
            assert_eq!(number, item);
            assert!(gone.insert(number), "{number} left twice");
            assert_eq!(waiting.remove(&number), Some(flow));
        };
        for (now, step) in steps.into_iter().enumerate() {
            let now = now as Micros * 50_000;
            match step {
                Step::Insert { flow, again } => {
                    let number = queue.number(again);
                    queue.insert(flow, number, number);
                    waiting.insert(number, flow);
                }
                Step::Remove(which) => {
                    let Some((number, flow)) = waiting.iter().nth(which % waiting.len().max(1)) else { continue };
                    let (number, flow) = (*number, *flow);
                    let item = queue.remove(flow, number).unwrap();
                    leave(&mut waiting, flow, number, item);
                    prop_assert!(queue.remove(flow, number).is_none());
                }
                Step::Pop => {
                    let popped = queue.pop(8, now);
                    let Some((flow, number, item)) = popped else {
                        prop_assert!(waiting.is_empty() || queue.has_caps(), "a waiter may have a free permit");
                        continue;
                    };
                    let first = waiting.range(..0).next().map_or(number, |(first, _)| *first);
                    prop_assert_eq!(number, first, "what was refused goes first");
                    let oldest = waiting.iter().find(|(_, other)| **other == flow).map(|(number, _)| *number);
                    prop_assert_eq!(Some(number), oldest, "a flow is first in, first out");
                    leave(&mut waiting, flow, number, item);
                    queue.granted(flow, now);
                    held.push(flow);
                }
                Step::Release(which, time) => {
                    if !held.is_empty() {
                        queue.released(held.swap_remove(which % held.len()), Some(time));
                    }
                }
                Step::Displace => {
                    let Some((flow, number)) = queue.last_of_longest() else { continue };
                    let lengths = |model: u64| waiting.range(0..).filter(|(_, flow)| flow.model == model).count();
                    prop_assert!((0..4).all(|model| lengths(model) <= lengths(flow.model)));
                    let item = queue.remove(flow, number).unwrap();
                    leave(&mut waiting, flow, number, item);
                }
            }
            prop_assert_eq!(queue.len(), waiting.len());
        }
        for _ in 0..held.len() {
            queue.released(held.pop().unwrap(), None);
        }
        while let Some((flow, number, item)) = queue.pop(8, 1 << 40) {
            leave(&mut waiting, flow, number, item);
        }
        prop_assert!(waiting.is_empty(), "{waiting:?}");
    }
}

#[test]
fn a_slow_model_does_not_take_permits_that_are_withheld_at_times() {
    let (slow, fast) = (Flow { model: 1, peer: 1 }, Flow { model: 2, peer: 1 });
    let mut queue = FairQueue::new();
    for (flow, time) in [(slow, 1_000_000), (fast, 1_000)] {
        queue.granted(flow, 0);
        queue.released(flow, Some(time));
    }
    for flow in [slow, fast] {
        for _ in 0..30 {
            let number = queue.number(false);
            queue.insert(flow, number, ());
        }
    }
    // Half of the server's 8 threads are for the fast model, whether or not 7 more permits, for
    // which it has none, are given back for a moment.
    let mut held = 0;
    for available in [8, 15, 8, 15] {
        while let Some((flow, ..)) = queue.pop(available, 10) {
            queue.granted(flow, 10);
            held += usize::from(flow == slow);
            if flow == fast {
                queue.released(flow, Some(1_000));
            }
        }
    }
    assert_eq!(held, 4);
}

#[test]
fn a_slow_model_leaves_a_thread_to_a_fast_one_that_is_refused_again() {
    let (slow, fast) = (Flow { model: 1, peer: 1 }, Flow { model: 2, peer: 1 });
    let mut queue = FairQueue::new();
    for (flow, time) in [(slow, SECOND), (fast, 1_000)] {
        queue.granted(flow, 0);
        queue.released(flow, Some(time));
    }
    let insert = |queue: &mut FairQueue<()>, flow, count| {
        for _ in 0..count {
            let number = queue.number(false);
            queue.insert(flow, number, ());
        }
    };
    // Of 15 permits the slow model takes all but one, but the server has 8 threads.
    insert(&mut queue, slow, 60);
    insert(&mut queue, fast, 1);
    let take = |queue: &mut FairQueue<()>, now| {
        let mut held = 0;
        while let Some((flow, ..)) = queue.pop(15, now) {
            queue.granted(flow, now);
            held += usize::from(flow == slow);
        }
        held
    };
    assert_eq!(take(&mut queue, 10), 14);
    // Six of them are refused, and so is the fast call, twice.
    (0..6).for_each(|_| queue.released(slow, None));
    queue.released(fast, None);
    queue.refused_again(fast, 20);
    // The calls end one after the other; the fast model goes on asking.
    (0..8).for_each(|_| queue.released(slow, Some(SECOND)));
    insert(&mut queue, fast, 1);
    assert_eq!(take(&mut queue, SECOND), 7);
    // After a hundred times as long without a refusal, more is tried.
    (0..7).for_each(|_| queue.released(slow, Some(SECOND)));
    queue.released(fast, Some(1_000));
    insert(&mut queue, fast, 1);
    assert_eq!(take(&mut queue, 102 * SECOND), 14);
}
