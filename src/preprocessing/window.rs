//! The values of one input, in windows that follow each other.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::MAX_BYTES;
use crate::profile::{CallerFinding, Checks, Drift, Sample, Window};

/// Rows of a window. The next one starts empty, so that what was long ago does not count.
const ROWS: u64 = 8192;
/// A window without a finding takes back what an earlier one found once it has so many different
/// rows.
const CLEAR: u32 = 256;
/// Counted groups of values from which on drift is more than noise. Of the rows after the first 64,
/// every fourth is counted.
const MIN_DRIFT: u64 = 500;

/// The current window, and what the one before has said.
#[derive(Debug)]
pub(super) struct Rolling {
    window: Window,
    rows: u64,
    /// Whether every request had a value beyond the training data.
    always_outside: bool,
    /// Of the window before.
    drift: Option<Drift>,
    /// What it takes of the bytes of all windows.
    charged: u64,
    bytes: Arc<AtomicU64>,
}

/// What a window says of a caller.
#[derive(Debug)]
pub(super) enum Decision {
    /// Nothing yet.
    Open,
    Found {
        finding: CallerFinding,
        always_outside: bool,
    },
    /// What was found before is over.
    Clear,
}

impl Rolling {
    /// `None` if there is no memory for it.
    pub(super) fn new(checks: &Checks, bytes: &Arc<AtomicU64>) -> Option<Self> {
        let window = Window::new(checks);
        let charged = window.bytes() as u64;
        let fits = |all: u64| Some(all + charged).filter(|sum| *sum <= MAX_BYTES);
        bytes.fetch_update(Relaxed, Relaxed, fits).ok()?;
        Some(Self { window, rows: 0, always_outside: true, drift: None, charged, bytes: Arc::clone(bytes) })
    }

    /// Adds the values of a request, and starts the next window if this one is full. `is_outside`:
    /// whether a value is beyond the training data.
    pub(super) fn add(&mut self, checks: &Checks, sample: &Sample, is_outside: bool) -> Decision {
        self.window.add(checks, sample);
        self.rows += sample.rows as u64;
        self.always_outside &= is_outside;
        let found = self.window.verdict().cloned();
        let decision = match found {
            Some(finding) => Decision::Found { finding, always_outside: self.always_outside },
            None if self.window.rows() >= CLEAR || self.rows >= ROWS => Decision::Clear,
            None => Decision::Open,
        };
        if self.rows >= ROWS {
            self.restart(checks);
        }
        decision
    }

    /// Starts the next window.
    pub(super) fn restart(&mut self, checks: &Checks) {
        self.drift = self.drift(checks);
        self.window = Window::new(checks);
        (self.rows, self.always_outside) = (0, true);
    }

    /// How far the values are from the profile: those of this window, or of the one before while
    /// this one has few.
    pub(super) fn drift(&self, checks: &Checks) -> Option<Drift> {
        let now = self.window.drift(checks);
        if now.groups >= MIN_DRIFT { Some(now) } else { self.drift.clone() }
    }
}

impl Drop for Rolling {
    fn drop(&mut self) {
        self.bytes.fetch_sub(self.charged, Relaxed);
    }
}
