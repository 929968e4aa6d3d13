//! What a task holds of the queue: a place in it, a run that is about to start, a run in flight.
//! All are given back when they are dropped.
use std::sync::Arc;

use super::{Member, RunHandle, Runs};
use crate::batch::{Formed, Refusal, RunId};
use crate::runs::Outcome;

/// A place in the queue. Left when dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    runs: Arc<Runs>,
    handle: RunHandle,
    key: u128,
    number: u64,
    done: bool,
}

/// A run that may start and has no members yet.
#[derive(Debug)]
pub(crate) struct Reserved {
    runs: Arc<Runs>,
    handle: RunHandle,
    key: u128,
    run: Option<RunId>,
}

/// A run in flight. It has failed if it is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    runs: Arc<Runs>,
    handle: RunHandle,
    run: Option<RunId>,
}

impl Waiting {
    pub(super) fn new(runs: &Arc<Runs>, handle: &RunHandle, key: u128, number: u64) -> Self {
        Self { runs: Arc::clone(runs), handle: handle.clone(), key, number, done: false }
    }

    /// The outcome has come.
    pub(crate) fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.done {
            let mut queue = self.runs.queue();
            if queue.cancel(self.key, self.number, self.runs.now()).is_some() {
                self.runs.start_runs(queue, &self.handle);
            }
        }
    }
}

impl Reserved {
    pub(super) fn new(runs: &Arc<Runs>, handle: &RunHandle, key: u128, run: RunId) -> Self {
        Self { runs: Arc::clone(runs), handle: handle.clone(), key, run: Some(run) }
    }

    pub(crate) fn runs(&self) -> &Arc<Runs> {
        &self.runs
    }

    /// Leaves the run reserved: the process ends.
    pub(super) fn abandon(mut self) {
        self.run = None;
    }

    /// Takes the members, now that the run has a permit. `None` if nobody waits any more.
    pub(crate) fn form(mut self) -> Option<(Running, Formed<Member>)> {
        let run = self.run.take()?;
        let running = Running::new(&self.runs, &self.handle, run);
        let mut queue = self.runs.queue();
        let formed = queue.form(self.key, run, self.runs.now());
        // Others may be allowed what this one was reserved for.
        self.runs.start_runs(queue, &self.handle);
        let Some(mut formed) = formed else {
            running.forget();
            return None;
        };
        let mut late = self.handle.outcomes();
        for (request, wait) in formed.late.drain(..) {
            let Member { outcome, shard, .. } = request.payload;
            late.push(shard, outcome, Outcome::Failed(self.runs.fault(Refusal::TooLate { wait })));
        }
        late.send();
        formed.members.retain(|request| !request.payload.outcome.is_closed());
        formed.rows = formed.members.iter().map(|request| request.rows).sum();
        if formed.members.is_empty() { None } else { Some((running, formed)) }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(run) = self.run.take() {
            drop(Running::new(&self.runs, &self.handle, run));
        }
    }
}

impl Running {
    pub(super) fn new(runs: &Arc<Runs>, handle: &RunHandle, run: RunId) -> Self {
        Self { runs: Arc::clone(runs), handle: handle.clone(), run: Some(run) }
    }

    /// TF Serving has run it, and the answer begins.
    pub(crate) fn answered(mut self) {
        self.end(true);
    }

    /// The queue has ended the run by itself.
    fn forget(mut self) {
        self.run = None;
    }

    fn end(&mut self, answered: bool) {
        let Some(run) = self.run.take() else { return };
        let mut queue = self.runs.queue();
        queue.finish(run, answered, self.runs.now());
        self.runs.start_runs(queue, &self.handle);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end(false);
    }
}
