//! The running sidecar: its threads, from start to drain.
//!
//! There is one control thread, and `workers` shard threads, each with a single-threaded runtime.
//! The control thread accepts all connections and hands each to the shard with the fewest. That
//! spreads the few long-lived connections of a sidecar evenly, which the kernel's hashing
//! (`SO_REUSEPORT`) does only for many. The task of a request never leaves the thread of its
//! connection.
mod addresses;
mod certificates;
pub(crate) mod check;
mod connections;
mod control;
mod files;
mod fixes;
mod liveness;
mod modes;
mod reload;
mod shard;
mod shared;
mod systemd;
mod traces;
mod view;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, watch};

use crate::census::Census;
use crate::config::{Config, ListenAddr, Problems, Source, profiles};
use crate::lifecycle::{DrainHandle, Health, Readiness};
use crate::limiter::Limiter;
use crate::limiter::admission::Admission;
use crate::listener::admin::{Access, AdminState, TokenError, drain_router, router};
use crate::listener::bind::{Bound, Listener};
use crate::listener::grpc::local::Local;
use crate::models::catalog::Catalog;
use crate::models::problems::ModelProblems;
use crate::models::refresher::Refresher;
use crate::preprocessing::Preprocessing;
use crate::tasks::{self, Failures};
use crate::telemetry;
use crate::telemetry::clients::Clients;
use crate::telemetry::metrics::{self, Door};
use crate::telemetry::mistakes::Mistakes;
use crate::telemetry::recent::Recent;
use crate::upstream::target::{Target, TargetError};
use crate::upstream::up::Up;
use certificates::Certificates;
use connections::Connections;
use control::Control;
use files::{Files, Watched};
use liveness::Pings;
use modes::Modes;
use reload::Reload;
use shard::Live;
use shared::Shared;
use systemd::Systemd;

