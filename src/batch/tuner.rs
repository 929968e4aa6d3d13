//! Learns, for the requests of one key, how many runs should be in flight and how many rows they
//! should have.
use super::settings::Settings;
use crate::concurrency::Micros;

/// What is known of a key's runs.
#[derive(Debug)]
pub(crate) struct Tuner {
    max_rows: u64,
    /// Temporary: the mean time of a run.
    time: Option<f64>,
}

/// What was learned, as a first guess for others: the next version of the model, or another key of
/// the signature.
#[derive(Debug, Clone, Default)]
pub(crate) struct Learned {}

impl Tuner {
    pub(crate) fn new(settings: &Settings, _learned: &Learned) -> Self {
        Self { max_rows: settings.rows_per_run(), time: None }
    }

    pub(crate) fn learned(&self) -> Learned {
        Learned {}
    }

    /// How many runs may be in flight.
    pub(crate) fn runs(&self) -> usize {
        1
    }

    /// How many rows the next run may have.
    pub(crate) fn rows(&self) -> u64 {
        self.max_rows
    }

    /// How long a run with so many rows takes, if that is known.
    pub(crate) fn expected(&self, _rows: u64) -> Option<Micros> {
        self.time.map(|time| time as Micros)
    }

    /// The learned cost of a run and of each of its rows, in microseconds.
    pub(crate) fn cost(&self) -> Option<(f64, f64)> {
        None
    }

    /// The fastest that a run with so many rows may be expected to be.
    pub(crate) fn fastest(&self, rows: u64) -> Option<Micros> {
        self.expected(rows).map(|time| time / 2)
    }

    /// The cost of a row in a full run, in microseconds; at least 1.
    pub(crate) fn row_cost(&self) -> u64 {
        1
    }

    /// A request came.
    pub(crate) fn came(&mut self, _now: Micros) {}

    /// Requests left without an answer.
    pub(crate) fn left(&mut self, _requests: usize, _now: Micros) {}

    /// A run was formed. `blocked`: its requests had to wait for a run to come back. `capped`: more
    /// waited than it may have.
    pub(crate) fn formed(&mut self, _blocked: bool, _capped: bool, _now: Micros) {}

    /// A run was answered.
    pub(crate) fn answered(&mut self, _requests: u32, _rows: u64, started: Micros, now: Micros) {
        let time = (now - started) as f64;
        self.time = Some(self.time.map_or(time, |mean| mean + (time - mean) / 8.0));
    }
}
