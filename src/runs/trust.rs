//! Whether the answers of shared runs are right: how many members are compared with lone runs, and
//! when batching is switched off.
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use super::{Rows, Runs};
use crate::batch::{Part, Settings};
use crate::upstream::call::CallHead;

/// Runs that TF Serving refused, one after the other, although it takes their members alone.
const MAX_STRIKES: u32 = 3;

/// What is known of the runs of one version.
#[derive(Debug)]
pub(crate) struct Trust {
    /// Runs of which all members are still to be compared.
    probation: AtomicU32,
    /// One member in so many is compared after that; 0 for none.
    one_in: u64,
    members: AtomicU64,
    strikes: AtomicU32,
    /// Whether a [`ConfirmTurn`] is taken.
    confirming: AtomicBool,
    off: OnceLock<String>,
}

/// What the members of one run have found out alone. Judged when the last of them is done. A member
/// that has left, or whose lone run failed, says nothing.
#[derive(Debug)]
pub(crate) struct Check {
    runs: Arc<Runs>,
    kind: Kind,
    /// Members that have not reported [`Check::passed`].
    missing: AtomicUsize,
}

/// Where a member's rows are in their run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub offset: u64,
    /// The rows of the run, filled.
    pub rows: u64,
}

/// The right to confirm a small difference with one more run: one at a time for a signature. Given
/// back when dropped. A turn that is only dropped says nothing.
#[derive(Debug)]
pub(crate) struct ConfirmTurn {
    check: Arc<Check>,
    /// How the rows differ from those of the lone run.
    what: String,
}

/// A member whose rows differ a little from those of its lone run. They are compared with a run of
/// as many copies of its rows: is the difference due to the number of rows, or to other rows?
#[derive(Debug)]
pub(crate) struct Confirmation {
    pub turn: ConfirmTurn,
    pub part: Part,
    pub head: CallHead,
    pub rows: Rows,
    pub place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A run on probation.
    Probation,
    Sample,
    /// TF Serving refused the run, or its answer could not be cut.
    Refused,
}

impl Trust {
    pub(super) fn new(settings: &Settings) -> Self {
        let one_in =
            if settings.verify_sample > 0.0 { (1.0 / settings.verify_sample).round() as u64 } else { 0 };
        Self {
            probation: AtomicU32::new(settings.probation),
            one_in,
            members: AtomicU64::new(0),
            strikes: AtomicU32::new(0),
            confirming: AtomicBool::new(false),
            off: OnceLock::new(),
        }
    }

    /// Why batching was switched off, if it was.
    pub(crate) fn off(&self) -> Option<&str> {
        self.off.get().map(String::as_str)
    }

    /// Runs on probation that are still to come.
    pub(crate) fn probation(&self) -> u32 {
        self.probation.load(Relaxed)
    }

    /// Whether one more member is to be compared.
    pub(crate) fn is_sampled(&self) -> bool {
        self.one_in > 0 && self.members.fetch_add(1, Relaxed).is_multiple_of(self.one_in)
    }

    /// The answer of a shared run was cut: what TF Serving refused before was not the sharing.
    pub(crate) fn answered(&self) {
        if self.strikes.load(Relaxed) > 0 {
            self.strikes.store(0, Relaxed);
        }
    }

    fn switch_off(&self, runs: &Runs, why: String) {
        let model = runs.metrics.model();
        if self.off.set(why).is_ok() {
            let (signature, why) = (runs.signature.name.as_str(), self.off().unwrap_or_default());
            tracing::warn!(
                model,
                signature,
                why,
                "requests share no runs any more, until the next version of the model"
            );
            runs.metrics.switched_off();
        }
    }
}

impl Check {
    /// For a run whose members are all compared, if it is on probation.
    pub(crate) fn probation(runs: &Arc<Runs>, members: usize) -> Option<Arc<Self>> {
        (runs.trust.probation() > 0).then(|| Self::new(runs, Kind::Probation, members))
    }

    /// For a member that is compared.
    pub(crate) fn sample(runs: &Arc<Runs>) -> Arc<Self> {
        Self::new(runs, Kind::Sample, 1)
    }

    /// For a run that was refused.
    pub(crate) fn refused(runs: &Arc<Runs>, members: usize) -> Arc<Self> {
        Self::new(runs, Kind::Refused, members)
    }

    fn new(runs: &Arc<Runs>, kind: Kind, members: usize) -> Arc<Self> {
        Arc::new(Self { runs: Arc::clone(runs), kind, missing: AtomicUsize::new(members) })
    }

    /// A member was answered alone and, if it has rows of the shared run, those are the same.
    pub(crate) fn passed(&self) {
        self.missing.fetch_sub(1, Relaxed);
    }

    /// For a member whose rows differ a little from those of its lone run, unless a difference is
    /// being confirmed.
    pub(crate) fn turn(self: &Arc<Self>, what: &str) -> Option<ConfirmTurn> {
        let is_taken = self.runs.trust.confirming.swap(true, Relaxed);
        (!is_taken).then(|| ConfirmTurn { check: Arc::clone(self), what: what.to_owned() })
    }

    /// A member's rows differ from those of its lone run.
    pub(crate) fn diverged(&self, what: &str) {
        self.runs.metrics.diverged();
        self.runs.trust.switch_off(
            &self.runs,
            format!("the answer of a shared run differs from that of a lone run: {what}"),
        );
    }
}

impl ConfirmTurn {
    pub(crate) fn runs(&self) -> &Arc<Runs> {
        &self.check.runs
    }

    /// The rows are the same in a run of copies: the difference is rounding.
    pub(crate) fn same(self) {
        self.check.runs.metrics.rounded();
        self.check.passed();
    }

    /// The rows differ from those in a run of copies, or that run failed.
    pub(crate) fn differs(self, why: &str) {
        self.check.diverged(&format!("{}; in a run of copies of its rows: {why}", self.what));
    }
}

impl Drop for ConfirmTurn {
    fn drop(&mut self) {
        self.check.runs.trust.confirming.store(false, Relaxed);
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        let trust = &self.runs.trust;
        if self.missing.load(Relaxed) > 0 {
            return;
        }
        match self.kind {
            Kind::Probation => {
                trust.probation.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).ok();
            }
            Kind::Refused => {
                if trust.strikes.fetch_add(1, Relaxed) + 1 >= MAX_STRIKES {
                    let why = "TF Serving does not answer shared runs of requests that it answers alone";
                    trust.switch_off(&self.runs, why.to_owned());
                }
            }
            Kind::Sample => {}
        }
    }
}
