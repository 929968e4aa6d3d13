//! The control thread: accepts connections, polls TF Serving, serves the admin listener and updates
//! gRPC health. Requests do not wait for it, except those for a model that is not known yet.
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::sync::mpsc;
use tonic_health::server::HealthReporter;

use super::Shared;
use super::shard::Live;
use crate::lifecycle::Health;
use crate::listener::admin::Peer;
use crate::listener::bind::{Accepted, Listener};
use crate::models::refresher::{CommandReceiver, Worker};
use crate::retry::backoff::Backoff;
use crate::tasks::spawn_critical;
use crate::telemetry::metrics::Exporter;
use crate::upstream::pool::Pool;

/// How often the exporter sorts the samples of histograms into buckets.
const UPKEEP: Duration = Duration::from_secs(1);
/// What only the control thread owns.
pub(super) struct Control {
    pub shared: Arc<Shared>,
    pub listener: Listener,
    /// The admin listener and the one that takes only a drain.
    pub http: Vec<(Listener, Router)>,
    pub shards: Vec<(Arc<Live>, mpsc::Sender<Accepted>)>,
    pub commands: CommandReceiver,
    pub health: HealthReporter,
    pub exporter: Exporter,
}

/// Runs until the sidecar stops.
pub(super) async fn run(control: Control) {
    let Control { shared, listener, http, shards, commands, health, exporter } = control;
    let pool = Pool::start(Arc::clone(&shared.target), 1, &shared.up);
    let worker = Worker::new(
        Rc::clone(&pool),
        Arc::clone(&shared.catalog),
        Arc::clone(&shared.problems),
        Arc::clone(&shared.config),
        &shared.up,
    );
    // Before the first connection is accepted, so that no client sees tonic's default, SERVING.
    let mut health = Health::new(health, shared.readiness.clone());
    health.update().await;
    spawn_critical("refresher", worker.run(commands));
    spawn_critical("accept", accept(Arc::clone(&shared), listener, shards));
    for (listener, router) in http {
        let service = router.into_make_service_with_connect_info::<Peer>();
        spawn_critical("admin", async move {
            let served = match listener {
                Listener::Tcp(listener) => axum::serve(listener, service).await,
                Listener::Unix(listener, _file) => axum::serve(listener, service).await,
            };
            served.ok();
        });
    }
    spawn_critical("upkeep", async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            exporter.run_upkeep();
        }
    });
    if let Some(limiter) = &shared.limiter {
        spawn_critical("limiter", Arc::clone(limiter).watch());
    }
    spawn_critical("health", health.run());
    shared.stop.subscribe().wait_for(|stop| *stop).await.ok();
}

/// Hands each connection to the shard with the fewest connections, until the process stops. While
/// an operator's drain lasts, connections are closed at once, so that clients go elsewhere.
async fn accept(shared: Arc<Shared>, listener: Listener, shards: Vec<(Arc<Live>, mpsc::Sender<Accepted>)>) {
    let mut backoff = Backoff::new(1);
    let mut stopping = std::pin::pin!(shared.drain.stopping());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stopping => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(_) if shared.drain.is_draining() => {}
            Ok(accepted) => {
                backoff.reset();
                let Some((live, shard)) = shards.iter().min_by_key(|(live, _)| live.count()) else { return };
                live.add();
                if shard.send(accepted).await.is_err() {
                    return;
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
