//! Servers for the simulations.
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::super::Micros;
use measured::MEASURED;

// The fake server of the integration tests refuses by the same measurement.
#[path = "../../../tests/support/fake_tfs/measured.rs"]
mod measured;

/// xorshift64.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Between 0 and 1.
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Evenly on a logarithmic scale.
    pub(super) fn scale(&mut self, low: f64, high: f64) -> f64 {
        self.between(low.ln(), high.ln()).exp()
    }
}

/// How a server takes a call.
pub(super) trait Server {
    /// How long the call takes, and whether it runs. `others`: threads that other users hold.
    fn call(&mut self, now: Micros, others: usize, random: &mut Random) -> (Micros, bool);
    fn ended(&mut self, ran: bool);
    /// For sweeps: an idle server of the same kind.
    fn fresh(&self) -> Box<dyn Server>;
    fn name(&self) -> String;
    /// The usual time of a call.
    fn service(&self) -> Micros;
}

/// A server given by curves over the calls in flight: of the answers a second and of the
/// probability of a refusal.
#[derive(Clone)]
pub(super) struct Curve {
    name: String,
    /// Calls in flight, answers a second, probability.
    points: Vec<(f64, f64, f64)>,
    inflight: usize,
    /// Service times vary by this part.
    spread: f64,
}

/// A refusal takes so long.
const REFUSAL: f64 = 60.0;

impl Curve {
    /// The measured curve for another number of threads (and as many more cores), of a model whose
    /// calls take four times as long.
    pub(super) fn measured(threads: usize) -> Self {
        let scale = threads as f64 / 8.0;
        let point = |(n, rate, refused): (f64, f64, f64)| (n * scale, rate * scale / 4.0, refused);
        Self {
            name: format!("measured, {threads} threads"),
            points: MEASURED.map(point).to_vec(),
            inflight: 0,
            spread: 0.2,
        }
    }

    /// A smooth curve: throughput rises to a knee and may fall after it; refusals rise around a
    /// number of threads.
    pub(super) fn random(random: &mut Random) -> Self {
        let service = random.scale(150.0, 20_000.0);
        let cores = random.scale(1.5, 40.0);
        let sharp = random.between(1.5, 6.0);
        let thrash = random.between(0.0, 0.04);
        // One core has four.
        let threads = (cores * random.scale(0.8, 5.0)).max(4.0);
        let steep = random.between(5.0, 14.0);
        let least = random.scale(1e-5, 1e-3);
        let point = |n: f64| {
            // A smooth minimum of `n` and the cores, and what each call beyond them costs.
            let busy = (n.powf(-sharp) + cores.powf(-sharp)).powf(-1.0 / sharp);
            let rate = busy / service * 1e6 / (1.0 + thrash * (n - cores).max(0.0) / cores.sqrt());
            let refused = 0.6 / (1.0 + (-(n / threads - 1.0) * steep).exp()) + least;
            (n, rate * (1.0 - 0.3 * refused), refused.min(0.9))
        };
        let steps = (0..60).map(|step| 1.12_f64.powi(step)).take_while(|n| *n < 700.0);
        Self {
            name: format!(
                "random: {service:.0} us, {cores:.1} cores, sharp {sharp:.1}, thrash {thrash:.3}, {threads:.1} threads, steep {steep:.1}"
            ),
            points: steps.map(point).collect(),
            inflight: 0,
            spread: random.between(0.0, 0.9),
        }
    }

    fn at(&self, n: f64) -> (f64, f64) {
        let last = self.points[self.points.len() - 1];
        let right = self.points.partition_point(|point| point.0 < n);
        if right == 0 {
            let first = self.points[0];
            return (first.1 * n / first.0, first.2);
        }
        if right == self.points.len() {
            return (last.1, last.2);
        }
        let (a, b) = (self.points[right - 1], self.points[right]);
        let part = (n - a.0) / (b.0 - a.0);
        (a.1 + part * (b.1 - a.1), a.2 + part * (b.2 - a.2))
    }
}

impl Server for Curve {
    fn call(&mut self, _now: Micros, others: usize, random: &mut Random) -> (Micros, bool) {
        self.inflight += 1;
        let n = (self.inflight + others) as f64;
        let (rate, refused) = self.at(n);
        if random.unit() < refused {
            return (REFUSAL as Micros, false);
        }
        let time = (n * 1e6 / rate - refused / (1.0 - refused) * (REFUSAL + 50.0) - 50.0).max(20.0);
        let spread = 1.0 + self.spread * (2.0 * random.unit() - 1.0);
        ((time * spread) as Micros, true)
    }

    fn ended(&mut self, _ran: bool) {
        self.inflight -= 1;
    }

    fn fresh(&self) -> Box<dyn Server> {
        Box::new(Self { inflight: 0, ..self.clone() })
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn service(&self) -> Micros {
        (self.points[0].0 * 1e6 / self.points[0].1) as Micros
    }
}

/// Cores that serve a queue in order of arrival; more calls than threads are refused.
#[derive(Clone)]
pub(super) struct Cores {
    pub(super) threads: usize,
    pub(super) service: Micros,
    /// Service times are distributed exponentially instead of evenly around the mean.
    pub(super) exponential: bool,
    /// When each core is free.
    free: BinaryHeap<Reverse<Micros>>,
    running: usize,
}

impl Cores {
    pub(super) fn new(cores: usize, threads: usize, service: Micros, exponential: bool) -> Self {
        let free = (0..cores).map(|_| Reverse(0)).collect();
        Self { threads, service, exponential, free, running: 0 }
    }
}

impl Server for Cores {
    fn call(&mut self, now: Micros, others: usize, random: &mut Random) -> (Micros, bool) {
        if self.running + others >= self.threads {
            return (REFUSAL as Micros, false);
        }
        self.running += 1;
        let part = if self.exponential { -random.unit().max(1e-9).ln() } else { random.between(0.8, 1.2) };
        let start = self.free.pop().map_or(now, |Reverse(free)| free.max(now));
        let end = start + (self.service as f64 * part) as Micros;
        self.free.push(Reverse(end));
        (end - now, true)
    }

    fn ended(&mut self, ran: bool) {
        if ran {
            self.running -= 1;
        }
    }

    fn fresh(&self) -> Box<dyn Server> {
        Box::new(Self::new(self.free.len(), self.threads, self.service, self.exponential))
    }

    fn name(&self) -> String {
        let Self { threads, service, exponential, .. } = self;
        let threads = if *threads == usize::MAX { "unlimited".to_owned() } else { threads.to_string() };
        format!(
            "{} cores, {threads} threads, {service} us{}",
            self.free.len(),
            if *exponential { ", exponential" } else { "" }
        )
    }

    fn service(&self) -> Micros {
        self.service
    }
}
