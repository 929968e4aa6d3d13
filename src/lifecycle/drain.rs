//! Draining: started by an operator, who may take it back, by the preStop hook of TF Serving, or
//! by the end of the process. First the sidecar only says that it is not ready; after a delay, it
//! tells clients to go elsewhere.
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// Starts and ends draining, and says whether it is under way. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct DrainHandle(Arc<DrainState>);

#[derive(Debug)]
struct DrainState {
    state: watch::Sender<State>,
    changed: Arc<Notify>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    phase: Phase,
    /// The process ends after the drain, which cannot be taken back.
    stopping: bool,
    /// Only the hook has asked for the drain.
    by_hook: bool,
}

/// Who starts a drain that does not end the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DrainedBy {
    /// Only an operator takes it back.
    Operator,
    /// The preStop hook of TF Serving. Kubernetes calls it before it deletes the pod, and also
    /// before it restarts TF Serving alone, for example after a failed liveness probe.
    Hook,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    /// Not ready, but connections and requests are accepted until then.
    Leaving {
        until: Instant,
    },
    Draining {
        since: Instant,
    },
}

/// A drain that cannot be taken back, because the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the process is stopping; the drain cannot be taken back")]
pub(crate) struct Stopping;

impl DrainHandle {
    pub(crate) fn new(changed: Arc<Notify>) -> Self {
        let serving = State { phase: Phase::Serving, stopping: false, by_hook: false };
        Self(Arc::new(DrainState { state: watch::Sender::new(serving), changed }))
    }

    /// Ends the delay of drains. Runs forever.
    pub(crate) async fn run(self) {
        let mut state = self.0.state.subscribe();
        loop {
            let now = *state.borrow_and_update();
            match now.phase {
                Phase::Leaving { until } => {
                    if tokio::time::timeout_at(until, state.changed()).await.is_err() {
                        self.change(|state| {
                            if let Phase::Leaving { until } = state.phase
                                && until <= Instant::now()
                            {
                                state.phase = Phase::Draining { since: Instant::now() };
                            }
                        });
                    }
                }
                Phase::Serving | Phase::Draining { .. } => drop(state.changed().await),
            }
        }
    }

    /// Starts a drain. The sidecar is not ready from now on. After the delay, new requests are
    /// refused, clients are told to reconnect elsewhere (GOAWAY), and requests in flight finish.
    pub(crate) fn begin(&self, delay: Duration, by: DrainedBy) {
        self.change(|state| {
            state.by_hook = by == DrainedBy::Hook && (state.by_hook || state.phase == Phase::Serving);
            state.leave(delay);
        });
    }

    /// Starts a drain for good, before the process ends. The delay of one that is under way holds.
    pub(crate) fn stop(&self, delay: Duration) {
        self.change(|state| {
            state.leave(delay);
            state.stopping = true;
        });
    }

    /// Takes a drain back: requests and connections are accepted again. Clients that were told to
    /// reconnect elsewhere do so all the same. Does nothing while not draining.
    ///
    /// # Errors
    /// The process is stopping.
    pub(crate) fn take_back(&self) -> Result<(), Stopping> {
        if self.take_back_if(|state| !state.stopping) {
            tracing::info!("the drain was taken back");
        }
        if self.0.state.borrow().stopping { Err(Stopping) } else { Ok(()) }
    }

    /// Takes a drain by the hook back when `restarted` returns: TF Serving runs again, so the pod
    /// stays. Runs forever.
    pub(crate) async fn follow_restarts(self, restarted: impl AsyncFn()) {
        loop {
            self.until(State::is_for_hook).await;
            tokio::select! {
                () = restarted() => {
                    if self.take_back_if(State::is_for_hook) {
                        tracing::warn!("TF Serving was restarted, so the drain by its preStop hook was taken back");
                    }
                }
                () = self.until(|state| !state.is_for_hook()) => {}
            }
        }
    }

    /// Whether a drain was taken back.
    fn take_back_if(&self, may: impl Fn(State) -> bool) -> bool {
        let mut is_taken_back = false;
        self.change(|state| {
            if state.phase != Phase::Serving && may(*state) {
                (state.phase, state.by_hook) = (Phase::Serving, false);
                is_taken_back = true;
            }
        });
        is_taken_back
    }

    /// Since when requests are refused; none while they are not.
    pub(crate) fn draining_since(&self) -> Option<Instant> {
        self.0.state.borrow().phase.draining_since()
    }

    /// Whether a drain was started, which makes the sidecar unready.
    pub(crate) fn is_leaving(&self) -> bool {
        self.0.state.borrow().phase != Phase::Serving
    }

    /// Returns when requests are refused.
    pub(crate) async fn begun(&self) {
        self.until(|state| state.phase.draining_since().is_some()).await;
    }

    /// Returns when no drain is under way.
    pub(crate) async fn taken_back(&self) {
        self.until(|state| state.phase == Phase::Serving).await;
    }

    /// Returns when the process is about to end, and requests are refused.
    pub(crate) async fn stopping(&self) {
        self.until(|state| state.stopping && state.phase.draining_since().is_some()).await;
    }

    async fn until(&self, reached: impl Fn(State) -> bool) {
        // The sender is in `self`, so the channel cannot close here.
        self.0.state.subscribe().wait_for(|state| reached(*state)).await.ok();
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut states = None;
        self.0.state.send_if_modified(|state| {
            let before = *state;
            change(state);
            states = Some((before, *state));
            before != *state
        });
        let Some((before, after)) = states else { return };
        if before.phase != after.phase {
            match after.phase {
                // The log says why.
                Phase::Serving => {}
                Phase::Leaving { until } => {
                    let delay = until.saturating_duration_since(Instant::now());
                    tracing::info!(?delay, "not ready, because of a drain; requests are still accepted");
                }
                Phase::Draining { .. } => tracing::info!("draining"),
            }
            self.0.changed.notify_one();
        }
    }
}

