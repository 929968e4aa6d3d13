//! Certificates, keys and authorities of both sides: read at the start, and again when they change.
//! New connections use the new ones; those that are open stay.
use std::path::PathBuf;

use super::{Shared, StartError};
use crate::config::Config;
#[cfg(feature = "tls")]
use crate::telemetry::metrics::Door;
#[cfg(feature = "tls")]
use crate::transport::tls::Expiry;
use crate::upstream::target::Dial;

/// What new connections use.
pub(super) struct Certificates {
    #[cfg(feature = "tls")]
    acceptor: Option<Acceptors>,
    #[cfg(feature = "tls")]
    expiries: Vec<Expiry>,
    dial: Dial,
}

/// What accepts the connections of clients.
#[cfg(feature = "tls")]
#[derive(Clone)]
pub(super) struct Acceptors {
    grpc: tokio_rustls::TlsAcceptor,
    rest: tokio_rustls::TlsAcceptor,
}

#[cfg(feature = "tls")]
impl Acceptors {
    fn new(files: &crate::config::ListenTls) -> Result<Self, crate::transport::tls::TlsError> {
        use crate::transport::tls::{HTTP_1, HTTP_2, acceptor};
        Ok(Self { grpc: acceptor(files, &[HTTP_2])?, rest: acceptor(files, &[HTTP_2, HTTP_1])? })
    }

    pub(super) fn of(&self, door: Door) -> &tokio_rustls::TlsAcceptor {
        match door {
            Door::Grpc => &self.grpc,
            Door::Rest => &self.rest,
        }
    }
}

/// The files that a configuration names.
pub(super) fn files(config: &Config) -> Vec<PathBuf> {
    let listen =
        config.listen_tls.iter().flat_map(|tls| [Some(&tls.cert), Some(&tls.key), tls.client_ca.as_ref()]);
    let tls = &config.upstream_tls;
    let upstream = [tls.ca.as_ref(), tls.cert.as_ref(), tls.key.as_ref()];
    listen.chain(upstream).flatten().cloned().collect()
}

impl Certificates {
    /// # Errors
    /// A file cannot be used.
    pub(super) fn read(config: &Config) -> Result<Self, StartError> {
        #[cfg(not(feature = "tls"))]
        if config.listen_tls.is_some() {
            return Err(StartError::NoTls);
        }
        Ok(Self {
            #[cfg(feature = "tls")]
            acceptor: config.listen_tls.as_ref().map(Acceptors::new).transpose()?,
            #[cfg(feature = "tls")]
            expiries: crate::transport::tls::expiries(config),
            dial: Dial::new(config)?,
        })
    }

    pub(super) fn apply(self, shared: &Shared) {
        #[cfg(feature = "tls")]
        {
            shared.acceptor.store(self.acceptor.map(std::sync::Arc::new));
            show_expiry(&self.expiries);
        }
        shared.target.set_dial(self.dial);
    }
}

/// Shows when the certificates expire, and warns about those that do so soon.
#[cfg(feature = "tls")]
fn show_expiry(expiries: &[Expiry]) {
    let now = std::time::SystemTime::now();
    for expiry in expiries {
        let end = expiry.at.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
        crate::telemetry::metrics::set_certificate_expiry(expiry.setting, end.as_secs_f64());
        if let Some(warning) = expiry.warning(now) {
            tracing::warn!("{warning}");
        }
    }
}
