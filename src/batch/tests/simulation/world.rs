//! A world in virtual time: clients, the queue of each model, and a server.
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::super::super::queue::{Entry, Queue, Request, RunId};
use super::super::super::settings::Settings;
use super::super::super::tuner::Learned;
use super::super::Random;
use super::server::{Curve, Server};
use crate::concurrency::Micros;

/// From a client to the sidecar, and from there to the server, each way.
pub(super) const CLIENT_TRIP: Micros = 30;
pub(super) const SERVER_TRIP: Micros = 20;
/// The way of an answer takes up to so much longer.
pub(super) const JITTER: Micros = 20;
/// A client that was refused tries again after this time.
const BACKOFF: Micros = 1_000;

/// How requests come.
#[derive(Debug, Clone, Copy)]
pub(super) enum Load {
    /// So many clients send the next request after the answer.
    Closed(usize),
    /// So many a second, at random.
    Open(f64),
}

/// What was seen of one client group since [`World::reset`].
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) latencies: Vec<Micros>,
    pub(super) refused: usize,
    pub(super) runs: usize,
    pub(super) rows: u64,
    since: Micros,
    until: Micros,
}

impl Seen {
    /// Answers a second.
    pub(super) fn rate(&self) -> f64 {
        self.latencies.len() as f64 * 1e6 / (self.until - self.since).max(1) as f64
    }

    pub(super) fn percentile(&self, part: f64) -> f64 {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let at = ((sorted.len() as f64 * part) as usize).min(sorted.len().saturating_sub(1));
        sorted.get(at).map_or(f64::NAN, |time| *time as f64)
    }

    pub(super) fn mean_rows(&self) -> f64 {
        self.rows as f64 / self.runs.max(1) as f64
    }
}

/// Clients that send requests for one model.
#[derive(Debug, Clone, Copy)]
struct Group {
    model: usize,
    load: Load,
    peer: u64,
    /// Clients that may still send.
    active: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A request of a group.
    Request(usize),
    Submit(u64),
    Answer(u64),
    Due(usize),
}

struct Flight {
    model: usize,
    run: RunId,
    rows: u64,
    members: Vec<Member>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    group: usize,
    came: Micros,
}

struct Model {
    curve: Curve,
    pub(super) queue: Queue<Member>,
}

pub(super) struct World {
    pub(super) now: Micros,
    models: Vec<Model>,
    groups: Vec<Group>,
    pub(super) seen: Vec<Seen>,
    server: Server,
    flights: BTreeMap<u64, Flight>,
    events: BinaryHeap<Reverse<(Micros, u64, Event)>>,
    last: u64,
    random: Random,
    /// The granularity of timers.
    pub(super) tick: Micros,
}

impl World {
    pub(super) fn new(server: &Curve, seed: u64) -> Self {
        Self {
            now: 0,
            models: Vec::new(),
            groups: Vec::new(),
            seen: Vec::new(),
            server: Server::new(server),
            flights: BTreeMap::new(),
            events: BinaryHeap::new(),
            last: 0,
            random: Random::new(seed),
            tick: 0,
        }
    }

    pub(super) fn model(&mut self, curve: &Curve, settings: &Settings, learned: &Learned) -> usize {
        self.models.push(Model { curve: *curve, queue: Queue::new(settings, learned) });
        self.models.len() - 1
    }

    pub(super) fn queue(&self, model: usize) -> &Queue<Member> {
        &self.models[model].queue
    }

    /// Another server computes the model from now on.
    pub(super) fn replace(&mut self, model: usize, curve: &Curve) {
        self.models[model].curve = *curve;
    }

    pub(super) fn add(&mut self, model: usize, load: Load, peer: u64) -> usize {
        let group = self.groups.len();
        self.groups.push(Group { model, load, peer, active: true });
        self.seen.push(Seen { since: self.now, ..Seen::default() });
        let clients = if let Load::Closed(clients) = load { clients } else { 1 };
        for _ in 0..clients {
            let start = self.now + self.random.below(100);
            self.at(start, Event::Request(group));
        }
        group
    }

    /// The group sends nothing more.
    pub(super) fn stop(&mut self, group: usize) {
        self.groups[group].active = false;
    }

