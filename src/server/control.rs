//! The control thread: accepts, polls TF Serving, serves the operators' door, keeps health true. No
//! request ever waits for it but those of a model that is not known yet.
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::Shared;
use super::shard::Live;
use crate::listener::bind::{Accepted, Listener};
use crate::models::refresher::{CommandReceiver, Worker};
use crate::retry::backoff::Backoff;
use crate::telemetry::metrics::{self, Exporter};
use crate::upstream::pool::Pool;

/// The exporter's histograms are sorted into their buckets so often.
const UPKEEP: Duration = Duration::from_secs(1);
/// The names under which health answers for everything: TF Serving's own short ones, and the full
/// ones that gRPC recommends.
pub(super) const SERVICES: [&str; 5] = [
    "",
    "PredictionService",
    "ModelService",
    "tensorflow.serving.PredictionService",
    "tensorflow.serving.ModelService",
];

/// What only this thread has.
pub(super) struct Control {
    pub shared: Arc<Shared>,
    pub listener: Listener,
    pub admin: Listener,
    pub router: Router,
    pub shards: Vec<(Arc<Live>, mpsc::Sender<Accepted>)>,
    pub inbox: CommandReceiver,
    pub health: HealthReporter,
    pub exporter: Exporter,
}

/// Runs until told to stop.
pub(super) async fn run(control: Control) {
    let Control { shared, listener, admin, router, shards, inbox, health, exporter } = control;
    let pool = Pool::start(Arc::clone(&shared.target), 1, &shared.up);
    let worker =
        Worker::new(Rc::clone(&pool), Arc::clone(&shared.catalog), Arc::clone(&shared.config), &shared.up);
    // Before the first connection is accepted, so that nobody sees tonic's default of "serving".
    let mut known = BTreeSet::new();
    let mut health = health;
    set_health(&shared, &mut health, &mut known).await;
    spawn_local(worker.run(inbox));
    spawn_local(accept(Arc::clone(&shared), listener, shards));
    spawn_local(async move {
        let served = match admin {
            Listener::Tcp(listener) => axum::serve(listener, router).await,
            Listener::Unix(listener, _file) => axum::serve(listener, router).await,
        };
        served.ok();
    });
    spawn_local(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            exporter.run_upkeep();
        }
    });
    if let Some(limiter) = &shared.limiter {
        spawn_local(Arc::clone(limiter).watch());
    }
    spawn_local(keep_health(Arc::clone(&shared), health, known));
    shared.stop.subscribe().wait_for(|stop| *stop).await.ok();
}

/// Hands each connection to the shard with the fewest, until draining begins.
async fn accept(shared: Arc<Shared>, listener: Listener, shards: Vec<(Arc<Live>, mpsc::Sender<Accepted>)>) {
    let mut backoff = Backoff::new(1);
    let mut draining = std::pin::pin!(shared.drain.begun());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut draining => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(accepted) => {
                backoff.reset();
                let Some((live, shard)) = shards.iter().min_by_key(|(live, _)| live.count()) else { return };
                live.add();
                if shard.send(accepted).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                // Most often no file descriptor is left: trying again at once would spin.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(backoff.wait()).await;
            }
        }
    }
}

/// Sets what gRPC health says whenever something changed that it depends on.
async fn keep_health(shared: Arc<Shared>, mut health: HealthReporter, mut known: BTreeSet<String>) {
    loop {
        shared.up.changed.notified().await;
        set_health(&shared, &mut health, &mut known).await;
    }
}

async fn set_health(shared: &Shared, health: &mut HealthReporter, known: &mut BTreeSet<String>) {
    let status = |serving: bool| if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
    let reachable = shared.up.count() > 0;
    metrics::upstream_up(shared.up.is_answering());
    let models = shared.catalog.snapshot();
    let names: BTreeSet<String> = models.into_keys().chain(shared.config.models.keys().cloned()).collect();
    for name in &names {
        let serving = reachable && !shared.drain.is_draining() && shared.catalog.serves(name);
        health.set_service_status(name, status(serving)).await;
    }
    for gone in known.difference(&names) {
        health.clear_service_status(gone).await;
    }
    *known = names;
    // Last, so that whoever sees the whole ready finds each model ready.
    for service in SERVICES {
        health.set_service_status(service, status(shared.readiness.is_ready())).await;
    }
}
