//! What is going on, so that a client can tell an accident from a fault.
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long requests may still fail after TF Serving works again: the next dial, and calls that
/// were waiting.
const RECOVERY: Duration = Duration::from_secs(5);

/// How long the sidecar may take to learn of a new version, if TF Serving answers.
const LEARNED: Duration = Duration::from_secs(5);

/// The mode of the model `echo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Repair,
    Strict,
    /// A configuration with another mode was written, and is not known to be in use.
    Changing,
}

/// The state that accidents change and clients read.
#[derive(Debug)]
pub(crate) struct World {
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    /// When TF Serving died or froze, if it still is, and when the last such time ended.
    outage: Option<Instant>,
    ended: Option<Instant>,
    /// Until when the sidecar may not know the version, outages aside.
    unlearned: Option<Instant>,
    mode: Mode,
    /// Configurations that were written so far, so that two changes in between are noticed.
    changes: u64,
    /// The versions of the models that may answer: the oldest and the newest.
    versions: (i64, i64),
}

/// The world when a request was sent.
#[derive(Debug)]
pub(crate) struct Moment {
    sent: Instant,
    state: State,
}

/// What may have been the case while a request was in flight.
#[derive(Debug)]
pub(crate) struct Meanwhile {
    /// There was an outage, or one had just ended.
    pub(crate) outage: bool,
    /// The sidecar may have judged by an older version than the one that answers.
    pub(crate) stale: bool,
    pub(crate) mode: Mode,
    pub(crate) versions: (i64, i64),
}

impl World {
    pub(crate) fn new() -> Self {
        let (mode, versions) = (Mode::Repair, (1, 1));
        let state = State { outage: None, ended: None, unlearned: None, mode, changes: 0, versions };
        Self { state: Mutex::new(state) }
    }

    pub(crate) fn now(&self) -> Moment {
        Moment { sent: Instant::now(), state: *self.state.lock().unwrap() }
    }

    /// Between that moment and now.
    pub(crate) fn since(&self, then: &Moment) -> Meanwhile {
        let now = *self.state.lock().unwrap();
        let same = then.state.changes == now.changes && then.state.mode == now.mode;
        Meanwhile {
            outage: now.outage.is_some() || now.ended.is_some_and(|ended| ended + RECOVERY > then.sent),
            stale: now.unlearned.is_some_and(|until| until > now.outage.unwrap_or(then.sent)),
            mode: if same { now.mode } else { Mode::Changing },
            versions: (then.state.versions.0, now.versions.1),
        }
    }

    pub(crate) fn outage_begins(&self) {
        self.state.lock().unwrap().outage = Some(Instant::now());
    }

    pub(crate) fn outage_ends(&self) {
        let mut state = self.state.lock().unwrap();
        let began = state.outage.take();
        state.ended = Some(Instant::now());
        if state.unlearned > began {
            state.unlearned = Some(Instant::now() + LEARNED);
        }
    }

    pub(crate) fn mode_changes(&self) {
        let mut state = self.state.lock().unwrap();
        (state.mode, state.changes) = (Mode::Changing, state.changes + 1);
    }

    pub(crate) fn mode_is(&self, mode: Mode) {
        self.state.lock().unwrap().mode = mode;
    }

    pub(crate) fn newest_version(&self) -> i64 {
        self.state.lock().unwrap().versions.1
    }

    /// This version may answer from now on.
    pub(crate) fn version_comes(&self, version: i64) {
        let mut state = self.state.lock().unwrap();
        (state.versions.1, state.unlearned) = (version, Some(Instant::now() + LEARNED));
    }

    /// No older version answers a request that is sent from now on.
    pub(crate) fn version_is(&self, version: i64) {
        self.state.lock().unwrap().versions.0 = version;
    }
}
