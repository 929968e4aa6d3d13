//! Draining: started by an operator, who may take it back, or by the end of the process.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, watch};

/// Starts and ends draining, and says whether it is under way. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct DrainHandle(Arc<DrainState>);

#[derive(Debug)]
struct DrainState {
    /// The same as `phase`, but cheaper to read: every request does.
    draining: AtomicBool,
    phase: watch::Sender<Phase>,
    changed: Arc<Notify>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    Draining,
    /// Draining because the process ends.
    Stopping,
}

/// A drain that cannot be taken back, because the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the process is stopping; the drain cannot be taken back")]
pub(crate) struct Stopping;

impl DrainHandle {
    pub(crate) fn new(changed: Arc<Notify>) -> Self {
        Self(Arc::new(DrainState {
            draining: AtomicBool::new(false),
            phase: watch::Sender::new(Phase::Serving),
            changed,
        }))
    }

    /// Starts draining: new requests are refused, clients are told to reconnect elsewhere (GOAWAY),
    /// and requests in flight finish.
    pub(crate) fn begin(&self) {
        self.enter(Phase::Draining);
    }

    /// Starts draining for good, before the process ends.
    pub(crate) fn stop(&self) {
        self.enter(Phase::Stopping);
    }

    /// Takes a drain back: requests and connections are accepted again. Clients that were told to
    /// reconnect elsewhere do so all the same. Does nothing while not draining.
    ///
    /// # Errors
    /// The process is stopping.
    pub(crate) fn take_back(&self) -> Result<(), Stopping> {
        if self.enter(Phase::Serving) == Phase::Stopping { Err(Stopping) } else { Ok(()) }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// Returns when draining has started.
    pub(crate) async fn begun(&self) {
        self.until(|phase| phase != Phase::Serving).await;
    }

    /// Returns when no drain is under way.
    pub(crate) async fn taken_back(&self) {
        self.until(|phase| phase == Phase::Serving).await;
    }

    /// Returns when the process is about to end.
    pub(crate) async fn stopping(&self) {
        self.until(|phase| phase == Phase::Stopping).await;
    }

    async fn until(&self, reached: impl Fn(Phase) -> bool) {
        // The sender is in `self`, so the channel cannot close here.
        self.0.phase.subscribe().wait_for(|phase| reached(*phase)).await.ok();
    }

    /// Enters a phase, unless the process is stopping. Returns the phase before.
    fn enter(&self, next: Phase) -> Phase {
        let mut before = next;
        let changed = self.0.phase.send_if_modified(|phase| {
            before = *phase;
            let changes = before != Phase::Stopping && before != next;
            if changes {
                *phase = next;
                self.0.draining.store(next != Phase::Serving, Ordering::SeqCst);
            }
            changes
        });
        if changed {
            match (before, next) {
                (_, Phase::Serving) => tracing::info!("the drain was taken back"),
                (Phase::Serving, _) => tracing::info!("draining"),
                _ => {}
            }
            self.0.changed.notify_one();
        }
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_drain_can_be_taken_back_until_the_process_stops() {
        let drain = DrainHandle::new(Arc::default());
        assert_eq!((drain.take_back(), drain.is_draining()), (Ok(()), false));
        drain.begin();
        drain.begun().await;
        assert!(drain.is_draining());
        assert_eq!(drain.take_back(), Ok(()));
        drain.taken_back().await;
        assert!(!drain.is_draining());
        drain.begin();
        drain.stop();
        drain.stopping().await;
        assert_eq!((drain.take_back(), drain.is_draining()), (Err(Stopping), true));
        drain.begin();
        assert_eq!(drain.take_back(), Err(Stopping), "a later drain does not hide the stop");
    }
}
