//! The control thread: accepts connections, polls TF Serving, serves the admin listener and updates
//! gRPC health. Requests do not wait for it, except those for a model that is not known yet.
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use smallvec::SmallVec;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;

use super::Shared;
use super::files::Watched;
use super::reload::Reloader;
use super::shard::{Counted, Live};
use super::systemd;
use crate::config::Source;
use crate::lifecycle::Health;
use crate::listener::admin::serve::serve;
use crate::listener::bind::{Accepted, Listener};
use crate::models::forecasts::Forecasts;
use crate::models::refresher::{CommandReceiver, Worker};
use crate::pipeline::census::judge_body;
use crate::retry::backoff::Backoff;
use crate::tasks::{spawn_critical, spawn_isolated};
use crate::telemetry::log::FILTER;
use crate::telemetry::metrics::{ConnectionLimit, Door, Exporter, PanickedTask};
use crate::telemetry::traffic::STEP;
use crate::upstream::pool::Pool;

/// How often the exporter sorts the samples of histograms into buckets.
const UPKEEP: Duration = Duration::from_secs(1);
/// For this time after clients were told to go elsewhere, new connections are kept open,
/// unanswered. Such a client connects again to the addresses that it knows, and asks DNS for
/// others meanwhile. If it knows no other and the connection ended before DNS has answered, gRPC
/// would fail its requests.
const HELD_FOR: Duration = Duration::from_secs(1);

/// A shard: its connections, and where it takes new ones.
pub(super) type Handle = (Arc<Live>, mpsc::Sender<(Door, Accepted)>);

/// What only the control thread owns.
pub(super) struct Control {
    pub shared: Arc<Shared>,
    /// The listeners for clients.
    pub listeners: Vec<(Door, Listener)>,
    /// The admin listener and the one that takes only a drain.
    pub http: Vec<(Listener, Router)>,
    pub shards: Vec<Handle>,
    pub commands: CommandReceiver,
    pub health: Health,
    pub exporter: Exporter,
    /// Where the configuration was read.
    pub source: Option<Source>,
    /// The files of certificates as they are in use.
    pub files: Watched,
}

/// Runs until the sidecar stops.
pub(super) async fn run(control: Control) {
    let Control { shared, listeners, http, shards, commands, health, exporter, source, files } = control;
    let pool = Pool::start(Arc::clone(&shared.target), 1, &shared.up);
    let (changes, census) = (Arc::clone(&shared.changes), Arc::clone(&shared.census));
    let forecasts = Forecasts { changes, census, judge: judge_body };
    let worker = Worker::new(
        Rc::clone(&pool),
        Arc::clone(&shared.catalog),
        Arc::clone(&shared.problems),
        forecasts,
        Arc::clone(&shared.config),
        &shared.up,
    );
    spawn_critical("refresher", Rc::clone(&worker).run(commands));
    let file = Watched::default();
    let reloader = Reloader {
        shared: Arc::clone(&shared),
        worker,
        source,
        file,
        certificates: files,
        profiles: Watched::default(),
    };
    spawn_critical("reload", reloader.run());
    spawn_critical("log filter", FILTER.run());
    let of_modes = Arc::clone(&shared);
    spawn_critical("modes", async move {
        loop {
            of_modes.modes.expired().await;
            of_modes.activate();
        }
    });
    for (door, listener) in listeners {
        spawn_critical("accept", accept(Arc::clone(&shared), door, listener, shards.clone()));
    }
    drop(shards);
    for (listener, router) in http {
        let config = Arc::clone(&shared.config);
        let header_timeout = move || config.load().limits.handshake_timeout;
        spawn_critical("admin", serve(listener, router, header_timeout));
    }
    spawn_critical("drain", shared.drain.clone().run());
    let up = Arc::clone(&shared.up);
    let restarted = async move || up.restarted().await;
    spawn_critical("drain by a hook", shared.drain.clone().follow_restarts(restarted));
    let preprocessing = Arc::clone(&shared.preprocessing);
    spawn_critical("upkeep", async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            exporter.run_upkeep();
            preprocessing.forget_old(SystemTime::now());
            return_memory();
        }
    });
    let mistakes = Arc::clone(&shared.mistakes);
    spawn_critical("history", async move {
        let mut steps = tokio::time::interval(STEP);
        steps.tick().await;
        loop {
            steps.tick().await;
            mistakes.sample(SystemTime::now());
        }
    });
    if let Some(limiter) = &shared.limiter {
        spawn_critical("limiter", Arc::clone(limiter).watch());
    }
    spawn_critical("health", health.run());
    spawn_critical("systemd", systemd::report(Arc::clone(&shared.systemd), shared.readiness.clone()));
    spawn_critical("watchdog", systemd::watchdog(Arc::clone(&shared.systemd), shared.pings.clone()));
    shared.stop.subscribe().wait_for(|stop| *stop).await.ok();
}

