//! Certificates, keys and authorities that change while connections use them.
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::Reloadable;
use crate::support::client::Client;
use crate::support::dense;
use crate::support::folder::Folder;
use crate::support::tls::{content, fixture};
use crate::support::within;

/// A client that presents a certificate of the fixtures, and trusts servers of these authorities.
fn identity(name: &str, trusted: &[&str]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for ca in trusted {
        roots.add(CertificateDer::from_pem_file(fixture(ca)).unwrap()).unwrap();
    }
    let chain = CertificateDer::pem_file_iter(fixture(&format!("{name}.pem"))).unwrap();
    let key = PrivateKeyDer::from_pem_file(fixture(&format!("{name}.key"))).unwrap();
    let tls = ClientConfig::builder().with_root_certificates(roots);
    let mut tls = tls.with_client_auth_cert(chain.map(Result::unwrap).collect(), key).unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    TlsConnector::from(Arc::new(tls))
}

/// A connection, if the handshake succeeds. With TLS 1.3, whether the server takes the client's
/// certificate shows only in the first answer.
async fn connect(connector: &TlsConnector, addr: &str) -> io::Result<Client> {
    let socket = TcpStream::connect(addr).await?;
    let stream = connector.connect(ServerName::try_from("localhost").unwrap(), socket).await?;
    Ok(Client::over(stream).await)
}

async fn is_served(connector: &TlsConnector, addr: &str) -> bool {
    let Ok(client) = connect(connector, addr).await else { return false };
    client
        .try_call(crate::support::client::Request::predict(&dense::conforming()))
        .await
        .is_ok_and(|reply| reply.code == 0)
}

/// Calls on a connection of its own each time, until it is stopped: every one must be answered.
struct Load {
    calls: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Load {
    fn start(connector: TlsConnector, addr: String) -> Self {
        let calls = Arc::<AtomicUsize>::default();
        let counter = Arc::clone(&calls);
        let task = tokio::spawn(async move {
            loop {
                let client = connect(&connector, &addr).await.unwrap();
                client.predict(&dense::conforming()).await.ok();
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { calls, task }
    }

    /// Waits for some more calls.
    async fn goes_on(&self) {
        let until = self.calls.load(Ordering::Relaxed) + 5;
        within("more calls", async {
            while self.calls.load(Ordering::Relaxed) < until {
                assert!(!self.task.is_finished(), "a call has failed");
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    fn stop(self) {
        assert!(!self.task.is_finished(), "a call has failed");
        self.task.abort();
    }
}

/// Replaces the files of the secret, as kubelet does.
fn replace(folder: &Folder, version: usize, name: &str, client_ca: &[u8]) {
    let (cert, key) = (content(&format!("{name}.pem")), content(&format!("{name}.key")));
    folder.replace_map(version, &[("tls.crt", &cert), ("tls.key", &key), ("ca.crt", client_ca)]);
}

async fn start() -> (Reloadable, Folder) {
    let secret = Folder::new();
    replace(&secret, 0, "server", &content("ca.pem"));
    let path = |name: &str| secret.path(name).display().to_string();
    let (cert, key, ca) = (path("tls.crt"), path("tls.key"), path("ca.crt"));
    let yaml = format!("listen_tls: {{cert: {cert}, key: {key}, client_ca: {ca}}}\nmodels: {{mlp: }}\n");
    let live = Reloadable::unready([dense::model()], &yaml);
    within("readiness", async { while live.sidecar.page("/readyz").await.status != 200 {} }).await;
    (live, secret)
}

const BOTH: &[&str] = &["ca.pem", "other-ca.pem"];

#[tokio::test]
async fn certificates_and_authorities_are_replaced_under_load_without_a_failed_call() {
    let (live, secret) = start().await;
    let addr = live.sidecar.grpc.clone();
    let (old, new) = (identity("client", BOTH), identity("other-client", BOTH));
    assert!(!is_served(&new, &addr).await, "its authority is not trusted yet");
    let open = connect(&old, &addr).await.unwrap();
    open.predict(&dense::conforming()).await.ok();
    let old_load = Load::start(old.clone(), addr.clone());
    old_load.goes_on().await;

    // The server's certificate changes, and clients of both authorities are accepted.
    replace(&secret, 1, "other-server", &[content("ca.pem"), content("other-ca.pem")].concat());
    let only_new = identity("client", &["other-ca.pem"]);
    within("the new certificate", async { while !is_served(&only_new, &addr).await {} }).await;
    let new_load = Load::start(new.clone(), addr.clone());
    new_load.goes_on().await;
    old_load.goes_on().await;
    old_load.stop();

    // The old authority goes.
    replace(&secret, 2, "other-server", &content("other-ca.pem"));
    within("the end of the old authority", async { while is_served(&old, &addr).await {} }).await;
    new_load.goes_on().await;
    open.predict(&dense::conforming()).await.ok();
    new_load.stop();
    live.sidecar.stop().await;
}

#[tokio::test]
async fn a_key_of_another_certificate_is_refused_and_those_before_stay_in_use() {
    let (live, secret) = start().await;
    let (addr, client) = (live.sidecar.grpc.clone(), identity("client", &["ca.pem"]));
    std::fs::remove_file(secret.path("tls.key")).unwrap();
    secret.replace("tls.key", &content("other-server.key"));
    let status = live.until("the problem", |status| !status["certificates_problem"].is_null()).await;
    let problem = status["certificates_problem"].as_str().unwrap();
    assert!(problem.contains("`listen_tls`: the key") && problem.contains("does not belong"), "{problem}");
    assert!(is_served(&client, &addr).await);
    let metrics = live.sidecar.metrics().await;
    assert!(metrics.sum("tfs_sidecar_certificate_reloads_total", &[("result", "refused")]) >= 1.0);

    // On request, too.
    live.sidecar.reload();
    live.until("the same problem", |status| {
        status["problem"].as_str().is_some_and(|text| text.contains("does not belong"))
    })
    .await;
    assert!(is_served(&client, &addr).await);
    secret.replace("tls.key", &content("server.key"));
    let well = |status: &Value| status["certificates_problem"].is_null() && status["problem"].is_null();
    live.until("no problem", well).await;
    assert!(is_served(&client, &addr).await);
    live.sidecar.stop().await;
}

#[tokio::test]
async fn a_configuration_may_name_other_certificates() {
    let (live, secret) = start().await;
    let addr = live.sidecar.grpc.clone();
    let other = |name: &str| fixture(name).display().to_string();
    let (cert, key) = (other("other-server.pem"), other("other-server.key"));
    live.configure(&format!("listen_tls: {{cert: {cert}, key: {key}}}\nmodels: {{mlp: }}\n"));
    live.until_configured("other-server.pem").await;
    assert!(is_served(&identity("client", &["other-ca.pem"]), &addr).await);
    assert!(!is_served(&identity("client", &["ca.pem"]), &addr).await);
    drop(secret);
    live.sidecar.stop().await;
}
