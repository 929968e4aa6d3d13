//! STUB until the request path lands: the sidecar as the command line sees it.
use crate::config::{Config, ListenAddr};

/// A running sidecar.
#[derive(Debug)]
pub struct Sidecar {
    config: Config,
}

#[derive(Debug, thiserror::Error)]
#[error("expected a request path, found a stub")]
pub struct StartError;

impl Sidecar {
    pub fn start(_config: Config) -> Result<Self, StartError> {
        Err(StartError)
    }

    pub fn grpc_addr(&self) -> &ListenAddr {
        &self.config.listen
    }

    pub fn admin_addr(&self) -> &ListenAddr {
        &self.config.admin_listen
    }

    #[expect(clippy::unused_async, reason = "a stub of something that waits")]
    pub async fn shutdown(self) {}
}
