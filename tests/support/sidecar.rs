//! Runs the sidecar in this process, with a configuration for tests, behind a fake server.
use std::net::SocketAddr;
use std::time::Duration;

use prost::Message as _;
use tfs_sidecar::config::{Config, ListenAddr, Source};
use tfs_sidecar::repair::policy::{ModelPolicy, Policy};
use tfs_sidecar::server::Sidecar;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::admin::{self, Metrics, Page};
use super::client::{Client, Request, Stream};
use super::fake_tfs::{FakeTfs, model::Model};
use super::within;

pub const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";
pub const HEALTH_WATCH: &str = "/grpc.health.v1.Health/Watch";

/// A running sidecar.
pub struct TestSidecar {
    pub grpc: String,
    pub admin: String,
    /// The address that takes only a drain; empty if it is not configured.
    pub drain: String,
    /// The address of the REST listener; empty if it is not configured.
    pub rest: String,
    sidecar: Sidecar,
}

/// A fake server, a sidecar in front of it, and a client of the sidecar.
pub struct Setup {
    pub fake: FakeTfs,
    pub sidecar: TestSidecar,
    pub client: Client,
}

/// An address of this machine with a free port.
pub fn free() -> ListenAddr {
    ListenAddr::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))
}

/// Free ports, one worker and quick polls. The models are declared, so readiness waits for them.
pub fn config(upstream: &str, models: impl IntoIterator<Item = String>) -> Config {
    Config {
        upstream: upstream.parse().expect("a valid address"),
        listen: free(),
        admin_listen: free(),
        workers: 1,
        poll_interval: Duration::from_millis(20),
        connect_timeout: Duration::from_secs(2),
        drain_delay: Duration::ZERO,
        drain_timeout: Duration::from_secs(10),
        models: models.into_iter().map(|model| (model, ModelPolicy::default())).collect(),
        ..Config::default()
    }
}

/// Changes the default policy and that of every declared model, as a key at the top of a
/// configuration file does.
pub fn policy(config: &mut Config, change: impl Fn(&mut Policy)) {
    change(&mut config.defaults.defaults);
    for model in config.models.values_mut() {
        change(&mut model.defaults);
    }
}

impl TestSidecar {
    /// Starts without waiting for readiness.
    pub fn start(config: Config) -> Self {
        Self::start_from(config, None)
    }

    /// The same with a configuration that is read again when it changes.
    pub fn start_from(config: Config, source: Option<Source>) -> Self {
        // Starting may block, which is not allowed on a thread of a runtime.
        let start = || Sidecar::start_from(config, source);
        let started = std::thread::spawn(start).join().expect("starting must not panic");
        let sidecar = started.unwrap_or_else(|error| panic!("the sidecar does not start: {error}"));
        let text = |addr: &ListenAddr| addr.to_string();
        let (grpc, admin) = (text(sidecar.grpc_addr()), text(sidecar.admin_addr()));
        let optional = |addr: Option<&ListenAddr>| addr.map(text).unwrap_or_default();
        let (drain, rest) = (optional(sidecar.drain_addr()), optional(sidecar.rest_addr()));
        Self { grpc, admin, drain, rest, sidecar }
    }

    pub async fn client(&self) -> Client {
        Client::connect(&self.grpc).await
    }

    pub async fn metrics(&self) -> Metrics {
        Metrics::read(&self.admin).await
    }

    pub async fn page(&self, path: &str) -> Page {
        admin::get(&self.admin, path).await
    }

    /// Posts to the admin listener, without a body.
    pub async fn post(&self, path: &str) -> Page {
        admin::post(&self.admin, path).await
    }

    /// Waits until gRPC health reports SERVING for the whole server.
    pub async fn ready(&self) {
        let client = self.client().await;
        let mut watch = watch(&client, "").await;
        until(&mut watch, ServingStatus::Serving).await;
    }

    /// Makes it read its configuration and certificates again, as SIGHUP does.
    pub fn reload(&self) {
        self.sidecar.reload()();
    }

    /// Drains the sidecar and waits for its end.
    pub async fn stop(self) {
        within("the end of the sidecar", self.sidecar.shutdown()).await;
    }
}

impl Setup {
    pub async fn new(models: impl IntoIterator<Item = Model>) -> Self {
        Self::with(models, |_| {}).await
    }

    pub async fn with(models: impl IntoIterator<Item = Model>, change: impl FnOnce(&mut Config)) -> Self {
        let models: Vec<Model> = models.into_iter().collect();
        let names: Vec<String> = models.iter().map(|model| model.name.clone()).collect();
        Self::before(FakeTfs::start(models), names, change).await
    }

    /// A sidecar in front of `fake`, ready for the models with these names.
    pub async fn before(fake: FakeTfs, names: Vec<String>, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config(fake.addr(), names);
        change(&mut config);
        let sidecar = TestSidecar::start(config);
        sidecar.ready().await;
        let client = sidecar.client().await;
        Self { fake, sidecar, client }
    }
}

/// Opens a health watch of a service.
pub async fn watch(client: &Client, service: &str) -> Stream {
    let request = HealthCheckRequest { service: service.to_owned() }.encode_to_vec();
    let mut stream = client.stream(Request::new(HEALTH_WATCH, &request)).await;
    stream.head().await.expect("health answers");
    stream
}

/// Reads a health watch until it reports `wanted`.
pub async fn until(watch: &mut Stream, wanted: ServingStatus) {
    loop {
        let message = watch.next().await.expect("health answers").expect("a health watch does not end");
        let status = HealthCheckResponse::decode(message).expect("a health watch sends its responses").status;
        if status == i32::from(wanted) {
            return;
        }
    }
}
