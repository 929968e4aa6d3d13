//! Learns, for the requests of one key, how many runs should be in flight and how many rows they
//! should have.
use super::settings::Settings;
use crate::concurrency::Micros;

/// What is known of a key's runs.
#[derive(Debug)]
pub(crate) struct Tuner {
    max_rows: u64,
}

/// What was learned, as a first guess for others: the next version of the model, or another key of
/// the signature.
#[derive(Debug, Clone, Default)]
pub(crate) struct Learned {}

impl Tuner {
    pub(crate) fn new(settings: &Settings, _learned: &Learned) -> Self {
        Self { max_rows: settings.rows_per_run() }
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
        None
    }

    /// The learned cost of a run and of each of its rows, in microseconds.
    pub(crate) fn cost(&self) -> Option<(f64, f64)> {
        None
    }

    /// The number of requests that wait or run, and of runs in flight, is this from now on.
    pub(crate) fn load(&mut self, _requests: usize, _runs: usize, _now: Micros) {}

    /// A run was answered.
    pub(crate) fn answered(&mut self, _requests: u32, _rows: u64, _started: Micros, _now: Micros) {}
}
