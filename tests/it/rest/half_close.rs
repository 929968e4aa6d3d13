//! A client that leaves, and one that only closes its half of the connection, over every kind of
//! socket.
use std::sync::Arc;

use tfs_sidecar::config::{ListenAddr, ListenTls};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::http2::{client_tls, fixture};
use super::*;
use crate::support::fake_tfs::FakeTfs;
use crate::support::requests::PREDICT;
use crate::support::rest::Http;
use crate::support::sidecar::{TestSidecar, config};
use crate::support::within;

const BODY: &str = r#"{"instances": [[1, 2, 3]]}"#;

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Tls,
    Unix,
}

const KINDS: [Kind; 3] = [Kind::Tcp, Kind::Tls, Kind::Unix];

/// A sidecar whose REST listener has one kind of socket.
struct Served {
    kind: Kind,
    fake: FakeTfs,
    sidecar: TestSidecar,
    /// Requests that were cancelled before: the metrics are those of the process.
    before: f64,
}

impl Served {
    async fn new(kind: Kind) -> Self {
        let fake = FakeTfs::start([echo(FLOAT, &[-1, 3])]);
        let mut settings = config(fake.addr(), [name()]);
        settings.limits.max_inflight_requests = 1;
        settings.rest_listen = Some(free());
        match kind {
            Kind::Tcp => {}
            Kind::Tls => {
                let (cert, key) = (fixture("server.pem"), fixture("server.key"));
                settings.listen_tls = Some(ListenTls { cert, key, client_ca: None });
            }
            Kind::Unix => {
                let path = format!("{}-{}.sock", name(), std::process::id());
                settings.rest_listen = Some(ListenAddr::Unix(std::env::temp_dir().join(path)));
            }
        }
        let sidecar = TestSidecar::start(settings);
        within("readiness", async { while sidecar.page("/readyz").await.status != 200 {} }).await;
        let mut served = Self { kind, fake, sidecar, before: 0.0 };
        served.before = served.cancelled().await;
        served
    }

    async fn connect(&self) -> Http<Box<dyn Duplex>> {
        let addr = &self.sidecar.rest;
        let socket: Box<dyn Duplex> = match self.kind {
            Kind::Tcp => Box::new(TcpStream::connect(addr).await.unwrap()),
            Kind::Unix => Box::new(UnixStream::connect(addr.trim_start_matches("unix://")).await.unwrap()),
            Kind::Tls => {
                let connector = TlsConnector::from(Arc::new(client_tls(&["http/1.1"])));
                let socket = TcpStream::connect(addr).await.unwrap();
                let server = ServerName::try_from("localhost").unwrap();
                Box::new(connector.connect(server, socket).await.unwrap())
            }
        };
        Http::over(socket)
    }

    /// Requests that were cancelled.
    async fn cancelled(&self) -> f64 {
        let (metrics, model) = (self.sidecar.metrics().await, name());
        let labels = [("model", model.as_str()), ("code", "CANCELLED"), ("door", "rest")];
        metrics.sum("tfs_sidecar_requests_total", &labels) - self.before
    }
}

/// Long before its deadline of 30 seconds, whether its body has a length or comes in chunks.
#[tokio::test]
async fn a_client_that_leaves_cancels_its_request() {
    for kind in KINDS {
        let served = Served::new(kind).await;
        let chunked = Ask::chunked(&format!("/v1/models/{}:predict", name()), &[BODY.as_bytes()]);
        for (number, request) in [Ask::predict(&name(), BODY), chunked].into_iter().enumerate() {
            let _gate = served.fake.hold(PREDICT, 1);
            let calls = served.fake.count(PREDICT);
            let mut held = served.connect().await;
            held.send(&request.bytes()).await;
            served.fake.called(PREDICT, calls + 1).await;
            drop(held);
            within("a cancelled request", async { while served.cancelled().await < number as f64 + 1.0 {} })
                .await;
            // The only request that may be in flight is another one.
            served.connect().await.call(&Ask::predict(&name(), BODY)).await.ok();
        }
        served.sidecar.stop().await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_within_its_body_is_gone_at_once() {
    for kind in KINDS {
        let served = Served::new(kind).await;
        let bytes = Ask::predict(&name(), BODY).bytes();
        let mut http = served.connect().await;
        http.send(&bytes[..bytes.len() - 1]).await;
        http.socket.shutdown().await.unwrap();
        http.closes().await;
        assert_eq!(served.fake.count(PREDICT), 0);
        served.sidecar.stop().await;
    }
}

#[tokio::test]
async fn a_client_may_close_its_half_behind_its_request() {
    for kind in KINDS {
        let served = Served::new(kind).await;
        // What needs no body, too.
        for request in [Ask::predict(&name(), BODY), Ask::get("/v1/openapi.json")] {
            let mut http = served.connect().await;
            http.send(&request.bytes()).await;
            http.socket.shutdown().await.unwrap();
            http.answer().await.ok();
            http.closes().await;
        }
        served.sidecar.stop().await;
    }
}

/// It reads an interim response, which clients skip, and then its answer, also a large one.
#[tokio::test]
async fn a_client_that_has_closed_its_half_is_waited_for() {
    for kind in KINDS {
        let served = Served::new(kind).await;
        let many = format!(r#"{{"instances": [{}[7, 2, 3]]}}"#, "[7, 2, 3], ".repeat(200_000));
        for body in [BODY.to_owned(), many] {
            let gate = served.fake.hold(PREDICT, 1);
            let calls = served.fake.count(PREDICT);
            let mut http = served.connect().await;
            http.send(&Ask::predict(&name(), &body).bytes()).await;
            served.fake.called(PREDICT, calls + 1).await;
            http.socket.shutdown().await.unwrap();
            assert_eq!(http.head().await.status, 100, "{kind:?}");
            gate.open();
            let answer = http.answer().await.ok();
            let rows = answer.json()["predictions"].as_array().unwrap().len();
            assert_eq!(rows, body.matches("2, 3").count());
            http.closes().await;
        }
        served.sidecar.stop().await;
    }
}
