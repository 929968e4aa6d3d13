//! The address of TF Serving, and how to connect to it.
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};
use tonic::Code;

use super::dial_error::DialError;
use crate::config::{Config, UpstreamAddr};
use crate::fault::Fault;
use crate::transport::coalesce::{Coalesced, DeferredFlush, coalesce};
use crate::transport::frames::{Filter, Peer};
use crate::transport::http2;
use crate::transport::socket::{Socket, tune, tune_upstream};

/// The upstream of this process, shared by every pool.
#[derive(Debug)]
pub(crate) struct Target {
    /// As in the configuration, for messages.
    pub address: String,
    route: Route,
    scheme: Scheme,
    authority: Authority,
    dial: ArcSwap<Dial>,
}

/// How to connect. A reload replaces it; connections that are open stay.
pub(crate) struct Dial {
    connect_timeout: Duration,
    /// For an `https://` upstream.
    #[cfg(feature = "tls")]
    tls: Option<(tokio_rustls::TlsConnector, tokio_rustls::rustls::pki_types::ServerName<'static>)>,
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
    },
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dial")
    }
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

pub(crate) type Sender = h2::client::SendRequest<Bytes>;
pub(crate) type Connection = DeferredFlush<h2::client::Connection<Coalesced, Bytes>>;

/// A new connection.
pub(crate) struct Connected {
    pub sender: Sender,
    pub connection: Connection,
    /// What the server says about itself.
    pub peer: Rc<Peer>,
    pub pings: Option<h2::PingPong>,
}

impl Dial {
    /// # Errors
    /// The TLS settings cannot be used.
    #[cfg_attr(not(feature = "tls"), expect(clippy::unnecessary_wraps, reason = "fails with TLS only"))]
    pub(crate) fn new(config: &Config) -> Result<Self, TargetError> {
        Ok(Self {
            connect_timeout: config.connect_timeout,
            #[cfg(feature = "tls")]
            tls: match &config.upstream {
                UpstreamAddr::Tls { host, .. } => {
                    Some(crate::transport::tls::connector(&config.upstream_tls, host)?)
                }
                UpstreamAddr::Tcp { .. } | UpstreamAddr::Unix(_) => None,
            },
        })
    }
}

impl Target {
    /// Reads the upstream from the configuration. Does not connect.
    ///
    /// # Errors
    /// The host is no valid authority, or the TLS settings cannot be used.
    pub(crate) fn new(config: &Config) -> Result<Self, TargetError> {
        let (route, scheme, authority) = match &config.upstream {
            UpstreamAddr::Tcp { host, port } => {
                (Route::Tcp { host: host.clone(), port: *port }, Scheme::HTTP, authority(host, *port)?)
            }
            UpstreamAddr::Unix(path) => {
                (Route::Unix(path.clone()), Scheme::HTTP, Authority::from_static("localhost"))
            }
            #[cfg(feature = "tls")]
            UpstreamAddr::Tls { host, port } => {
                (Route::Tls { host: host.clone(), port: *port }, Scheme::HTTPS, authority(host, *port)?)
            }
            #[cfg(not(feature = "tls"))]
            UpstreamAddr::Tls { .. } => return Err(TargetError::NoTls),
        };
        Ok(Self {
            address: config.upstream.to_string(),
            route,
            scheme,
            authority,
            dial: ArcSwap::from_pointee(Dial::new(config)?),
        })
    }

    /// Connects in another way from now on.
    pub(crate) fn set_dial(&self, dial: Dial) {
        self.dial.store(Arc::new(dial));
    }

    /// The fault that an HTTP/2 error on an upstream call becomes for the caller.
    pub(crate) fn fault(&self, error: &h2::Error) -> Fault {
        let address = self.address.clone();
        let cause = error.to_string();
        match error.reason().filter(|_| error.is_reset()) {
            // As in gRPC over HTTP/2, "HTTP2 Transport Mapping / Errors", except for CANCEL: here
            // the server cancelled, and CANCELLED would tell the client that it had done so itself.
            Some(h2::Reason::ENHANCE_YOUR_CALM) => {
                Fault::UpstreamReset { address, cause, code: Code::ResourceExhausted }
            }
            Some(h2::Reason::INADEQUATE_SECURITY) => {
                Fault::UpstreamReset { address, cause, code: Code::PermissionDenied }
            }
            Some(h2::Reason::REFUSED_STREAM | h2::Reason::CANCEL) | None => {
                Fault::UpstreamUnavailable { address, cause }
            }
            Some(_) => Fault::UpstreamReset { address, cause, code: Code::Internal },
        }
    }

