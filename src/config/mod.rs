//! The configuration: every setting, from flags, the environment, a file and the defaults.
//!
//! [`load::load`] turns text into a [`Config`]; code starts from `Config::default()`. The keys of
//! the file, a line each, are in `keys.rs`.
mod address;
mod cursor;
mod format;
mod identity;
mod keys;
pub mod load;
mod problem;
mod profile_check;
pub(crate) mod profiles;
#[cfg(test)]
mod reference;
mod rule_keys;
mod rules;
mod scalars;
mod schema;
mod source;
mod table;
mod together;
mod transforms;
mod yaml;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;

pub use address::{AddressError, ListenAddr, UpstreamAddr};
pub use identity::IdentitySource;
pub use problem::{Place, Problem, Problems};
pub use schema::schema;
pub use source::{Source, SourceError};

use crate::repair;
use crate::repair::policy::{Mode, ModelPolicy};
use format::Format as _;

/// Every setting.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where TF Serving serves gRPC.
    pub upstream: UpstreamAddr,
    /// Where clients connect with gRPC.
    pub listen: ListenAddr,
    /// Where clients connect with TF Serving's REST API; `None` for nowhere.
    pub rest_listen: Option<ListenAddr>,
    /// The time for a REST request that asks for none.
    pub rest_timeout: Duration,
    /// Origins of web pages that may use the REST API; `*` for all.
    pub rest_cors: Vec<String>,
    /// Where TF Serving serves REST, for what the REST listener does not know.
    pub rest_upstream: Option<UpstreamAddr>,
    /// Where metrics, health checks, drain and the status page are served.
    pub admin_listen: ListenAddr,
    /// The file of the token that lets other machines change something over `admin_listen`.
    pub admin_token_file: Option<PathBuf>,
    /// Names by which clients may address `admin_listen` to change something.
    pub admin_hosts: Vec<String>,
    /// Where a drain by GET is accepted, and nothing else; `None` for nowhere.
    pub drain_listen: Option<ListenAddr>,
    /// The permissions of the Unix socket of `listen`.
    pub listen_socket_mode: u32,
    /// The permissions of the Unix sockets of `admin_listen` and `drain_listen`.
    pub admin_socket_mode: u32,
    /// Worker threads, each with its own upstream connections; at least 1. The control thread,
    /// which accepts connections, comes on top.
    pub workers: usize,
    pub limits: Limits,
    /// HTTP/2 connections to TF Serving per worker; at least 1.
    pub upstream_connections: usize,
    pub upstream_concurrency: UpstreamConcurrency,
    pub undeclared_models: UndeclaredModels,
    /// Whether HandleReloadConfigRequest is forwarded.
    pub allow_reload: bool,
    /// How often GetModelStatus is called for each model.
    pub poll_interval: Duration,
    pub connect_timeout: Duration,
    /// How long a drain accepts requests although it has made the sidecar unready.
    pub drain_delay: Duration,
    /// How long a drain waits for requests in flight after that.
    pub drain_timeout: Duration,
    /// How often files are read again; zero for only on SIGHUP.
    pub reload_interval: Duration,
    /// Whether TF Serving runs with `--enable_batching`. A request with zero rows would hang it and
    /// is refused.
    pub server_batching: bool,
    /// Whether calls that may have run are sent again when their connection is lost.
    pub retry_lost: bool,
    /// TLS for client connections; `None` for plain HTTP/2.
    pub listen_tls: Option<ListenTls>,
    /// Certificates for an `https://` upstream.
    pub upstream_tls: UpstreamTls,
    /// What names a client in metrics and on the status page: the first source that gives a name.
    /// None: clients are not named.
    pub client_identity: Vec<IdentitySource>,
    /// Names of clients in metrics, in the life of the process; later ones are `__other__`.
    pub max_clients: usize,
    /// Whether the forms of requests are kept.
    pub traffic_census: bool,
    /// The models whose signatures are read at startup and required for readiness, with their
    /// policies.
    pub models: BTreeMap<String, ModelPolicy>,
    /// The policies of models that are not declared, while an operator overrides their mode. No
    /// key sets them.
    pub overridden: BTreeMap<String, ModelPolicy>,
    /// The policy of every other model.
    pub defaults: ModelPolicy,
    /// Names of models under which clients ask for others, with the names of those.
    pub rename_model: BTreeMap<String, String>,
    pub log_format: LogFormat,
    /// Which requests are logged, one line each at their end.
    pub access_log: AccessLog,
    /// Which log lines are written: a level, or `target=level,...`.
    pub log: String,
    pub otlp: Otlp,
}

