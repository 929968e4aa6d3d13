//! STUB until the configuration lands: its struct as the other parts see it.
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::repair::policy::ModelPolicy;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamAddr {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
    Tls { host: String, port: u16 },
}

impl fmt::Display for UpstreamAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tls { host, port } => write!(f, "https://{host}:{port}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddr {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UndeclaredModels {
    Allow,
    Refuse,
}

#[derive(Debug, Clone)]
pub struct Limits {
    pub max_message_bytes: usize,
    pub max_inflight_bytes: u64,
    pub max_inflight_requests: usize,
    pub max_elements: u64,
}

#[derive(Debug, Clone)]
pub struct ListenTls {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub client_ca: Option<PathBuf>,
}

#[derive(Debug, Clone, Default)]
pub struct UpstreamTls {
    pub ca: Option<PathBuf>,
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub domain: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Config {
    pub upstream: UpstreamAddr,
    pub listen: ListenAddr,
    pub admin_listen: ListenAddr,
    pub workers: usize,
    pub limits: Limits,
    pub upstream_connections: usize,
    pub undeclared_models: UndeclaredModels,
    pub allow_reload: bool,
    pub poll_interval: Duration,
    pub connect_timeout: Duration,
    pub drain_timeout: Duration,
    pub listen_tls: Option<ListenTls>,
    pub upstream_tls: UpstreamTls,
    pub models: BTreeMap<String, ModelPolicy>,
    pub defaults: ModelPolicy,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            upstream: UpstreamAddr::Tcp { host: "127.0.0.1".into(), port: 8500 },
            listen: ListenAddr::Tcp(([0, 0, 0, 0], 8600).into()),
            admin_listen: ListenAddr::Tcp(([127, 0, 0, 1], 8602).into()),
            workers: 1,
            limits: Limits {
                max_message_bytes: i32::MAX as usize,
                max_inflight_bytes: 512 << 20,
                max_inflight_requests: 1024,
                max_elements: 1 << 28,
            },
            upstream_connections: 1,
            undeclared_models: UndeclaredModels::Allow,
            allow_reload: false,
            poll_interval: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(30),
            listen_tls: None,
            upstream_tls: UpstreamTls::default(),
            models: BTreeMap::new(),
            defaults: ModelPolicy::default(),
        }
    }
}

impl Config {
    pub fn policy(&self, model: &str) -> &ModelPolicy {
        self.models.get(model).unwrap_or(&self.defaults)
    }

    pub fn is_declared(&self, model: &str) -> bool {
        self.models.contains_key(model)
    }
}
