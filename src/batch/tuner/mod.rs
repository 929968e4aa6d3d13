//! Learns, for the requests of one key, how many runs should be in flight and how many rows they
//! should have.
mod climb;
mod curve;
mod window;

use super::settings::Settings;
use crate::concurrency::Micros;
pub(crate) use climb::Wait;
use climb::{Climb, MIN_LINGER, Setting};
use curve::Curve;
use window::Window;

/// What is known of a key's runs.
#[derive(Debug)]
pub(crate) struct Tuner {
    settings: Settings,
    slo: Micros,
    curve: Curve,
    climb: Climb,
    window: Window,
    /// Runs in flight, and those of them that were formed under an earlier setting.
    inflight: usize,
    earlier: usize,
    /// Runs beside each other under this setting or the one before.
    beside: usize,
    /// Counts the settings.
    epoch: u32,
    /// The most rows that keep the latency below `slo_p99`.
    ceiling: f64,
    fixed: Option<Setting>,
}

/// What was learned, as a first guess for others: the next version of the model, or another key of
/// the signature.
#[derive(Debug, Clone, Default)]
pub(crate) struct Learned {
    curve: Curve,
    setting: Option<Setting>,
    /// It is not to be changed.
    fixed: bool,
}

/// Rounds of runs beside each other that are not looked at after a change.
const SETTLE: usize = 2;

/// A run that was answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    /// The number of the setting under which it was formed.
    pub(crate) epoch: u32,
    pub(crate) requests: u32,
    pub(crate) rows: u64,
    /// When its oldest member came, and when it was formed.
    pub(crate) came: Micros,
    pub(crate) started: Micros,
}

/// If requests are held back, it is until there are so many of the rows of a run in flight.
const HOLD: (u64, u64) = (3, 4);
/// If requests linger, it is for no longer than this part of a run.
const LINGER: Micros = 8;
/// Requests that come within this part of a run after one are probably of its clients.
const SOON: Micros = 4;
/// Rows are lowered by this factor when the latency is too high, and raised by one row after so
/// many runs for which it was not.
const LOWER: f64 = 0.75;
const RAISE_AFTER: f64 = 16.0;
/// The rows of a run are to blame for the latency if the run takes more than this part of it.
const BLAME: Micros = 4;

impl Learned {
    /// For comparisons: always so many runs and rows.
    #[cfg(test)]
    pub(super) fn fixed(runs: usize, rows: u64, wait: Wait) -> Self {
        Self { setting: Some(Setting { runs, rows, wait }), fixed: true, ..Self::default() }
    }
}

impl Tuner {
    pub(crate) fn new(settings: &Settings, learned: &Learned) -> Self {
        let most = settings.rows_per_run();
        Self {
            settings: settings.clone(),
            slo: settings.slo_p99.as_micros() as Micros,
            curve: learned.curve.clone(),
            climb: Climb::new(learned.setting, most),
            window: Window::started(),
            inflight: 0,
            earlier: 0,
            beside: 1,
            epoch: 0,
            ceiling: most as f64,
            fixed: learned.setting.filter(|_| learned.fixed),
        }
    }

    pub(crate) fn learned(&self) -> Learned {
        let setting = Some(self.climb.center());
        Learned { curve: self.curve.clone(), setting, fixed: self.fixed.is_some() }
    }

    #[cfg(test)]
    pub(super) fn describe(&self) -> String {
        let Setting { runs, rows, wait } = self.climb.center();
        format!("{runs} x {rows}{}", ["", ", held", ", lingering"][wait as usize])
    }

    fn setting(&self) -> Setting {
        self.fixed.unwrap_or_else(|| self.climb.setting())
    }

    /// How many runs may be in flight.
    pub(crate) fn runs(&self) -> usize {
        self.setting().runs
    }

    /// Whether so many waiting rows should wait for more, beside `runs` with `flying` rows
    /// together: with runs of one size in turn, no small one keeps the requests of a large one
    /// waiting.
    pub(crate) fn holds(&self, rows: u64, flying: u64, runs: usize) -> bool {
        self.setting().wait == Wait::Hold
            && rows < self.rows()
            && rows * runs as u64 * HOLD.1 < flying * HOLD.0
    }