impl Phase {
    fn draining_since(self) -> Option<Instant> {
        if let Self::Draining { since } = self { Some(since) } else { None }
    }
}

impl State {
    /// Whether a drain is under way for the hook alone, and the process goes on.
    fn is_for_hook(self) -> bool {
        self.by_hook && !self.stopping
    }

    fn leave(&mut self, delay: Duration) {
        if self.phase != Phase::Serving {
            return;
        }
        let now = Instant::now();
        self.phase = match now.checked_add(delay) {
            Some(until) if !delay.is_zero() => Phase::Leaving { until },
            _ => Phase::Draining { since: now },
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_secs(5);

    impl DrainHandle {
        fn is_draining(&self) -> bool {
            self.draining_since().is_some()
        }
    }

    #[tokio::test]
    async fn a_drain_can_be_taken_back_until_the_process_stops() {
        let drain = DrainHandle::new(Arc::default());
        assert_eq!((drain.take_back(), drain.is_draining()), (Ok(()), false));
        drain.begin(Duration::ZERO, DrainedBy::Operator);
        drain.begun().await;
        assert!(drain.is_draining());
        assert_eq!(drain.take_back(), Ok(()));
        drain.taken_back().await;
        assert!(!drain.is_draining());
        drain.begin(Duration::ZERO, DrainedBy::Operator);
        drain.stop(Duration::ZERO);
        drain.stopping().await;
        assert_eq!((drain.take_back(), drain.is_draining()), (Err(Stopping), true));
        drain.begin(Duration::ZERO, DrainedBy::Operator);
        assert_eq!(drain.take_back(), Err(Stopping), "a later drain does not hide the stop");
    }

    #[tokio::test(start_paused = true)]
    async fn requests_are_accepted_until_the_delay_is_over() {
        let drain = DrainHandle::new(Arc::default());
        let running = tokio::spawn(drain.clone().run());
        let start = Instant::now();
        drain.begin(DELAY, DrainedBy::Operator);
        assert_eq!((drain.is_leaving(), drain.is_draining()), (true, false));
        tokio::time::advance(DELAY / 2).await;
        // The delay of the first drain holds.
        drain.begin(DELAY, DrainedBy::Operator);
        drain.stop(DELAY);
        assert!(!drain.is_draining());
        drain.stopping().await;
        assert_eq!((start.elapsed(), drain.is_draining()), (DELAY, true));
        running.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_that_is_taken_back_during_its_delay_refuses_nothing() {
        let drain = DrainHandle::new(Arc::default());
        let running = tokio::spawn(drain.clone().run());
        drain.begin(DELAY, DrainedBy::Operator);
        tokio::time::advance(DELAY / 2).await;
        assert_eq!(drain.take_back(), Ok(()));
        assert!(!drain.is_leaving());
        assert!(tokio::time::timeout(DELAY * 2, drain.begun()).await.is_err());
        let start = Instant::now();
        drain.begin(DELAY, DrainedBy::Operator);
        drain.begun().await;
        assert_eq!(start.elapsed(), DELAY, "the next one has its own delay");
        running.abort();
    }

    /// A drain started as `start` says. Says whether it is over after a restart of TF Serving.
    async fn ends_with_a_restart(start: impl FnOnce(&DrainHandle)) -> bool {
        let (drain, restart) = (DrainHandle::new(Arc::default()), Arc::new(Notify::new()));
        let restarted = Arc::clone(&restart);
        let following = drain.clone().follow_restarts(async move || restarted.notified().await);
        let following = tokio::spawn(following);
        start(&drain);
        let ended = async {
            restart.notify_one();
            drain.taken_back().await;
        };
        // Time is paused: it goes on when no task has anything to do.
        let ended = tokio::time::timeout(DELAY, ended).await.is_ok();
        assert!(!following.is_finished());
        following.abort();
        ended
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_drain_by_the_hook_ends_when_tf_serving_is_restarted() {
        use DrainedBy::{Hook, Operator};
        let begin = |drain: &DrainHandle, by| drain.begin(Duration::ZERO, by);
        assert!(ends_with_a_restart(|drain| begin(drain, Hook)).await);
        assert!(ends_with_a_restart(|drain| drain.begin(DELAY * 2, Hook)).await, "during the delay");
        let twice = |drain: &DrainHandle| [Hook, Hook].into_iter().for_each(|by| begin(drain, by));
        assert!(ends_with_a_restart(twice).await);
        for drains in [vec![Operator], vec![Operator, Hook], vec![Hook, Operator]] {
            let start = |drain: &DrainHandle| drains.iter().for_each(|by| begin(drain, *by));
            assert!(!ends_with_a_restart(start).await, "{drains:?}");
        }
        let stop = |drain: &DrainHandle| {
            begin(drain, Hook);
            drain.stop(Duration::ZERO);
        };
        assert!(!ends_with_a_restart(stop).await, "the process ends");
        let anew = |drain: &DrainHandle| {
            begin(drain, Hook);
            drain.take_back().unwrap();
            begin(drain, Operator);
        };
        assert!(!ends_with_a_restart(anew).await, "the drain of the hook is over");
    }
}