    /// The URI of a path at the upstream.
    pub(crate) fn uri(&self, path: PathAndQuery) -> Uri {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path);
        Uri::from_parts(parts).unwrap_or_default()
    }

    /// Connects, and waits until the server has answered in HTTP/2: a proxy without a server behind
    /// it accepts connections too. The connection must be polled for the sender to do anything.
    ///
    /// # Errors
    /// The upstream cannot be reached, does not speak HTTP/2, or not in time.
    pub(crate) async fn connect(&self) -> Result<Connected, DialError> {
        let dial = self.dial.load_full();
        let after = dial.connect_timeout;
        let until = Instant::now() + after;
        let socket =
            timeout_at(until, self.socket(&dial)).await.unwrap_or(Err(DialError::Timeout { after }))?;
        timeout_at(until, hello(socket)).await.unwrap_or(Err(DialError::Silent { after }))
    }

    #[cfg_attr(not(feature = "tls"), expect(unused_variables, reason = "says how to begin TLS"))]
    async fn socket(&self, dial: &Dial) -> Result<Socket, DialError> {
        match &self.route {
            Route::Tcp { host, port } => Ok(Socket::Tcp(tcp(host, *port).await?)),
            Route::Unix(path) => Ok(Socket::Unix(UnixStream::connect(path).await?)),
            #[cfg(feature = "tls")]
            Route::Tls { host, port } => {
                let Some((connector, name)) = &dial.tls else {
                    return Err(DialError::NotHttp2 { cause: "no TLS settings".to_owned() });
                };
                let stream = connector.connect(name.clone(), tcp(host, *port).await?).await;
                Ok(Socket::TlsTcp(Box::new(stream.map_err(DialError::handshake)?.into())))
            }
        }
    }
}

/// Connects to the first address of the host that accepts.
async fn tcp(host: &str, port: u16) -> Result<TcpStream, DialError> {
    let resolved = tokio::net::lookup_host((host, port)).await;
    let addresses: Vec<SocketAddr> =
        resolved.map_err(|source| DialError::Name { host: host.to_owned(), source })?.collect();
    let stream = TcpStream::connect(&addresses[..]).await?;
    tune(&stream)?;
    tune_upstream(&stream)?;
    Ok(stream)
}

/// Begins HTTP/2 and waits for the answer to a ping.
async fn hello(socket: Socket) -> Result<Connected, DialError> {
    let peer = Rc::<Peer>::default();
    let (io, flush) = coalesce(socket, Filter::upstream(Rc::clone(&peer)));
    let (sender, mut connection) = http2::client().handshake(io).await.map_err(DialError::hello)?;
    let mut pings = connection.ping_pong();
    let mut connection = flush.of(connection);
    if let Some(pings) = &mut pings {
        tokio::select! {
            biased;
            ended = &mut connection => return Err(match ended {
                Ok(()) => DialError::NotHttp2 { cause: "it closed the connection".to_owned() },
                Err(error) => DialError::hello(error),
            }),
            pong = pings.ping(h2::Ping::opaque()) => {
                pong.map_err(DialError::hello)?;
            }
        }
    }
    Ok(Connected { sender, connection, peer, pings })
}

fn authority(host: &str, port: u16) -> Result<Authority, TargetError> {
    let text = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    Authority::try_from(text).map_err(|_| TargetError::Host { found: host.to_owned() })
}

