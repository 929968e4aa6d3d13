//! The state that all threads of the sidecar share.
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};

#[cfg(feature = "tls")]
use super::certificates::Acceptors;
use super::connections::Connections;
use super::liveness::Pings;
use super::modes::Modes;
use super::reload::Reload;
use super::shard::Live;
use super::systemd::Systemd;
use crate::census::Census;
use crate::config::Config;
use crate::lifecycle::{DrainHandle, Readiness};
use crate::limiter::Limiter;
use crate::limiter::admission::{Admission, Internal};
use crate::listener::admin::Access;
use crate::listener::grpc::local::Local;
use crate::models::catalog::Catalog;
use crate::models::changes::Changes;
use crate::models::problems::ModelProblems;
use crate::models::refresher::Refresher;
use crate::preprocessing::Preprocessing;
use crate::runs::Handover;
use crate::tasks::Failures;
use crate::telemetry::clients::Clients;
use crate::telemetry::events::Events;
use crate::telemetry::mistakes::Mistakes;
use crate::telemetry::recent::Recent;
use crate::upstream::target::Target;
use crate::upstream::up::Up;

/// What all threads share.
pub(crate) struct Shared {
    /// The configuration that requests see: as loaded, with the modes that an operator has changed.
    pub(super) config: Arc<ArcSwap<Config>>,
    pub(super) loaded: ArcSwap<Config>,
    pub(super) modes: Modes,
    pub(super) reload: Reload,
    pub(super) access: Arc<ArcSwap<Access>>,
    pub(super) target: Arc<Target>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) problems: Arc<ModelProblems>,
    pub(super) refresher: Refresher,
    pub(super) admission: Arc<Admission>,
    pub(super) connections: Connections,
    /// None if `upstream_concurrency` is `off`.
    pub(super) limiter: Option<Arc<Limiter>>,
    pub(super) handover: Arc<Handover>,
    pub(super) own: Internal,
    pub(super) up: Arc<Up>,
    pub(super) drain: DrainHandle,
    pub(super) readiness: Readiness,
    pub(super) clients: Arc<Clients>,
    pub(super) mistakes: Arc<Mistakes>,
    pub(super) census: Arc<Census>,
    pub(super) preprocessing: Arc<Preprocessing>,
    pub(super) changes: Arc<Changes>,
    pub(super) recent: Arc<Recent>,
    pub(super) unknown_models: Arc<Recent>,
    pub(super) events: Arc<Events>,
    pub(super) local: Local,
    pub(super) live: Vec<Arc<Live>>,
    /// Notified at the end of every client connection.
    pub(super) ended: Arc<Notify>,
    pub(super) stop: watch::Sender<bool>,
    /// Where critical tasks report that the process cannot go on.
    pub(super) failures: Failures,
    pub(super) pings: Pings,
    pub(super) systemd: Arc<Systemd>,
    #[cfg(feature = "tls")]
    pub(super) acceptor: arc_swap::ArcSwapOption<Acceptors>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("target", &self.target).finish_non_exhaustive()
    }
}

impl Shared {
    /// Lets requests see what is loaded and which modes an operator has changed.
    pub(super) fn activate(&self) {
        let mut config = Config::clone(&self.loaded.load());
        self.modes.apply(&mut config);
        self.access.store(Arc::new(Access::new(&config)));
        self.preprocessing.configure(&config);
        self.config.store(Arc::new(config));
    }

    /// Waits until requests are refused, and then until no client connection is left, at most for
    /// `drain_timeout`. Returns the number of requests that were in flight at that time; a request
    /// without a connection is about to end.
    pub(super) async fn drained(&self) -> usize {
        self.drain.begun().await;
        let empty = async {
            loop {
                let mut ended = std::pin::pin!(self.ended.notified());
                ended.as_mut().enable();
                if self.live.iter().all(|live| live.count() == 0) {
                    return;
                }
                ended.await;
            }
        };
        if tokio::time::timeout(self.config.load().drain_timeout, empty).await.is_ok() {
            return 0;
        }
        let in_flight = self.admission.requests();
        tracing::warn!(in_flight, "drain timed out");
        in_flight
    }
}