/// Traces of requests, sent to an OpenTelemetry collector.
#[derive(Debug, Clone, PartialEq)]
pub struct Otlp {
    /// Where the collector takes OTLP over gRPC; `None` to trace nothing.
    pub endpoint: Option<UpstreamAddr>,
    /// The share of requests without a `traceparent` that is traced.
    pub sample: f64,
    /// Of those that are not, so many a second are traced because they do not conform.
    pub mismatches: u32,
    pub service_name: String,
    /// Further attributes of the resource: `key=value`, or several, separated by commas. Values are
    /// percent-encoded.
    pub resource: Vec<String>,
}

/// What requests and connections may take; more is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one message, after decompression. TF Serving's own limit is 2 GiB - 1.
    pub max_message_bytes: usize,
    /// Bytes of all requests in flight together.
    pub max_inflight_bytes: u64,
    pub max_inflight_requests: usize,
    /// Requests in flight that wait to be sent to TF Serving.
    pub max_queued_requests: usize,
    /// Open streams of methods that are not judged.
    pub max_streams: usize,
    /// Client connections.
    pub max_connections: usize,
    /// Client connections of one peer; 0 for no limit.
    pub max_connections_per_peer: u64,
    /// For the TLS handshake and the beginning of HTTP/2, each.
    pub handshake_timeout: Duration,
    /// Between two pieces of a request's message.
    pub body_idle_timeout: Duration,
    /// Bytes per second, on average, of a message that takes longer than `body_idle_timeout`.
    pub min_body_rate: u64,
    /// For the whole message of a request.
    pub body_timeout: Duration,
    /// Between two pieces of an answer that the client reads.
    pub write_idle_timeout: Duration,
    /// Of a connection without a request; zero for no limit.
    pub connection_idle_timeout: Duration,
    /// After which a connection is told to end; zero for no limit.
    pub max_connection_age: Duration,
    /// For the requests on a connection that was told to end because of its age.
    pub max_connection_age_grace: Duration,
    /// Without a new request before a client is sent a PING; zero for never.
    pub keepalive_interval: Duration,
    /// For the answer to a PING.
    pub keepalive_timeout: Duration,
    /// Elements of one tensor, by its shape; 0 for no limit.
    pub max_elements: u64,
    /// Bytes of a tensor of which the message does not carry all values.
    pub max_fill_bytes: u64,
}

/// How many requests are sent to TF Serving at a time; the others wait in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UpstreamConcurrency {
    /// Adapted to its refusals and latency.
    #[default]
    Auto,
    /// At least 1.
    Fixed(usize),
    /// Without a limit; its refusals go to the clients.
    Off,
}

/// What happens to requests for models that the configuration does not list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UndeclaredModels {
    /// Their signatures are read on the first request.
    #[default]
    Allow,
    Refuse,
}

/// The sidecar's own certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenTls {
    /// PEM, leaf first.
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Clients must present a certificate signed by one of these authorities.
    pub client_ca: Option<PathBuf>,
}

/// Certificates for an `https://` upstream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UpstreamTls {
    /// The certificate authorities to trust, in PEM format; `None` for those of the system.
    pub ca: Option<PathBuf>,
    /// The sidecar's own certificate, for a server that requires one; set together with `key`.
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// The name in the server's certificate, if it is not the host of the address.
    pub domain: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Which requests have a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AccessLog {
    #[default]
    Off,
    /// Those that do not conform, have a warning, or are not answered OK.
    Problems,
    All,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            upstream: UpstreamAddr::Tcp { host: "127.0.0.1".to_owned(), port: 8500 },
            listen: ListenAddr::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8600)),
            rest_listen: None,
            rest_timeout: Duration::from_secs(30),
            rest_cors: Vec::new(),
            rest_upstream: None,
            admin_listen: ListenAddr::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8602)),
            admin_token_file: None,
            admin_hosts: Vec::new(),
            drain_listen: None,
            listen_socket_mode: 0o600,
            admin_socket_mode: 0o600,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            limits: Limits::default(),
            upstream_connections: 4,
            upstream_concurrency: UpstreamConcurrency::default(),
            undeclared_models: UndeclaredModels::default(),
            allow_reload: false,
            poll_interval: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(5),
            drain_delay: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(30),
            reload_interval: Duration::from_secs(1),
            server_batching: false,
            retry_lost: false,
            listen_tls: None,
            upstream_tls: UpstreamTls::default(),
            client_identity: vec![IdentitySource::TlsSan, IdentitySource::UserAgent, IdentitySource::Peer],
            max_clients: 128,
            traffic_census: true,
            models: BTreeMap::new(),
            overridden: BTreeMap::new(),
            defaults: ModelPolicy::default(),
            rename_model: BTreeMap::new(),
            log_format: LogFormat::default(),
            access_log: AccessLog::default(),
            log: "info".to_owned(),
            otlp: Otlp::default(),
        }
    }
}

