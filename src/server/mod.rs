//! The running sidecar: its threads, from start to drain.
//!
//! One control thread, and `workers` shard threads with a single-threaded runtime each. The control
//! thread accepts every connection and hands it to the shard with the fewest: the few long-lived
//! connections of a sidecar spread evenly that way, which hashing by the kernel (`SO_REUSEPORT`)
//! does not do for few. A request never leaves the thread of its connection.
mod control;
mod shard;
mod view;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, mpsc, watch};

use crate::config::{Config, ListenAddr};
use crate::lifecycle::{DrainHandle, Readiness};
use crate::limiter::Limiter;
use crate::limiter::admission::Admission;
use crate::listener::admin::{AdminState, router};
use crate::listener::bind::{Bound, Listener};
use crate::listener::grpc::local::Local;
use crate::models::catalog::Catalog;
use crate::models::refresher::Refresher;
use crate::telemetry::metrics;
use crate::telemetry::recent::Recent;
use crate::upstream::pool::Up;
use crate::upstream::target::{Target, TargetError};
use control::Control;
use shard::Live;

/// Connections on their way to a shard.
const HANDED_OVER: usize = 1024;
/// Repairs and refusals that the operators' page shows.
const RECENT: usize = 200;

/// Why the sidecar cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {addr}: {source}")]
    Listen { addr: ListenAddr, source: io::Error },
    #[error("upstream: {0}")]
    Upstream(#[from] TargetError),
    #[cfg(feature = "tls")]
    #[error("listen_tls: {0}")]
    Tls(#[from] crate::transport::tls::TlsError),
    #[cfg(not(feature = "tls"))]
    #[error("this build has no TLS: expected no `listen_tls`")]
    NoTls,
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
    #[error("descriptors for gRPC reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// What all threads share.
pub(crate) struct Shared {
    config: Arc<Config>,
    target: Arc<Target>,
    catalog: Arc<Catalog>,
    refresher: Refresher,
    admission: Arc<Admission>,
    /// None: TF Serving gets what comes.
    limiter: Option<Arc<Limiter>>,
    up: Arc<Up>,
    drain: DrainHandle,
    readiness: Readiness,
    recent: Arc<Recent>,
    local: Local,
    live: Vec<Arc<Live>>,
    /// Told at the end of every client connection.
    ended: Arc<Notify>,
    stop: watch::Sender<bool>,
    #[cfg(feature = "tls")]
    acceptor: Option<tokio_rustls::TlsAcceptor>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("target", &self.target).finish_non_exhaustive()
    }
}

/// A running sidecar. Dropping it stops it at once.
#[derive(Debug)]
pub struct Sidecar {
    shared: Arc<Shared>,
    grpc: ListenAddr,
    admin: ListenAddr,
    threads: Vec<JoinHandle<()>>,
}

impl Sidecar {
    /// Listens and starts its threads. TF Serving need not be there yet.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let bind = |addr: &ListenAddr| {
            Bound::new(addr).map_err(|source| StartError::Listen { addr: addr.clone(), source })
        };
        let target = Arc::new(Target::new(&config)?);
        #[cfg(feature = "tls")]
        let acceptor = config.listen_tls.as_ref().map(crate::transport::tls::acceptor).transpose()?;
        #[cfg(not(feature = "tls"))]
        if config.listen_tls.is_some() {
            return Err(StartError::NoTls);
        }
        let (listener, admin) = (bind(&config.listen)?, bind(&config.admin_listen)?);
        let addresses = (listener.addr()?, admin.addr()?);
        let exporter = metrics::install();
        let (local, health) = Local::new()?;
        let (refresher, inbox) = Refresher::new();

        let config = Arc::new(config);
        let catalog = Arc::new(Catalog::default());
        let up = Arc::new(Up::default());
        let drain = DrainHandle::new(Arc::clone(&up.changed));
        let declared: Arc<[String]> = config.models.keys().cloned().collect();
        let readiness = Readiness::new(Arc::clone(&catalog), Arc::clone(&up), drain.clone(), declared);
        let live: Vec<Arc<Live>> = (0..config.workers.max(1)).map(|_| Arc::default()).collect();
        let shared = Arc::new(Shared {
            target,
            catalog,
            refresher,
            admission: Admission::new(&config.limits),
            limiter: Limiter::new(config.upstream_concurrency, &config.limits),
            up,
            drain,
            readiness,
            recent: Arc::new(Recent::new(RECENT)),
            local,
            live: live.clone(),
            ended: Arc::default(),
            stop: watch::Sender::new(false),
            #[cfg(feature = "tls")]
            acceptor,
            config,
        });

        // From here on an early return drops `sidecar`, which stops the threads that run.
        let (grpc, admin_addr) = addresses;
        let mut sidecar = Self { shared: Arc::clone(&shared), grpc, admin: admin_addr, threads: Vec::new() };
        let mut shards = Vec::new();
        for (index, live) in live.into_iter().enumerate() {
            let (sender, inbox) = mpsc::channel(HANDED_OVER);
            shards.push((Arc::clone(&live), sender));
            let shared = Arc::clone(&shared);
            sidecar.spawn(format!("shard-{index}"), move || Ok(shard::run(shared, live, inbox)))?;
        }
        let view = Arc::new(view::ServerView(Arc::clone(&shared)));
        let router = router(AdminState { view, metrics: exporter.clone() });
        sidecar.spawn("control".to_owned(), move || {
            let (listener, admin) = (Listener::new(listener)?, Listener::new(admin)?);
            Ok(control::run(Control { shared, listener, admin, router, shards, inbox, health, exporter }))
        })?;
        Ok(sidecar)
    }

    /// Where clients connect, with the port that was chosen.
    pub fn grpc_addr(&self) -> &ListenAddr {
        &self.grpc
    }

    /// Where operators connect.
    pub fn admin_addr(&self) -> &ListenAddr {
        &self.admin
    }

    /// Drains (no new requests; those in flight finish within `drain_timeout`), then stops the
    /// threads and waits for them.
    pub async fn shutdown(mut self) {
        self.shared.drain.begin();
        self.shared.drained().await;
        self.shared.stop.send_replace(true);
        let threads = std::mem::take(&mut self.threads);
        // They end at once now; joining must all the same not hold the caller's runtime.
        tokio::task::spawn_blocking(move || join(threads)).await.ok();
    }

    /// A thread with a runtime of its own, on which nothing ever leaves the thread. Returns when
    /// what `work` makes runs there.
    fn spawn<F: Future<Output = ()>>(
        &mut self,
        name: String,
        work: impl FnOnce() -> io::Result<F> + Send + 'static,
    ) -> io::Result<()> {
        let (begun, begins) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            // Not a `LocalSet` within a `Runtime`: each socket that gets ready would wake the set,
            // and that is a system call.
            let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
            let made = runtime.and_then(|runtime| {
                let work = {
                    let _guard = runtime.enter();
                    work()?
                };
                Ok((runtime, work))
            });
            match made {
                Ok((runtime, work)) => {
                    begun.send(Ok(())).ok();
                    runtime.block_on(work);
                }
                Err(error) => drop(begun.send(Err(error))),
            }
        })?;
        self.threads.push(thread);
        begins.recv().unwrap_or_else(|_| Err(io::Error::other("it ended at once")))
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.shared.stop.send_replace(true);
        join(std::mem::take(&mut self.threads));
    }
}

impl Shared {
    /// Returns when no client connection is left, or `drain_timeout` is over.
    async fn drained(&self) {
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
        if tokio::time::timeout(self.config.drain_timeout, empty).await.is_err() {
            tracing::warn!(in_flight = self.admission.requests(), "drain timeout is over");
        }
    }
}

fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a thread of the sidecar panicked");
        }
    }
}
