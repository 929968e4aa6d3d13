//! Servers whose runs take a time that depends on their rows.
use super::super::Random;
use crate::concurrency::Micros;

/// The time of a run by its rows.
pub(super) type Cost = fn(f64) -> f64;

/// A model on a machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Curve {
    pub(super) name: &'static str,
    pub(super) cost: Cost,
    /// Runs at once; others wait in the server.
    pub(super) workers: usize,
    /// By this part each other run in progress slows a run.
    pub(super) slows: f64,
    /// The time of a run is off by up to this part.
    pub(super) noise: f64,
}

impl Curve {
    pub(super) const fn new(name: &'static str, workers: usize, cost: Cost) -> Self {
        Self { name, cost, workers, slows: 0.0, noise: 0.0 }
    }
}

#[derive(Debug)]
struct Job {
    id: u64,
    left: f64,
}

/// Runs in progress and in the server's queue, in order of arrival.
#[derive(Debug)]
pub(super) struct Server {
    workers: usize,
    slows: f64,
    jobs: Vec<Job>,
    now: Micros,
}

impl Server {
    pub(super) fn new(curve: &Curve) -> Self {
        Self { workers: curve.workers, slows: curve.slows, jobs: Vec::new(), now: 0 }
    }

    pub(super) fn submit(&mut self, id: u64, curve: &Curve, rows: u64, random: &mut Random, now: Micros) {
        self.advance(now);
        let noise = 1.0 + curve.noise * (2.0 * random.unit() - 1.0);
        self.jobs.push(Job { id, left: (curve.cost)(rows as f64) * noise });
    }

    /// When the next run is done.
    pub(super) fn next(&self) -> Option<Micros> {
        let left = self.jobs.iter().take(self.workers).map(|job| job.left);
        let least = left.fold(f64::INFINITY, f64::min);
        least.is_finite().then(|| self.now + (least.max(0.0) / self.speed()).ceil() as Micros)
    }

    /// Takes a run that is done.
    pub(super) fn done(&mut self, now: Micros) -> Option<u64> {
        self.advance(now);
        let at = self.jobs.iter().take(self.workers).position(|job| job.left <= 1e-6)?;
        Some(self.jobs.remove(at).id)
    }

    fn speed(&self) -> f64 {
        let running = self.jobs.len().min(self.workers).max(1);
        1.0 / (1.0 + self.slows * (running - 1) as f64)
    }

    fn advance(&mut self, now: Micros) {
        let done = (now - self.now) as f64 * self.speed();
        self.jobs.iter_mut().take(self.workers).for_each(|job| job.left -= done);
        self.now = now;
    }
}