impl Default for Otlp {
    fn default() -> Self {
        Self {
            endpoint: None,
            sample: 0.01,
            mismatches: 10,
            service_name: "tfs-sidecar".to_owned(),
            resource: Vec::new(),
        }
    }
}

impl Otlp {
    /// The pairs of `resource`.
    pub(crate) fn attributes(&self) -> Vec<(String, String)> {
        let entries = self.resource.iter().flat_map(|entry| entry.split(','));
        let pairs = entries.filter_map(|entry| entry.split_once('='));
        let decoded = |text: &str| percent_decode_str(text.trim()).decode_utf8_lossy().into_owned();
        pairs.map(|(key, value)| (decoded(key), decoded(value))).collect()
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_bytes: MAX_MESSAGE_BYTES,
            max_inflight_bytes: 512 << 20,
            max_inflight_requests: 1024,
            max_queued_requests: 1024,
            max_streams: 4096,
            max_connections: 10_000,
            max_connections_per_peer: 0,
            handshake_timeout: Duration::from_secs(10),
            body_idle_timeout: Duration::from_secs(30),
            min_body_rate: 1 << 10,
            body_timeout: Duration::from_secs(30 * 60),
            write_idle_timeout: Duration::from_secs(60),
            connection_idle_timeout: Duration::ZERO,
            max_connection_age: Duration::ZERO,
            max_connection_age_grace: Duration::from_secs(60),
            keepalive_interval: Duration::from_secs(2 * 60 * 60),
            keepalive_timeout: Duration::from_secs(20),
            max_elements: 0,
            max_fill_bytes: repair::Limits::default().max_fill_bytes,
        }
    }
}

/// The largest gRPC message that TF Serving accepts: its lengths are signed 32-bit numbers.
pub(crate) const MAX_MESSAGE_BYTES: usize = i32::MAX as usize;

impl Config {
    /// The limits that hold for requests of every model.
    pub fn request_limits(&self) -> repair::Limits {
        repair::Limits {
            max_elements: Some(self.limits.max_elements).filter(|limit| *limit > 0).unwrap_or(u64::MAX),
            max_fill_bytes: self.limits.max_fill_bytes,
            refuse_zero_rows: self.server_batching,
        }
    }

    /// The policy of a model, declared or not.
    pub fn policy(&self, model: &str) -> &ModelPolicy {
        let declared = self.models.get(model);
        declared.or_else(|| self.overridden.get(model)).unwrap_or(&self.defaults)
    }

    /// Sets the mode of a model and its signatures, or of all models.
    pub(crate) fn set_mode(&mut self, model: Option<&str>, mode: Mode) {
        let Self { defaults, models, overridden, .. } = self;
        let set = |policy: &mut ModelPolicy| {
            policy.defaults.mode = mode;
            policy.signatures.values_mut().for_each(|policy| policy.mode = mode);
        };
        match model {
            None => {
                let all = [defaults].into_iter().chain(models.values_mut()).chain(overridden.values_mut());
                all.for_each(set);
            }
            Some(model) => match models.get_mut(model) {
                Some(declared) => set(declared),
                None => set(overridden.entry(model.to_owned()).or_insert_with(|| defaults.clone())),
            },
        }
    }

    /// Keeps what cannot change without a restart as it is in `running`. Returns the keys that
    /// would have changed.
    pub(crate) fn keep_until_restart(&mut self, running: &Self) -> Vec<&'static str> {
        keys::CONFIG.keep(running, self)
    }

    /// Whether the configuration or `--model` names the model.
    pub fn is_declared(&self, model: &str) -> bool {
        self.models.contains_key(model)
    }
}

/// The whole configuration as YAML, defaults included. It loads back into the same `Config`.
pub fn effective(config: &Config) -> String {
    let tree = (&keys::CONFIG).print(config, &Config::default());
    serde_saphyr::to_string(&tree).expect("text, numbers and maps with text keys are always YAML")
}

#[cfg(test)]
mod tests {
    use super::load::{File, Settings, load};

    #[test]
    fn attributes_of_the_resource_are_pairs_as_in_the_variable_of_opentelemetry() {
        let text = "otlp_resource: ['a=b, c.d=e%20f', g=h=i]";
        let config = load(&Settings::default(), Some(File { name: "c.yaml", text })).unwrap();
        let pairs = [("a", "b"), ("c.d", "e f"), ("g", "h=i")];
        assert_eq!(config.otlp.attributes(), pairs.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn tensors_have_no_size_limit_unless_one_is_set() {
        let limit = |text: &str| {
            let config = load(&Settings::default(), Some(File { name: "c.yaml", text }));
            config.unwrap().request_limits().max_elements
        };
        assert_eq!(limit("{}"), u64::MAX);
        assert_eq!(limit("limits: {max_elements: 0}"), u64::MAX);
        assert_eq!(limit("limits: {max_elements: 7}"), 7);
    }
}
