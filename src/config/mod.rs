//! The configuration: every setting, valid by construction, from flags, the environment, a file and
//! the defaults.
//!
//! [`load::load`] is the only way from text to a [`Config`]; a `Config` made in code starts from
//! `Config::default()`. Every [`Policy`](crate::repair::policy::Policy) in it carries
//! `max_elements` and `refuse_zero_rows` of the whole program: whoever changes
//! [`Limits::max_elements`] or [`Config::server_batching`] in code changes them in the policies
//! too.
mod address;
mod file;
pub mod load;
mod policy;
mod print;
mod problem;
mod rules;
mod section;
mod yaml;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use address::{AddressError, ListenAddr, UpstreamAddr};
pub use print::effective;
pub use problem::{Place, Problem, Problems};

use crate::repair::policy::ModelPolicy;

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// TF Serving's gRPC.
    pub upstream: UpstreamAddr,
    /// gRPC for clients.
    pub listen: ListenAddr,
    /// Metrics, probes, drain and the page.
    pub admin_listen: ListenAddr,
    /// TF Serving's REST API; not available yet, so always `None`.
    pub rest_listen: Option<ListenAddr>,
    /// Worker threads, each with its own listener and upstream connections; at least 1.
    pub workers: usize,
    pub limits: Limits,
    /// HTTP/2 connections to TF Serving of each worker; at least 1.
    pub upstream_connections: usize,
    pub upstream_concurrency: UpstreamConcurrency,
    pub undeclared_models: UndeclaredModels,
    /// Whether HandleReloadConfigRequest is forwarded.
    pub allow_reload: bool,
    /// How often GetModelStatus is asked.
    pub poll_interval: Duration,
    pub connect_timeout: Duration,
    /// How long a drain waits for requests in flight.
    pub drain_timeout: Duration,
    /// Whether TF Serving runs with `--enable_batching`: a request of zero rows would hang it, and
    /// is refused.
    pub server_batching: bool,
    /// TLS for clients; plain HTTP/2 without it.
    pub listen_tls: Option<ListenTls>,
    /// Certificates for an `https://` upstream.
    pub upstream_tls: UpstreamTls,
    /// The models that are read at start and gate readiness, with their policies.
    pub models: BTreeMap<String, ModelPolicy>,
    /// The policy of every other model.
    pub defaults: ModelPolicy,
    pub log: LogFormat,
    /// Which log lines are written, as `level` or `target=level,...`.
    pub log_filter: String,
}

/// What is refused for its size before it costs memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one message, after decompression; TF Serving's own limit is 2 GiB - 1.
    pub max_message_bytes: usize,
    /// Bytes of all requests in flight together.
    pub max_inflight_bytes: u64,
    pub max_inflight_requests: usize,
    /// Of them: waiting for a place at TF Serving.
    pub max_queued_requests: usize,
    /// Elements that one tensor may claim.
    pub max_elements: u64,
}

/// How many requests TF Serving gets at a time; the others wait here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UpstreamConcurrency {
    /// Learned from its refusals and its pace.
    #[default]
    Auto,
    /// At least 1.
    Fixed(usize),
    /// As many as come, and its refusals go to the clients.
    Off,
}

/// What happens to requests for models that the configuration does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UndeclaredModels {
    /// Their signatures are read at the first request.
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
    /// Clients must show a certificate that one of these signed.
    pub client_ca: Option<PathBuf>,
}

/// How an `https://` upstream is trusted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UpstreamTls {
    /// The authorities to trust, PEM; always there when the upstream is `https://`.
    pub ca: Option<PathBuf>,
    /// The sidecar's certificate for a server that asks for one, with `key`.
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// The name that the server's certificate must carry, when it is not the host of the address.
    pub domain: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            upstream: UpstreamAddr::Tcp { host: "127.0.0.1".to_owned(), port: 8500 },
            listen: ListenAddr::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8600)),
            admin_listen: ListenAddr::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8602)),
            rest_listen: None,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            limits: Limits::default(),
            upstream_connections: 1,
            upstream_concurrency: UpstreamConcurrency::default(),
            undeclared_models: UndeclaredModels::default(),
            allow_reload: false,
            poll_interval: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(30),
            server_batching: false,
            listen_tls: None,
            upstream_tls: UpstreamTls::default(),
            models: BTreeMap::new(),
            defaults: ModelPolicy::default(),
            log: LogFormat::default(),
            log_filter: "info".to_owned(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_bytes: MAX_MESSAGE_BYTES,
            max_inflight_bytes: 512 << 20,
            max_inflight_requests: 1024,
            max_queued_requests: 1024,
            max_elements: 1 << 28,
        }
    }
}

/// What a gRPC message can be at most for TF Serving: lengths are signed 32-bit numbers there.
pub(crate) const MAX_MESSAGE_BYTES: usize = i32::MAX as usize;

impl Config {
    /// The policy of a model, whether it is declared or not.
    pub fn policy(&self, model: &str) -> &ModelPolicy {
        self.models.get(model).unwrap_or(&self.defaults)
    }

    /// Whether the configuration or `--model` names the model.
    pub fn is_declared(&self, model: &str) -> bool {
        self.models.contains_key(model)
    }
}

impl UpstreamConcurrency {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            number => section::number(number, 1, 1 << 20)
                .map(Self::Fixed)
                .map_err(|_| format!("expected `auto`, `off` or a number above zero, found `{number}`")),
        }
    }
}

impl std::fmt::Display for UpstreamConcurrency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Off => f.write_str("off"),
            Self::Fixed(number) => write!(f, "{number}"),
        }
    }
}

impl LogFormat {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}