    /// A run with so many rows has come back: how long the requests that wait should wait for the
    /// next ones of its clients. `None` if they should not.
    pub(crate) fn linger(&self, rows: u64) -> Option<Micros> {
        if self.setting().wait != Wait::Linger {
            return None;
        }
        self.expected(rows).filter(|time| *time >= MIN_LINGER).map(|time| time / LINGER)
    }

    /// How many rows the next run may have.
    pub(crate) fn rows(&self) -> u64 {
        let rows = self.setting().rows.min(self.ceiling as u64).max(1);
        let sizes = &self.settings.allowed_batch_sizes;
        // A size that is not allowed would be filled with rows that nobody needs.
        sizes.iter().rev().find(|size| **size <= rows).or(sizes.first()).copied().unwrap_or(rows)
    }

    /// How long a run with so many rows takes, if that is known.
    pub(crate) fn expected(&self, rows: u64) -> Option<Micros> {
        self.curve.expected(rows)
    }

    /// The least time that a run with so many rows may take.
    pub(crate) fn fastest(&self, rows: u64) -> Option<Micros> {
        self.curve.fastest(rows)
    }

    /// The learned cost of a run and of each of its rows, in microseconds.
    pub(crate) fn cost(&self) -> Option<(f64, f64)> {
        self.curve.line()
    }

    /// The cost of a row in a full run, in microseconds; at least 1.
    pub(crate) fn row_cost(&self) -> u64 {
        let rows = self.rows();
        self.expected(rows).map_or(1, |time| (time / rows).max(1))
    }

    /// A request came.
    pub(crate) fn came(&mut self, now: Micros) {
        self.window.came(now);
    }

    /// Requests left without an answer.
    pub(crate) fn left(&mut self, requests: usize, now: Micros) {
        self.window.inside(-(requests as i64), now);
    }

    /// A run was formed. `blocked`: its requests had to wait for a run to come back. `capped`: more
    /// waited than it may have. Returns the number of the setting that it has.
    pub(crate) fn formed(&mut self, blocked: bool, capped: bool) -> u32 {
        self.inflight += 1;
        self.window.formed(blocked, capped);
        self.epoch
    }

    /// A run that was formed has ended without an answer.
    pub(crate) fn failed(&mut self, epoch: u32, requests: usize, now: Micros) {
        self.ended(epoch, now);
        self.left(requests, now);
    }

    fn begin(&mut self, now: Micros) {
        let settle = if self.beside > 1 { SETTLE * self.beside } else { 0 };
        self.window.begin(settle, now);
    }

    fn ended(&mut self, epoch: u32, now: Micros) {
        self.inflight = self.inflight.saturating_sub(1);
        if epoch != self.epoch {
            self.earlier = self.earlier.saturating_sub(1);
            if self.earlier == 0 {
                self.begin(now);
            }
        }
    }

    /// A run was answered.
    pub(crate) fn answered(&mut self, ended: Ended, now: Micros) {
        let Ended { epoch, requests, rows, came, started } = ended;
        let time = now.saturating_sub(started);
        self.curve.add(rows, time);
        if self.slo > 0 {
            if now.saturating_sub(came) <= self.slo {
                self.ceiling = (self.ceiling + 1.0 / RAISE_AFTER).min(self.settings.rows_per_run() as f64);
            } else if time * BLAME > self.slo && rows as f64 <= self.ceiling {
                self.ceiling = (rows as f64 * LOWER).max(1.0);
            }
        }
        self.window.returned(now + time / SOON);
        self.window.inside(-i64::from(requests), now);
        let early = epoch != self.epoch;
        self.ended(epoch, now);
        if self.fixed.is_some() {
            return;
        }
        let before = self.climb.setting();
        self.climb.watch(self.window.peak());
        if !early && self.climb.setting() == before {
            let length = self.climb.length();
            match self.window.answered(requests, rows, before.runs, length, now) {
                Some((measure, true)) => self.climb.judge(measure, &self.curve),
                Some((measure, false)) => self.climb.glimpse(&measure),
                None => {}
            }
        }
        if self.climb.setting() != before {
            self.epoch += 1;
            self.earlier = self.inflight;
            self.beside = before.runs.max(self.climb.setting().runs);
            self.window.close(now);
            if self.earlier == 0 {
                self.begin(now);
            }
        }
    }
}
