//! A world in virtual time: clients that send their next request after each answer, the limit, and
//! a server.
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::super::{AdaptiveLimit, Micros, STUCK};
use super::servers::{Random, Server};

/// What happened during a span of time.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Seen {
    pub(super) answered: usize,
    pub(super) refused: usize,
    /// The most refusals of one request.
    pub(super) retries: u32,
    /// The longest time from the arrival of a request to its answer.
    pub(super) waited: Micros,
}

impl Seen {
    pub(super) fn share(&self) -> f64 {
        self.refused as f64 / (self.answered + self.refused).max(1) as f64
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Request {
    came: Micros,
    refusals: u32,
    /// Which server has its call.
    server: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Answer(Request),
    Refusal(Request),
    /// A permit was withheld long enough.
    Expiry,
    /// The watch for slow calls that hold every permit.
    Watch,
}

pub(super) struct World {
    pub(super) server: Box<dyn Server>,
    pub(super) limit: AdaptiveLimit,
    pub(super) now: Micros,
    /// How many servers there were before.
    servers: u32,
    /// Threads that other users hold now.
    pub(super) others: usize,
    pub(super) clients: usize,
    leaving: usize,
    inflight: usize,
    queue: VecDeque<Request>,
    events: BinaryHeap<Reverse<(Micros, u64, Event)>>,
    number: u64,
    random: Random,
}

/// From the proxy to the server and back.
const TRIP: Micros = 50;

impl World {
    pub(super) fn new(server: Box<dyn Server>, limit: AdaptiveLimit, clients: usize, seed: u64) -> Self {
        let mut world = Self {
            server,
            servers: 0,
            limit,
            now: 0,
            others: 0,
            clients: 0,
            leaving: 0,
            inflight: 0,
            queue: VecDeque::new(),
            events: BinaryHeap::new(),
            number: 0,
            random: Random::new(seed),
        };
        world.at(STUCK, Event::Watch);
        world.add(clients);
        world
    }

    pub(super) fn add(&mut self, clients: usize) {
        self.clients += clients;
        for _ in 0..clients {
            self.arrive();
        }
    }

    /// So many clients stop after their next answer.
    pub(super) fn remove(&mut self, clients: usize) {
        self.leaving += clients;
    }

    /// Another server takes over. The calls of the one before end as they would have.
    pub(super) fn replace(&mut self, server: Box<dyn Server>) {
        self.server = server;
        self.servers += 1;
    }

    fn ended(&mut self, request: Request, ran: bool) {
        if request.server == self.servers {
            self.server.ended(ran);
        }
    }

    fn at(&mut self, time: Micros, event: Event) {
        self.number += 1;
        self.events.push(Reverse((time, self.number, event)));
    }

    fn arrive(&mut self) {
        let request = Request { came: self.now, refusals: 0, server: 0 };
        if self.queue.is_empty() && self.inflight < self.limit.available() {
            return self.send(request);
        }
        self.filled();
        self.queue.push_back(request);
        self.dispatch();
    }

    fn filled(&mut self) {
        if self.queue.is_empty() {
            self.limit.queue_filled(self.now);
        }
    }

    fn send(&mut self, request: Request) {
        let request = Request { server: self.servers, ..request };
        self.inflight += 1;
        let (time, ok) = self.server.call(self.now, self.others, &mut self.random);
        self.at(self.now + TRIP + time, if ok { Event::Answer(request) } else { Event::Refusal(request) });
    }

    fn dispatch(&mut self) {
        while self.inflight < self.limit.available() {
            let Some(request) = self.queue.pop_front() else { return };
            if self.queue.is_empty() {
                self.limit.queue_emptied(self.now);
            }
            self.send(request);
        }
    }

    /// The request waits at the front again.
    fn refused(&mut self, mut request: Request) {
        request.refusals += 1;
        if let Some(until) = self.limit.refused(self.now) {
            self.at(until, Event::Expiry);
        }
        self.filled();
        let at = self.queue.iter().take_while(|other| other.refusals > 0).count();
        self.queue.insert(at, request);
        self.dispatch();
    }

    pub(super) fn run(&mut self, span: Micros) -> Seen {
        let until = self.now + span;
        let mut seen = Seen::default();
        while let Some(&Reverse((time, ..))) = self.events.peek() {
            if time > until {
                break;
            }
            let Some(Reverse((time, _, event))) = self.events.pop() else { break };
            self.now = time;
            match event {
                Event::Answer(request) => {
                    self.inflight -= 1;
                    self.ended(request, true);
                    seen.answered += 1;
                    seen.waited = seen.waited.max(time - request.came);
                    seen.retries = seen.retries.max(request.refusals);
                    if !self.queue.is_empty() || self.limit.is_attentive() {
                        self.limit.answered(1, time);
                    }
                    self.dispatch();
                    if self.leaving > 0 {
                        self.leaving -= 1;
                        self.clients -= 1;
                    } else {
                        self.arrive();
                    }
                }
                Event::Refusal(request) => {
                    self.inflight -= 1;
                    self.ended(request, false);
                    seen.refused += 1;
                    self.refused(request);
                }
                Event::Expiry => {
                    self.limit.expire(time);
                    self.dispatch();
                }
                Event::Watch => {
                    if !self.queue.is_empty() {
                        self.limit.raise_if_stuck(time);
                        self.dispatch();
                    }
                    self.at(time + STUCK, Event::Watch);
                }
            }
        }
        assert_eq!(self.inflight + self.queue.len(), self.clients, "no request is lost");
        self.now = until;
        seen
    }
}
