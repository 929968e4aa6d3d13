//! HTTP/2 with prior knowledge, and TLS with either protocol.
use std::sync::Arc;

use http::Request;
use prost::bytes::Bytes;
use tfs_sidecar::config::ListenTls;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::*;
use crate::support::rest::Http;
pub(super) use crate::support::tls::fixture;
use crate::support::within;

const BODY: &str = r#"{"instances": [[1, 2, 3]]}"#;

/// Sends a Predict request over HTTP/2; the status and the body.
async fn post<S>(socket: S) -> (u16, Bytes)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut send, connection) = h2::client::handshake(socket).await.unwrap();
    let driver = tokio::spawn(connection);
    let uri = format!("http://test/v1/models/{}:predict", name());
    let head = Request::post(uri).body(()).unwrap();
    let (response, mut stream) = send.send_request(head, false).unwrap();
    stream.send_data(BODY.into(), true).unwrap();
    let (head, mut body) = within("an answer", response).await.unwrap().into_parts();
    let mut whole = Vec::new();
    while let Some(chunk) = within("a chunk", body.data()).await {
        whole.extend_from_slice(&chunk.unwrap());
    }
    driver.abort();
    (head.status.as_u16(), whole.into())
}

#[tokio::test]
async fn http2_is_served_with_prior_knowledge() {
    let setup = serve(echo(FLOAT, &[-1, 3])).await;
    let (status, body) = post(TcpStream::connect(&setup.sidecar.rest).await.unwrap()).await;
    assert_eq!((status, &body[..]), (200, &*predict(&setup, BODY).await.ok().body));
    setup.sidecar.stop().await;
}

/// A client that trusts the certificate of the tests and offers these protocols.
pub(super) fn client_tls(offered: &[&str]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(fixture("ca.pem")).unwrap()).unwrap();
    let mut tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
    tls
}

#[tokio::test]
async fn clients_choose_the_protocol_under_tls() {
    let model = echo(FLOAT, &[-1, 3]);
    let fake = crate::support::fake_tfs::FakeTfs::start([model]);
    let mut settings = crate::support::sidecar::config(fake.addr(), [name()]);
    settings.rest_listen = Some(free());
    settings.listen_tls =
        Some(ListenTls { cert: fixture("server.pem"), key: fixture("server.key"), client_ca: None });
    let sidecar = crate::support::sidecar::TestSidecar::start(settings);
    within("readiness", async { while sidecar.page("/readyz").await.status != 200 {} }).await;
    for (offered, chosen) in
        [(&["http/1.1"][..], Some("http/1.1")), (&["h2", "http/1.1"], Some("h2")), (&[], None)]
    {
        let tls = client_tls(offered);
        let socket = TcpStream::connect(&sidecar.rest).await.unwrap();
        let server = ServerName::try_from("localhost").unwrap();
        let socket = TlsConnector::from(Arc::new(tls)).connect(server, socket).await.unwrap();
        assert_eq!(socket.get_ref().1.alpn_protocol(), chosen.map(str::as_bytes));
        if chosen == Some("h2") {
            assert_eq!(post(socket).await.0, 200);
        } else {
            Http::over(socket).call(&Ask::predict(&name(), BODY)).await.ok();
        }
    }
    sidecar.stop().await;
}