/// Accepted connections that may wait for a shard to take them.
const MAX_HANDED_OVER: usize = 1024;
/// Repairs and rejections that the admin page lists.
const MAX_RECENT: usize = 200;
/// Of these, those of one client with the same rule or reason.
const MAX_RECENT_ALIKE: usize = 3;
/// Unknown models that it lists, of all clients and of one.
const MAX_UNKNOWN: usize = 64;
const MAX_UNKNOWN_ALIKE: usize = MAX_UNKNOWN / 2;

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
    #[error("listen_tls is set, but this build has no TLS")]
    NoTls,
    #[error(transparent)]
    Profiles(#[from] Problems),
    #[error("admin_token_file: {0}")]
    Token(#[from] TokenError),
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
    #[error("descriptors for gRPC reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// A running sidecar. Dropping it stops it immediately, without a drain.
#[derive(Debug)]
pub struct Sidecar {
    shared: Arc<Shared>,
    grpc: ListenAddr,
    rest: Option<ListenAddr>,
    admin: ListenAddr,
    drain: Option<ListenAddr>,
    threads: Vec<JoinHandle<()>>,
}

impl Sidecar {
    /// Binds the listeners and starts the threads. TF Serving need not be running yet.
    ///
    /// # Errors
    ///
    /// Fails if an address cannot be bound, a TLS file cannot be used, the upstream address is not
    /// valid, or a thread cannot be started.
    pub fn start(config: Config) -> Result<Self, StartError> {
        Self::start_from(config, None)
    }

    /// The same with a configuration that was loaded from `source`, which is read again when it
    /// changes.
    ///
    /// # Errors
    ///
    /// As for [`Sidecar::start`].
    pub fn start_from(mut config: Config, source: Option<Source>) -> Result<Self, StartError> {
        let bind = |addr: &ListenAddr, mode| {
            Bound::new(addr, mode).map_err(|source| StartError::Listen { addr: addr.clone(), source })
        };
        profiles::require(&mut config)?;
        let target = Arc::new(Target::new(&config)?);
        let files = Watched::new(Files::read(certificates::files(&config)));
        let certificates = Certificates::read(&config)?;
        let admin_mode = config.admin_socket_mode;
        let listener = bind(&config.listen, config.listen_socket_mode)?;
        let rest =
            config.rest_listen.as_ref().map(|addr| bind(addr, config.listen_socket_mode)).transpose()?;
        let admin = bind(&config.admin_listen, admin_mode)?;
        let drain_listener = config.drain_listen.as_ref().map(|addr| bind(addr, admin_mode)).transpose()?;
        let access = Access::new(&config);
        access.token()?;
        let (grpc, admin_addr) = (listener.addr()?, admin.addr()?);
        let rest_addr = rest.as_ref().map(Bound::addr).transpose()?;
        let drain_addr = drain_listener.as_ref().map(Bound::addr).transpose()?;
        let exporter = metrics::install();
        let (refresher, commands) = Refresher::new();
        let workers = config.workers.max(1);
        let in_force = Arc::new(ArcSwap::from_pointee(config.clone()));
        let catalog = Arc::new(Catalog::default());
        let up = Arc::new(Up::default());
        let drain = DrainHandle::new(Arc::clone(&up.changed));
        let problems = Arc::new(ModelProblems::default());
        let readiness = Readiness {
            catalog: Arc::clone(&catalog),
            problems: Arc::clone(&problems),
            up: Arc::clone(&up),
            drain: drain.clone(),
            config: Arc::clone(&in_force),
        };
        let health = Health::new(readiness.clone());
        let local = Local::new(health.service())?;
        let (pings, ping_receivers) = Pings::new(workers);
        let live: Vec<Arc<Live>> = (0..workers).map(|_| Arc::default()).collect();
        let admission = Admission::new(&config.limits);
        let access = Arc::new(ArcSwap::from_pointee(access));
        let shared = Arc::new(Shared {
            config: in_force,
            modes: Modes::default(),
            reload: Reload::new(source.as_ref()),
            access: Arc::clone(&access),
            target,
            catalog,
            problems,
            refresher,
            admission: Arc::clone(&admission),
            connections: Connections::new(&config),
            limiter: Limiter::new(config.upstream_concurrency, &config.limits),
            handover: Arc::default(),
            own: admission.internal(),
            up,
            drain,
            readiness,
            clients: Clients::new(config.max_clients),
            mistakes: Mistakes::new(config.max_clients, SystemTime::now()),
            census: Census::new(std::time::Instant::now(), SystemTime::now()),
            preprocessing: Preprocessing::of(&config),
            changes: Arc::default(),
            recent: Arc::new(Recent::new(MAX_RECENT, MAX_RECENT_ALIKE)),
            unknown_models: Arc::new(Recent::new(MAX_UNKNOWN, MAX_UNKNOWN_ALIKE)),
            events: Arc::default(),
            local,
            live: live.clone(),
            ended: Arc::default(),
            stop: watch::Sender::new(false),
            failures: Failures::default(),
            pings,
            systemd: Arc::new(Systemd::from_environment()),
            #[cfg(feature = "tls")]
            acceptor: arc_swap::ArcSwapOption::empty(),
            loaded: ArcSwap::from_pointee(config),
        });
        certificates.apply(&shared);

        // From here on, an early return drops `sidecar`, which stops the threads already started.
        let mut sidecar = Self {
            shared: Arc::clone(&shared),
            grpc,
            rest: rest_addr,
            admin: admin_addr,
            drain: drain_addr,
            threads: Vec::new(),
        };
        let otlp = shared.config.load().otlp.clone();
        let traces = otlp.endpoint.is_some().then(|| telemetry::traces::channel(&otlp));
        let mut shards = Vec::new();
        for (index, (live, pings)) in live.into_iter().zip(ping_receivers).enumerate() {
            let (sender, accepted) = mpsc::channel(MAX_HANDED_OVER);
            shards.push((Arc::clone(&live), sender));
            let shared = Arc::clone(&shared);
            let name = liveness::shard_name(index);
            let traces = traces.as_ref().map(|(sender, _)| sender.clone());
            sidecar.spawn(name, move || Ok(shard::run(shared, live, accepted, pings, traces)))?;
        }
        // Once the shards have ended, nobody has a sender.
        if let Some((_, receiver)) = traces {
            let shared = Arc::clone(&shared);
            sidecar.spawn("traces".to_owned(), move || Ok(traces::run(shared, receiver)))?;
        }
        let view = Arc::new(view::ServerView(Arc::clone(&shared)));
        let state = AdminState { view, access, metrics: exporter.clone() };
        sidecar.spawn("control".to_owned(), move || {
            let mut listeners = vec![(Door::Grpc, Listener::new(listener)?)];
            if let Some(rest) = rest {
                listeners.push((Door::Rest, Listener::new(rest)?));
            }
            let mut http = vec![(Listener::new(admin)?, router(state.clone()))];
            if let Some(drain) = drain_listener {
                http.push((Listener::new(drain)?, drain_router(state)));
            }
            Ok(control::run(Control {
                shared,
                listeners,
                http,
                shards,
                commands,
                health,
                exporter,
                source,
                files,
            }))
        })?;
        Ok(sidecar)
    }

    /// What makes the sidecar read the configuration and the certificates again, even if they did
    /// not change.
    pub fn reload(&self) -> impl Fn() + Send + use<> {
        let shared = Arc::clone(&self.shared);
        move || shared.reload.request()
    }

    /// Returns once a thread or a background task panicked. The sidecar is then of no use, and the
    /// process should end.
    pub fn failed(&self) -> impl Future<Output = ()> + use<> {
        self.shared.failures.clone().reported()
    }

    /// Drains, then stops and joins the threads. New requests are rejected after `drain_delay`, and
    /// those in flight have `drain_timeout` to finish after that.
    pub async fn shutdown(mut self) {
        let config = self.shared.config.load_full();
        self.shared.systemd.stopping(&config);
        self.shared.drain.stop(config.drain_delay);
        self.shared.drained().await;
        self.shared.stop.send_replace(true);
        let threads = std::mem::take(&mut self.threads);
        // The threads end quickly, but joining them must still not block the caller's runtime.
        tokio::task::spawn_blocking(move || join(threads)).await.ok();
    }

    /// Starts a thread with its own single-threaded runtime, and returns once the future that
    /// `work` creates is about to run there.
    fn spawn<F: Future<Output = ()>>(
        &mut self,
        name: String,
        work: impl FnOnce() -> io::Result<F> + Send + 'static,
    ) -> io::Result<()> {
        let (report, started) = std::sync::mpsc::sync_channel(1);
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().name(name.clone()).spawn(move || {
            shared.failures.run_thread(&name, || {
                // Not a `LocalSet` in a `Runtime`, where every socket that becomes ready wakes the
                // set with a system call.
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
                        report.send(Ok(())).ok();
                        runtime.block_on(tasks::critical(&name, work));
                    }
                    Err(error) => drop(report.send(Err(error))),
                }
            });
        })?;
        self.threads.push(thread);
        started.recv().unwrap_or_else(|_| Err(io::Error::other("the thread ended during its start")))
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.shared.stop.send_replace(true);
        // After a panic, a thread may never end.
        if !self.shared.failures.is_reported() {
            join(std::mem::take(&mut self.threads));
        }
    }
}

fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        // A panic was reported by the thread itself.
        thread.join().ok();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sidecar() -> Sidecar {
        let free = || ListenAddr::Tcp(([127, 0, 0, 1], 0).into());
        Sidecar::start(Config { listen: free(), admin_listen: free(), workers: 1, ..Config::default() })
            .unwrap()
    }

    /// Whether the sidecar reports a failure after a thread with this work was started.
    fn fails(work: impl Future<Output = ()> + Send + 'static) -> bool {
        let mut sidecar = sidecar();
        sidecar.spawn("test".to_owned(), || Ok(work)).unwrap();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let failed =
            runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), sidecar.failed()).await });
        // Returns although the thread may never end.
        drop(sidecar);
        failed.is_ok()
    }

    #[test]
    fn a_panic_of_a_thread_or_of_a_background_task_is_a_failure_of_the_sidecar() {
        assert!(fails(async { panic!("a bug") }));
        assert!(fails(async {
            tasks::spawn_critical("inner", async { panic!("a bug") });
            std::future::pending::<()>().await;
        }));
    }

    #[test]
    fn a_sidecar_that_is_dropped_does_not_fail() {
        let sidecar = sidecar();
        let failures = sidecar.shared.failures.clone();
        drop(sidecar);
        assert!(!failures.is_reported());
    }
}
