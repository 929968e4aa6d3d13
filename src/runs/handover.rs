//! Hands outcomes to members on other threads, and runs to the task that makes them. A thread is
//! woken once for all that it gets of a run.
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::{Confirmation, Outcome, Reserved, Runs};
use crate::concurrency::Micros;
use crate::tasks::spawn_isolated;
use crate::telemetry::metrics::PanickedTask;

/// What all threads share: where each receives.
#[derive(Debug, Default)]
pub(crate) struct Handover {
    senders: Mutex<Vec<mpsc::UnboundedSender<Delivery>>>,
}

/// One thread's handle.
#[derive(Debug, Clone)]
pub(crate) struct RunHandle {
    handover: Arc<Handover>,
    own: mpsc::UnboundedSender<Delivery>,
    number: usize,
}

/// Receives what is handed to one thread.
#[derive(Debug)]
pub(crate) struct RunReceiver(mpsc::UnboundedReceiver<Delivery>);

#[derive(Debug)]
enum Delivery {
    Outcomes(Vec<(oneshot::Sender<Outcome>, Outcome)>),
    Start(Reserved),
    Confirm(Box<Confirmation>),
    Wake { runs: Arc<Runs>, handle: RunHandle, at: Micros },
}

/// The outcomes of a run, by thread. Those for this thread are delivered at once, the others with
/// [`Outcomes::send`].
#[derive(Debug)]
pub(crate) struct Outcomes {
    handle: RunHandle,
    others: Vec<Vec<(oneshot::Sender<Outcome>, Outcome)>>,
}

impl Handover {
    /// The handle for one more thread, which has to run [`RunReceiver::serve`].
    #[expect(clippy::disallowed_methods, reason = "holds at most one item per waiting request")]
    pub(crate) fn handle(self: &Arc<Self>) -> (RunHandle, RunReceiver) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        senders.push(sender.clone());
        let number = senders.len() - 1;
        (RunHandle { handover: Arc::clone(self), own: sender, number }, RunReceiver(receiver))
    }
}

impl RunHandle {
    pub(super) fn number(&self) -> usize {
        self.number
    }

    pub(crate) fn outcomes(&self) -> Outcomes {
        Outcomes { handle: self.clone(), others: Vec::new() }
    }

    /// Has this thread make a run.
    pub(super) fn start(&self, reserved: Reserved) {
        if let Err(unsent) = self.own.send(Delivery::Start(reserved))
            && let Delivery::Start(reserved) = unsent.0
        {
            // The thread ends. Ending the run would start the next one, and so on.
            reserved.abandon();
        }
    }

    /// Has this thread make a run of copies.
    pub(crate) fn confirm(&self, confirmation: Box<Confirmation>) {
        self.own.send(Delivery::Confirm(confirmation)).ok();
    }

    /// Calls [`Runs::wake`] on this thread.
    pub(super) fn wake(&self, runs: Arc<Runs>, at: Micros) {
        self.own.send(Delivery::Wake { runs, handle: self.clone(), at }).ok();
    }
}

impl RunReceiver {
    /// Passes on outcomes, runs to `make` and runs of copies to `confirm`, until the process ends.
    pub(crate) async fn serve(mut self, make: impl Fn(Reserved), confirm: impl Fn(Box<Confirmation>)) {
        while let Some(delivery) = self.0.recv().await {
            match delivery {
                Delivery::Outcomes(outcomes) => {
                    for (member, outcome) in outcomes {
                        // A member that has left drops its outcome.
                        member.send(outcome).ok();
                    }
                }
                Delivery::Start(reserved) => make(reserved),
                Delivery::Confirm(confirmation) => confirm(confirmation),
                Delivery::Wake { runs, handle, at } => {
                    spawn_isolated(PanickedTask::Run, Box::pin(runs.wake(handle, at)));
                }
            }
        }
    }
}

impl Outcomes {
    /// Adds the outcome of a member on the thread `shard`.
    pub(crate) fn push(&mut self, shard: usize, member: oneshot::Sender<Outcome>, outcome: Outcome) {
        if shard == self.handle.number {
            member.send(outcome).ok();
            return;
        }
        if self.others.len() <= shard {
            self.others.resize_with(shard + 1, Vec::new);
        }
        self.others[shard].push((member, outcome));
    }

    pub(crate) fn send(self) {
        if self.others.iter().all(Vec::is_empty) {
            return;
        }
        let senders = self.handle.handover.senders.lock().unwrap_or_else(PoisonError::into_inner);
        for (sender, outcomes) in senders.iter().zip(self.others) {
            if !outcomes.is_empty() {
                sender.send(Delivery::Outcomes(outcomes)).ok();
            }
        }
    }
}