/// Lets the allocator give unused memory back to the system. mimalloc (`page.c`, `arena.c`) does so
/// a second after it became unused, but only when a thread frees a large block, and after a peak
/// there may be no request that does. This block is never written to, so it takes no memory.
fn return_memory() {
    const LARGE: usize = 4 << 20;
    drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGE)));
}

/// Gives a connection to the shard with the fewest that takes it; false if none does.
fn hand_over(shards: &[Handle], door: Door, accepted: Accepted) -> bool {
    let mut by_load: SmallVec<[_; 16]> = shards.iter().map(|shard| (shard.0.count(), shard)).collect();
    by_load.sort_by_key(|(count, _)| *count);
    let mut accepted = (door, accepted);
    for (_, (live, shard)) in by_load {
        // Counted first: the shard may end it at once.
        live.add();
        // A shard that is stuck does not take its connections, and must not stop the others.
        match shard.try_send(accepted) {
            Ok(()) => return true,
            Err(TrySendError::Full(back) | TrySendError::Closed(back)) => accepted = back,
        }
        live.remove();
    }
    false
}

/// Hands each connection to the shard with the fewest connections. During a drain, connections are
/// held for a while and then closed, so that clients go elsewhere.
async fn accept(shared: Arc<Shared>, door: Door, listener: Listener, shards: Vec<Handle>) {
    let mut backoff = Backoff::new(1);
    let mut closed = std::pin::pin!(async {
        shared.drain.stopping().await;
        tokio::time::sleep(HELD_FOR).await;
    });
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut closed => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(accepted) => {
                backoff.reset();
                let is_full =
                    shards.iter().map(|(live, _)| live.count()).sum::<usize>() >= shared.connections.max();
                if let Some(since) = shared.drain.draining_since() {
                    if !is_full && let Some((live, _)) = shards.first() {
                        live.add();
                        let counted = Counted::of(live, &shared.ended);
                        let held = hold(accepted, counted, since + HELD_FOR);
                        spawn_isolated(PanickedTask::Connection, Box::pin(held));
                    }
                } else if is_full {
                    shared.connections.refused(ConnectionLimit::All);
                } else if !hand_over(&shards, door, accepted) {
                    shared.connections.refused(ConnectionLimit::Busy);
                }
            }
            Err(error) => {
                // Usually the process is out of file descriptors; without a wait this loop would
                // spin.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(backoff.wait()).await;
            }
        }
    }
}

/// Closes a connection at the end of its time, or at the end of the process.
async fn hold(accepted: Accepted, counted: Counted, until: Instant) {
    tokio::time::sleep_until(until).await;
    drop((accepted, counted));
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_shard_that_takes_no_connection_does_not_stop_the_others() {
        let (stuck, mut full) = mpsc::channel(1);
        let (other, mut taken) = mpsc::channel(1);
        let shards = [(Arc::new(Live::default()), stuck), (Arc::new(Live::default()), other)];
        let accepted = || Accepted::Unix(UnixStream::pair().unwrap().0);
        assert!(hand_over(&shards, Door::Grpc, accepted()));
        // The other one has more connections, but the first one is full.
        shards[1].0.add();
        shards[1].0.add();
        assert!(hand_over(&shards, Door::Grpc, accepted()));
        assert!(!hand_over(&shards, Door::Grpc, accepted()));
        assert_eq!(shards.each_ref().map(|(live, _)| live.count()), [1, 3]);
        assert!(full.try_recv().is_ok() && taken.try_recv().is_ok());
        drop(full);
        assert!(hand_over(&shards, Door::Grpc, accepted()), "a shard that has ended is passed over");
    }
}
