//! Random histories: whatever happens, every request ends once, and as it should.
use std::collections::BTreeMap;
use std::time::Duration;

use super::super::queue::{Entry, Queue, Request, RunId};
use super::super::settings::Settings;
use super::{Random, queue, settings};
use crate::concurrency::Micros;

#[derive(Debug, Clone)]
struct Sent {
    key: u128,
    peer: u64,
    rows: u64,
    came: Micros,
    deadline: Option<Micros>,
}

/// What the shell knows.
struct History {
    settings: Settings,
    queue: Queue<u64>,
    random: Random,
    now: Micros,
    sent: u64,
    /// By payload; the number in the queue.
    waiting: BTreeMap<u64, (u64, Sent)>,
    reserved: Vec<(u128, RunId)>,
    flying: Vec<RunId>,
    /// The last payload that left, by key and client.
    order: BTreeMap<(u128, u64), u64>,
    ended: u64,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let settings = Settings {
            max_queue_rows: 5 + random.below(200),
            max_delay: Duration::from_micros([0, 0, 300, 5_000][random.below(4) as usize]),
            allowed_batch_sizes: if random.below(4) == 0 { vec![1, 2, 4, 8] } else { Vec::new() },
            ..settings([1, 3, 16, 64][random.below(4) as usize])
        };
        Self {
            queue: queue(&settings),
            settings,
            random,
            now: 0,
            sent: 0,
            waiting: BTreeMap::new(),
            reserved: Vec::new(),
            flying: Vec::new(),
            order: BTreeMap::new(),
            ended: 0,
        }
    }

    fn push(&mut self) {
        let random = &mut self.random;
        let payload = self.sent;
        self.sent += 1;
        let rows = if random.below(20) == 0 { 1 + random.below(90) } else { 1 + random.below(4) };
        let deadline = (random.below(3) == 0).then(|| self.now + random.below(20_000));
        let peer = random.below(6) * random.below(2);
        let sent = Sent { key: u128::from(random.below(3)), peer, rows, came: self.now, deadline };
        if deadline.is_none()
            && random.below(2) == 0
            && let Some(run) = self.queue.start_alone(rows, self.now)
        {
            assert!(self.waiting.is_empty(), "a request overtakes others");
            self.ended += 1;
            return self.flying.push(run);
        }
        let request = Request { peer, rows, deadline, payload };
        match self.queue.push(sent.key, request, self.now) {
            Entry::Waits { number, displaced } => {
                for request in displaced {
                    let (_, lost) = self.waiting.remove(&request.payload).expect("it waited");
                    assert!(lost.peer != peer, "a client displaces itself");
                    self.ended += 1;
                }
                self.waiting.insert(payload, (number, sent));
            }
            Entry::Alone(run, same) => {
                assert_eq!(same, payload);
                self.ended += 1;
                self.flying.push(run);
            }
            Entry::Refused(_, same) => {
                assert_eq!(same, payload);
                self.ended += 1;
            }
        }
    }

    fn cancel(&mut self) {
        let at = self.random.below(self.waiting.len().max(1) as u64) as usize;
        let Some((payload, (number, sent))) = self.waiting.iter().nth(at) else { return };
        let (payload, number, key) = (*payload, *number, sent.key);
        let found = self.queue.cancel(key, number, self.now).expect("it waits");
        assert_eq!(found.payload, payload);
        assert!(self.queue.cancel(key, number, self.now).is_none(), "it is cancelled twice");
        self.waiting.remove(&payload);
        self.ended += 1;
    }

    fn form(&mut self) {
        if self.reserved.is_empty() {
            return;
        }
        let at = self.random.below(self.reserved.len() as u64) as usize;
        let (key, run) = self.reserved.swap_remove(at);
        if self.random.below(10) == 0 {
            return self.queue.finish(run, false, self.now);
        }
        let Some(formed) = self.queue.form(key, run, self.now) else { return };
        let payloads: Vec<u64> = formed.members.iter().map(|member| member.payload).collect();
        assert!(payloads.is_sorted(), "{payloads:?}");
        let rows: u64 = formed.members.iter().map(|member| member.rows).sum();
        assert_eq!(rows, formed.rows);
        assert!(rows <= self.settings.rows_per_run() || formed.members.len() == 1, "{rows}");
        let late = formed.late.iter().map(|(late, _)| (late, true));
        for (member, late) in formed.members.iter().map(|member| (member, false)).chain(late) {
            let (_, sent) = self.waiting.remove(&member.payload).expect("it waits");
            assert_eq!((sent.key, sent.peer, sent.rows), (key, member.peer, member.rows));
            let passed = sent.deadline.is_some_and(|deadline| deadline <= self.now);
            assert!(late || !passed, "it is computed for nobody");
            assert!(!late || sent.deadline.is_some());
            let before = self.order.insert((key, sent.peer), member.payload);
            let sorted = before.is_none_or(|before| before < member.payload);
            assert!(sorted || late || !formed.late.is_empty(), "overtaken by another of its client");
            self.ended += 1;
        }
        if !formed.members.is_empty() {
            self.flying.push(run);
        }
    }

    fn finish(&mut self) {
        if !self.flying.is_empty() {
            let at = self.random.below(self.flying.len() as u64) as usize;
            let (run, answered) = (self.flying.swap_remove(at), self.random.below(8) > 0);
            self.queue.finish(run, answered, self.now);
            self.queue.finish(run, answered, self.now);
        }
    }

    fn start(&mut self) {
        while let Some(run) = self.queue.start(self.now) {
            self.reserved.push(run);
        }
        assert_eq!(self.queue.rows(), self.waiting.values().map(|(_, sent)| sent.rows).sum::<u64>());
        assert!(self.queue.rows() <= self.settings.max_queue_rows || self.waiting.len() == 1);
        let delay = self.settings.max_delay.as_micros() as Micros;
        if self.flying.is_empty() && self.reserved.is_empty() {
            for (_, sent) in self.waiting.values() {
                assert!(self.now < sent.came + delay, "{sent:?} is held at {}", self.now);
                let due = self.queue.due().expect("a time");
                assert!(due > self.now && due <= sent.came + delay, "{due}");
            }
        }
    }

    fn step(&mut self) {
        match self.random.below(12) {
            0..4 => self.push(),
            4 => self.cancel(),
            5..8 => self.form(),
            8..11 => self.finish(),
            _ => self.now += self.random.below(3_000),
        }
        self.now += self.random.below(100);
        self.start();
    }

    fn drain(&mut self) {
        self.queue.set_draining(true, self.now);
        self.start();
        while !self.reserved.is_empty() {
            self.form();
            self.start();
        }
        assert!(self.waiting.is_empty(), "{:?}", self.waiting);
        while !self.flying.is_empty() {
            self.finish();
        }
        assert_eq!(self.ended, self.sent);
        assert!(self.queue.start_alone(1, self.now).is_some() || !self.settings.max_delay.is_zero());
    }
}

#[test]
fn every_request_ends_once_in_any_history() {
    for seed in 0..300 {
        let mut history = History::new(seed);
        for _ in 0..600 {
            history.step();
        }
        history.drain();
    }
}