#[cfg(feature = "tls")]
#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::{ListenTls, UpstreamTls};
    use crate::transport::tls::acceptor;

    /// What the server does with a connection.
    #[derive(Clone, Copy)]
    enum Server {
        Http1,
        Silent,
        Closing,
        /// TLS, perhaps with a demand for a client certificate; HTTP/2 or nothing inside.
        Tls {
            client_ca: bool,
        },
    }

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name)
    }

    async fn serve(listener: TcpListener, server: Server) {
        let (mut socket, _) = listener.accept().await.unwrap();
        match server {
            Server::Http1 => {
                let mut request = [0; 24];
                socket.read_exact(&mut request).await.unwrap();
                socket.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").await.unwrap();
            }
            Server::Silent => std::future::pending().await,
            Server::Closing => {}
            Server::Tls { client_ca } => {
                let (cert, key) = (fixture("server.pem"), fixture("server.key"));
                let client_ca = client_ca.then(|| fixture("ca.pem"));
                let acceptor =
                    acceptor(&ListenTls { cert, key, client_ca }, &[crate::transport::tls::HTTP_2]).unwrap();
                let Ok(stream) = acceptor.accept(socket).await else { return };
                if let Ok(mut connection) = h2::server::handshake(stream).await {
                    while connection.accept().await.is_some() {}
                }
            }
        }
    }

    async fn dial(config: Config) -> Result<(), DialError> {
        let config = Config { connect_timeout: Duration::from_secs(3), ..config };
        Target::new(&config).unwrap().connect().await.map(drop)
    }

    /// Connects to such a server, with TLS if `tls` is set.
    async fn dialled(server: Server, tls: Option<UpstreamTls>) -> Result<(), DialError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (upstream, upstream_tls) = match tls {
            None => (UpstreamAddr::Tcp { host: "127.0.0.1".into(), port }, UpstreamTls::default()),
            Some(tls) => (UpstreamAddr::Tls { host: "localhost".into(), port }, tls),
        };
        tokio::select! {
            biased;
            outcome = dial(Config { upstream, upstream_tls, ..Config::default() }) => outcome,
            () = async { serve(listener, server).await; std::future::pending().await } => unreachable!(),
        }
    }

    fn trusting(ca: &str) -> Option<UpstreamTls> {
        Some(UpstreamTls { ca: Some(fixture(ca)), ..UpstreamTls::default() })
    }

    #[tokio::test]
    async fn a_server_that_does_not_speak_http2_is_not_connected() {
        for server in [Server::Http1, Server::Closing, Server::Tls { client_ca: false }] {
            let error = dialled(server, None).await.unwrap_err();
            assert!(matches!(error, DialError::NotHttp2 { .. }), "{error:?}");
            assert!(error.advice().contains("gRPC port"), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_says_nothing_is_not_connected() {
        let error = dialled(Server::Silent, None).await.unwrap_err();
        assert_eq!(error.to_string(), "the server said nothing within 3000 ms after it was connected");
    }

    #[tokio::test]
    async fn a_certificate_must_be_trusted_and_for_the_name() {
        let server = Server::Tls { client_ca: false };
        dialled(server, trusting("ca.pem")).await.unwrap();
        let other_name = UpstreamTls { domain: Some("other.test".into()), ..trusting("ca.pem").unwrap() };
        for tls in [trusting("client.pem"), Some(other_name)] {
            let error = dialled(server, tls).await.unwrap_err();
            assert!(matches!(error, DialError::Certificate(_)), "{error:?}");
            assert!(
                error.to_string().starts_with("untrusted certificate: invalid peer certificate"),
                "{error}"
            );
        }
    }

    #[tokio::test]
    async fn a_failed_handshake_is_told_from_an_untrusted_certificate() {
        for server in [Server::Http1, Server::Closing, Server::Tls { client_ca: true }] {
            let error = dialled(server, trusting("ca.pem")).await.unwrap_err();
            assert!(matches!(error, DialError::Tls(_)), "{error:?}");
        }
    }

    #[tokio::test]
    async fn names_and_sockets_that_do_not_exist_are_named() {
        let upstream = UpstreamAddr::Tcp { host: "no-such-host.invalid".into(), port: 1 };
        let error = dial(Config { upstream, ..Config::default() }).await.unwrap_err();
        assert!(error.to_string().starts_with("cannot resolve the name `no-such-host.invalid`: "), "{error}");
        let upstream = UpstreamAddr::Unix(fixture("no-such.sock"));
        let error = dial(Config { upstream, ..Config::default() }).await.unwrap_err();
        assert!(error.advice().contains("--grpc_socket_path"), "{error}");
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let upstream = UpstreamAddr::Tcp { host: "127.0.0.1".into(), port };
        let error = dial(Config { upstream, ..Config::default() }).await.unwrap_err();
        assert!(error.advice().contains("still loading its models"), "{error}");
    }

    #[tokio::test]
    async fn new_connections_use_the_certificates_of_the_last_reload() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let config = |ca: &str, client: &str| Config {
            upstream: UpstreamAddr::Tls { host: "localhost".to_owned(), port },
            upstream_tls: UpstreamTls {
                ca: Some(fixture(ca)),
                cert: Some(fixture(&format!("{client}.pem"))),
                key: Some(fixture(&format!("{client}.key"))),
                domain: None,
            },
            ..Config::default()
        };
        let target = Target::new(&config("other-ca.pem", "client")).unwrap();
        let connect = async || {
            let serve = async {
                let (socket, _) = listener.accept().await.unwrap();
                let tls = ListenTls {
                    cert: fixture("server.pem"),
                    key: fixture("server.key"),
                    client_ca: Some(fixture("ca.pem")),
                };
                let Ok(stream) =
                    acceptor(&tls, &[crate::transport::tls::HTTP_2]).unwrap().accept(socket).await
                else {
                    return;
                };
                if let Ok(mut connection) = h2::server::handshake(stream).await {
                    while connection.accept().await.is_some() {}
                }
            };
            tokio::select! {
                connected = target.connect() => connected.map(drop).is_ok(),
                () = async { serve.await; std::future::pending().await } => false,
            }
        };
        assert!(!connect().await, "the server is not trusted");
        target.set_dial(Dial::new(&config("ca.pem", "other-client")).unwrap());
        assert!(!connect().await, "the client is not trusted");
        target.set_dial(Dial::new(&config("ca.pem", "client")).unwrap());
        assert!(connect().await);
    }
}
