//! The values of one input, in windows that follow each other.
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Arc;

use super::MAX_BYTES;
use crate::profile::{CallerFinding, Checks, Drift, Sample, Window};

/// Rows of a window. The next one starts empty, so that what was long ago does not count.
const ROWS: u64 = 8192;
/// Rows before the first decision, and between the first ones.
const STEP: u64 = 8;
/// A window without a finding takes back what an earlier one found once it has so many rows.
const CLEAR: u64 = 64;
/// Groups of values from which on drift is more than noise.
const MIN_DRIFT: u64 = 512;

/// The current window, and what the one before has said.
#[derive(Debug)]
pub(super) struct Rolling {
    window: Window,
    rows: u64,
    /// Whether every request had a value beyond the training data.
    always_outside: bool,
    /// Rows at which the next decision is due.
    next: u64,
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
    Found { finding: CallerFinding, always_outside: bool },
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
        Some(Self { window, rows: 0, always_outside: true, next: STEP, drift: None, charged, bytes: Arc::clone(bytes) })
    }

    /// Adds the values of a request. Returns whether a decision is due.
    pub(super) fn add(&mut self, checks: &Checks, sample: &Sample, is_outside: bool) -> bool {
        self.window.add(checks, sample);
        self.rows += sample.rows as u64;
        self.always_outside &= is_outside;
        self.is_due()
    }

    pub(super) fn is_due(&self) -> bool {
        self.rows >= self.next
    }

    /// Decides on the rows so far, and starts the next window if this one is full or has a finding.
    pub(super) fn decide(&mut self, checks: &Checks) -> Decision {
        self.next = self.rows + STEP.max(self.rows / 4);
        let found = self.window.verdict(checks);
        let (rows, always_outside) = (self.rows, self.always_outside);
        if found.is_some() || rows >= ROWS {
            self.restart(checks);
        }
        match found {
            Some(finding) => Decision::Found { finding, always_outside },
            None if rows >= CLEAR => Decision::Clear,
            None => Decision::Open,
        }
    }

    /// How far the values are from the profile: those of this window, or of the one before while
    /// this one has few.
    pub(super) fn drift(&self, checks: &Checks) -> Option<Drift> {
        let now = self.window.drift(checks);
        if now.groups >= MIN_DRIFT { Some(now) } else { self.drift.clone() }
    }

    /// Starts the next window if this one is full.
    pub(super) fn turn(&mut self, checks: &Checks) {
        if self.rows >= ROWS {
            self.restart(checks);
        }
    }

    fn restart(&mut self, checks: &Checks) {
        self.drift = self.drift(checks);
        self.window = Window::new(checks);
        (self.rows, self.next, self.always_outside) = (0, STEP, true);
    }
}

impl Drop for Rolling {
    fn drop(&mut self) {
        self.bytes.fetch_sub(self.charged, Relaxed);
    }
}
