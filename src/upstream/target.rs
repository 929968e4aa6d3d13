//! The address of TF Serving, and how to connect to it.
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use tokio::net::{TcpStream, UnixStream};

use crate::config::{Config, UpstreamAddr};
use crate::transport::coalesce::{Coalesced, DeferredFlush, coalesce};
use crate::transport::http2;
use crate::transport::socket::{Socket, tune};

/// The upstream of this process, shared by every pool.
#[derive(Debug)]
pub struct Target {
    /// As in the configuration, for messages.
    pub address: String,
    route: Route,
    scheme: Scheme,
    authority: Authority,
    connect_timeout: Duration,
}

enum Route {
    Tcp {
        host: String,
        port: u16,
    },
    Unix(PathBuf),
    #[cfg(feature = "tls")]
    Tls {
        host: String,
        port: u16,
        connector: tokio_rustls::TlsConnector,
        name: tokio_rustls::rustls::pki_types::ServerName<'static>,
    },
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Route")
    }
}

/// What is wrong with the configured upstream.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error("expected a host name or IP address, got `{found}`")]
    Host { found: String },
    #[cfg(feature = "tls")]
    #[error(transparent)]
    Tls(#[from] crate::transport::tls::TlsError),
    #[cfg(not(feature = "tls"))]
    #[error("this build has no TLS, which an `https://` upstream needs")]
    NoTls,
}

/// Why an attempt to connect failed.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("not connected after {} ms", after.as_millis())]
    Timeout { after: Duration },
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("HTTP/2 handshake failed: {0}")]
    Http2(#[from] h2::Error),
}

pub type Sender = h2::client::SendRequest<Bytes>;
pub type Connection = DeferredFlush<h2::client::Connection<Coalesced, Bytes>>;

impl Target {
    /// Reads the upstream from the configuration. Does not connect.
    ///
    /// # Errors
    /// The host is no valid authority, or the TLS settings cannot be used.
    pub fn new(config: &Config) -> Result<Self, TargetError> {
        let (route, scheme, authority) = match &config.upstream {
            UpstreamAddr::Tcp { host, port } => {
                (Route::Tcp { host: host.clone(), port: *port }, Scheme::HTTP, authority(host, *port)?)
            }
            UpstreamAddr::Unix(path) => {
                (Route::Unix(path.clone()), Scheme::HTTP, Authority::from_static("localhost"))
            }
            #[cfg(feature = "tls")]
            UpstreamAddr::Tls { host, port } => {
                let (connector, name) = crate::transport::tls::connector(&config.upstream_tls, host)?;
                (
                    Route::Tls { host: host.clone(), port: *port, connector, name },
                    Scheme::HTTPS,
                    authority(host, *port)?,
                )
            }
            #[cfg(not(feature = "tls"))]
            UpstreamAddr::Tls { .. } => return Err(TargetError::NoTls),
        };
        Ok(Self {
            address: config.upstream.to_string(),
            route,
            scheme,
            authority,
            connect_timeout: config.connect_timeout,
        })
    }

    /// The URI of a path at the upstream.
    pub fn uri(&self, path: PathAndQuery) -> Uri {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path);
        Uri::from_parts(parts).unwrap_or_default()
    }

    /// Connects. The connection must be polled for the sender to do anything.
    ///
    /// # Errors
    /// The upstream cannot be reached, or not in time.
    pub async fn connect(&self) -> Result<(Sender, Connection), DialError> {
        let after = self.connect_timeout;
        let attempt = async {
            let (io, flush) = coalesce(self.socket().await?);
            let (sender, connection) = http2::client().handshake(io).await?;
            Ok((sender, flush.of(connection)))
        };
        tokio::time::timeout(after, attempt).await.unwrap_or(Err(DialError::Timeout { after }))
    }

    async fn socket(&self) -> io::Result<Socket> {
        match &self.route {
            Route::Tcp { host, port } => Ok(Socket::Tcp(tcp(host, *port).await?)),
            Route::Unix(path) => Ok(Socket::Unix(UnixStream::connect(path).await?)),
            #[cfg(feature = "tls")]
            Route::Tls { host, port, connector, name } => {
                let stream = connector.connect(name.clone(), tcp(host, *port).await?).await?;
                Ok(Socket::TlsTcp(Box::new(stream.into())))
            }
        }
    }
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    tune(&stream)?;
    Ok(stream)
}

fn authority(host: &str, port: u16) -> Result<Authority, TargetError> {
    let text = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    Authority::try_from(text).map_err(|_| TargetError::Host { found: host.to_owned() })
}
