//! Why TF Serving cannot be connected to, and what to do about it.
use std::io;
use std::time::Duration;

#[cfg(feature = "tls")]
use tokio_rustls::rustls;

/// Why an attempt to connect failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("cannot resolve the name `{host}`: {source}")]
    Name { host: String, source: io::Error },
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no TCP connection within {} ms", after.as_millis())]
    Timeout { after: Duration },
    #[cfg(feature = "tls")]
    #[error("untrusted certificate: {0}")]
    Certificate(io::Error),
    #[cfg(feature = "tls")]
    #[error("TLS handshake failed: {0}")]
    Tls(io::Error),
    #[error("the server does not speak HTTP/2: {cause}")]
    NotHttp2 { cause: String },
    #[error("the server said nothing within {} ms after it was connected", after.as_millis())]
    Silent { after: Duration },
}

impl DialError {
    /// What to do about it.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::Name { .. } => "check the host in `upstream`, and the DNS of this machine",
            Self::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                "TF Serving is not running, is still loading its models, or listens on another port: compare `upstream` with its `--port`"
            }
            Self::Io(error) if error.kind() == io::ErrorKind::NotFound => {
                "there is no such socket: compare `upstream` with TF Serving's `--grpc_socket_path`"
            }
            Self::Io(_) => "check that TF Serving runs and that this machine can reach it",
            Self::Timeout { .. } => "check the address in `upstream`, firewalls and network policies",
            #[cfg(feature = "tls")]
            Self::Certificate(_) => {
                "set `upstream_tls.ca` to the authority that signed the certificate, or `upstream_tls.domain` to the name in it"
            }
            #[cfg(feature = "tls")]
            Self::Tls(_) => {
                "a port without TLS needs `upstream` without `https://`; a server that demands a client certificate needs `upstream_tls.cert` and `upstream_tls.key`"
            }
            Self::NotHttp2 { .. } => {
                "`upstream` must be TF Serving's gRPC port (`--port`, usually 8500), not its REST port; a port with TLS needs `https://`"
            }
            Self::Silent { .. } => "TF Serving hangs, or this is not its gRPC port (`--port`)",
        }
    }

    /// The error of a TLS handshake.
    #[cfg(feature = "tls")]
    pub(super) fn handshake(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(rustls::Error::InvalidCertificate(_)) => Self::Certificate(error),
            Some(_) | None => Self::Tls(error),
        }
    }

    /// The error of an HTTP/2 connection that ended before the server answered in HTTP/2.
    pub(super) fn hello(error: h2::Error) -> Self {
        let cause = error.to_string();
        let Some(io) = error.into_io() else { return Self::NotHttp2 { cause } };
        // With TLS 1.3, a server says only now that it wants another certificate. h2 keeps the text
        // of rustls' error.
        #[cfg(feature = "tls")]
        if io.to_string().contains("fatal alert") {
            return Self::Tls(io);
        }
        Self::NotHttp2 { cause: format!("it closed the connection ({io})") }
    }
}