    pub(super) fn reset(&mut self) {
        let since = self.now;
        self.seen.iter_mut().for_each(|seen| *seen = Seen { since, ..Seen::default() });
    }

    /// Goes on for so long.
    pub(super) fn run(&mut self, span: Micros) {
        let until = self.now + span;
        loop {
            let event = self.events.peek().map(|Reverse((time, ..))| *time);
            let done = self.server.next();
            let next = event.into_iter().chain(done).min();
            let Some(time) = next.filter(|time| *time <= until) else {
                self.now = until;
                break;
            };
            self.now = time;
            if done.is_some_and(|done| done <= time) {
                while let Some(id) = self.server.done(time) {
                    self.at(time + SERVER_TRIP, Event::Answer(id));
                }
                continue;
            }
            let Some(Reverse((_, _, event))) = self.events.pop() else { break };
            self.handle(event);
        }
        let now = self.now;
        self.seen.iter_mut().for_each(|seen| seen.until = now);
    }

    fn at(&mut self, time: Micros, event: Event) {
        self.last += 1;
        self.events.push(Reverse((time, self.last, event)));
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Request(group) => self.request(group),
            Event::Submit(id) => {
                let flight = &self.flights[&id];
                let curve = &self.models[flight.model].curve;
                self.server.submit(id, curve, flight.rows, &mut self.random, self.now);
            }
            Event::Answer(id) => {
                let Some(flight) = self.flights.remove(&id) else { return };
                let model = flight.model;
                self.models[model].queue.finish(flight.run, true, self.now);
                for member in flight.members {
                    self.seen[member.group].latencies.push(self.now - member.came + 2 * CLIENT_TRIP);
                    self.next(member.group, 2 * CLIENT_TRIP);
                }
                self.start(model);
            }
            Event::Due(model) => self.start(model),
        }
    }

    /// The client of an answer sends its next request.
    fn next(&mut self, group: usize, after: Micros) {
        if matches!(self.groups[group].load, Load::Closed(_)) {
            let jitter = self.random.below(JITTER);
            self.at(self.now + after + jitter, Event::Request(group));
        }
    }

    fn request(&mut self, group: usize) {
        let Group { model, load, peer, active } = self.groups[group];
        if !active {
            return;
        }
        if let Load::Open(rate) = load {
            let pause = -(1.0 - self.random.unit()).ln() * 1e6 / rate;
            self.at(self.now + pause.round() as Micros, Event::Request(group));
        }
        let member = Member { group, came: self.now };
        let queue = &mut self.models[model].queue;
        if let Some(run) = queue.start_alone(1, self.now) {
            return self.fly(model, run, 1, vec![member]);
        }
        let request = Request { peer, rows: 1, deadline: None, payload: member };
        match queue.push(0, request, self.now) {
            Entry::Waits { displaced, .. } => {
                for request in displaced {
                    self.refused(request.payload.group);
                }
            }
            Entry::Alone(run, member) => self.fly(model, run, 1, vec![member]),
            Entry::Refused(..) => self.refused(group),
        }
        self.start(model);
    }

    fn refused(&mut self, group: usize) {
        self.seen[group].refused += 1;
        self.next(group, BACKOFF);
    }

    fn fly(&mut self, model: usize, run: RunId, rows: u64, members: Vec<Member>) {
        self.last += 1;
        let id = self.last;
        if let Some(first) = members.first() {
            self.seen[first.group].runs += 1;
            self.seen[first.group].rows += rows;
        }
        self.flights.insert(id, Flight { model, run, rows, members });
        self.at(self.now + SERVER_TRIP, Event::Submit(id));
    }

    fn start(&mut self, model: usize) {
        while let Some((key, run)) = self.models[model].queue.start(self.now) {
            if let Some(formed) = self.models[model].queue.form(key, run, self.now) {
                let members = formed.members.into_iter().map(|member| member.payload).collect();
                self.fly(model, run, formed.rows, members);
            }
        }
        if let Some(due) = self.models[model].queue.due() {
            let late = if self.tick > 0 { (due.div_ceil(self.tick) + 1) * self.tick } else { due };
            self.at(late, Event::Due(model));
        }
    }
}
