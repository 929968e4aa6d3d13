//! Who sends what wrong: the label `client` and the status page, for each source of a name.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::bytes::Bytes;
use tfs_sidecar::config::load::{File, Settings, load};
use tfs_sidecar::config::{Config, IdentitySource, ListenTls};
use tfs_sidecar::repair::policy::Mode;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::support::admin::Metrics;
use crate::support::client::{Client, Request};
use crate::support::dense::{self, CASE, INPUT};
use crate::support::fake_tfs::FakeTfs;
use crate::support::process::Process;
use crate::support::requests::{PREDICT, Predict, floats};
use crate::support::sidecar::{Setup, TestSidecar, config, policy};

const AGENT: &str = "grpc-python/1.62.1 grpc-c/39.0.0 (linux; chttp2)";
const KEY: &str = "x-client-id";

/// A request that is repaired.
fn flat(model: &str) -> Bytes {
    Predict::new(model).input(INPUT, floats(&[128], &CASE.input_tensor)).bytes()
}

/// A request that is refused because of its input.
fn narrow(model: &str) -> Bytes {
    Predict::new(model).input(INPUT, floats(&[1, 127], &[0.0; 127])).bytes()
}

fn identity(yaml: &str) -> Vec<IdentitySource> {
    let text = format!("client_identity: {yaml}");
    load(&Settings::default(), Some(File { name: "c.yaml", text: &text })).unwrap().client_identity
}

async fn repairs(sidecar: &TestSidecar, model: &str, client: &str) -> f64 {
    let labels = [("model", model), ("client", client), ("rule", "add_batch_dim")];
    sidecar.metrics().await.sum("tfs_sidecar_repairs_total", &labels)
}

#[tokio::test]
async fn the_user_agent_names_the_client_without_its_patch_version() {
    let model = "identity_agent";
    let setup = Setup::new([dense::model_named(model)]).await;
    let agent = |message: &Bytes| Request::predict(message).metadata("user-agent", AGENT);
    setup.client.call(agent(&flat(model))).await.ok();
    assert_eq!(setup.client.call(agent(&narrow(model))).await.code, 3);
    assert_eq!(repairs(&setup.sidecar, model, "grpc-python/1.62").await, 1.0);
    let metrics = setup.sidecar.metrics().await;
    let refused = [("model", model), ("client", "grpc-python/1.62"), ("input", INPUT)];
    assert_eq!(metrics.sum("tfs_sidecar_rejections_total", &refused), 1.0, "{}", metrics.text());
    let page = setup.sidecar.page("/api/repairs").await.body;
    assert_eq!(page.matches(r#""client":"grpc-python/1.62""#).count(), 2, "{page}");
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn the_peer_names_a_client_without_a_user_agent() {
    let model = "identity_peer";
    let setup = Setup::new([dense::model_named(model)]).await;
    setup.client.predict(&flat(model)).await.ok();
    assert_eq!(repairs(&setup.sidecar, model, "127.0.0.1").await, 1.0);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn metadata_names_the_client_if_it_is_configured_and_sent() {
    let model = "identity_metadata";
    let sources = identity("[{metadata: X-Client-Id}, user_agent]");
    let setup = Setup::with([dense::model_named(model)], |config| config.client_identity = sources).await;
    for (name, label) in [(" team a ", "team a"), ("z\u{fc}rich", "z__rich"), ("", "grpc-python/1.62")] {
        let request = Request::predict(&flat(model)).metadata(KEY, name).metadata("user-agent", AGENT);
        setup.client.call(request).await.ok();
        assert_eq!(repairs(&setup.sidecar, model, label).await, 1.0, "{name}");
    }
    setup.client.predict(&flat(model)).await.ok();
    assert_eq!(repairs(&setup.sidecar, model, "__unknown__").await, 1.0);
    setup.sidecar.stop().await;
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name)
}

/// Connects with the certificate of the fixture, whose name is `localhost`.
async fn connect_with_certificate(addr: &str) -> Client {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(fixture("ca.pem")).unwrap()).unwrap();
    let chain = CertificateDer::pem_file_iter(fixture("client.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(fixture("client.key")).unwrap();
    let tls = ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(chain, key);
    let mut tls = tls.unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let socket = TcpStream::connect(addr).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    Client::over(TlsConnector::from(Arc::new(tls)).connect(name, socket).await.unwrap()).await
}

#[tokio::test]
async fn the_name_in_the_certificate_comes_before_what_the_client_says() {
    let model = "identity_certificate";
    let fake = FakeTfs::start([dense::model_named(model)]);
    let listen_tls = Some(ListenTls {
        cert: fixture("server.pem"),
        key: fixture("server.key"),
        client_ca: Some(fixture("ca.pem")),
    });
    let sidecar = TestSidecar::start(Config { listen_tls, ..config(fake.addr(), [model.to_owned()]) });
    let client = connect_with_certificate(&sidecar.grpc).await;
    let request = Request::predict(&flat(model)).metadata("user-agent", AGENT);
    client.call(request).await.ok();
    assert_eq!(repairs(&sidecar, model, "localhost").await, 1.0);
    sidecar.stop().await;
}

#[tokio::test]
async fn off_names_no_client_anywhere() {
    let model = "identity_off";
    let sources = identity("off");
    let setup = Setup::with([dense::model_named(model)], |config| config.client_identity = sources).await;
    setup.client.call(Request::predict(&flat(model)).metadata("user-agent", AGENT)).await.ok();
    assert_eq!(repairs(&setup.sidecar, model, "").await, 1.0);
    let page = setup.sidecar.page("/api/repairs").await.body;
    assert!(page.contains(r#""client":"""#) && !page.contains("grpc-python"), "{page}");
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn observed_mistakes_and_warnings_have_their_client() {
    let model = "identity_observe";
    let setup = Setup::with([dense::model_named(model)], |config| {
        policy(config, |policy| policy.mode = Mode::Observe);
    })
    .await;
    for message in [flat(model), narrow(model)] {
        setup.client.call(Request::predict(&message).metadata("user-agent", AGENT)).await;
    }
    let garbage = Request::predict(b"\xff\xff\xff").metadata("user-agent", "fuzzer/1.0");
    assert_ne!(setup.client.call(garbage).await.code, 0);
    let metrics = setup.sidecar.metrics().await;
    let labels = [("model", model), ("client", "grpc-python/1.62"), ("input", INPUT)];
    assert_eq!(metrics.sum("tfs_sidecar_would_repair_total", &labels), 1.0, "{}", metrics.text());
    assert_eq!(metrics.sum("tfs_sidecar_would_reject_total", &labels), 1.0);
    let refused = [("client", "fuzzer/1.0"), ("reason", "MALFORMED")];
    let either = metrics.sum("tfs_sidecar_would_reject_total", &refused)
        + metrics.sum("tfs_sidecar_rejections_total", &refused);
    assert_eq!(either, 1.0);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn requests_refused_before_they_are_judged_have_their_client() {
    let model = "identity_early";
    let setup = Setup::with([dense::model_named(model)], |config| {
        config.limits.max_message_bytes = 1_000;
    })
    .await;
    let large = Predict::new(model).input(INPUT, floats(&[4, 128], &[0.0; 512])).bytes();
    let name = |at: usize| format!("early-{at}/1.0");
    let requests = [
        Request::predict(&large),
        Request::predict(&flat(model)).metadata("tfs-sidecar-mode", "strct"),
        Request::predict(&flat(model)).timeout("soon"),
        Request::predict(&flat("identity_no_such_model")),
    ];
    let reasons = ["TOO_LARGE", "MALFORMED", "MALFORMED", "MODEL_UNKNOWN"];
    for (at, request) in requests.into_iter().enumerate() {
        assert_ne!(setup.client.call(request.metadata("user-agent", &name(at))).await.code, 0);
    }
    let metrics = setup.sidecar.metrics().await;
    for (at, reason) in reasons.into_iter().enumerate() {
        let name = name(at);
        let labels = [("client", name.as_str()), ("reason", reason)];
        assert_eq!(metrics.sum("tfs_sidecar_rejections_total", &labels), 1.0, "{reason}");
    }
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn requests_are_counted_by_the_version_that_they_were_checked_against() {
    let model = "identity_version";
    let setup = Setup::new([dense::model_named(model)]).await;
    for version in [1, 2, 2] {
        let request = Predict::new(model).version(version);
        let request = request.input(INPUT, floats(&[1, 128], &CASE.input_tensor));
        setup.client.predict(&request.bytes()).await.ok();
    }
    let metrics = setup.sidecar.metrics().await;
    for (version, count) in [("1", 1.0), ("2", 2.0)] {
        let labels = [("model", model), ("version", version), ("outcome", "conforming")];
        assert_eq!(metrics.sum("tfs_sidecar_requests_total", &labels), count, "{}", metrics.text());
    }
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn many_invented_names_stay_within_the_caps() {
    const LANES: usize = 64;
    let fake = FakeTfs::start([dense::model()]);
    // The census has a bound of its own, and a test of its own for it.
    let yaml = format!(
        "client_identity: [{{metadata: {KEY}}}]\ntraffic_census: off\nmodels: {{{}: {{}}}}",
        dense::MODEL
    );
    let program = Process::start(fake.addr(), &yaml);
    program.ready().await;
    let client = Arc::new(Client::connect(&program.grpc).await);
    let narrow = narrow(dense::MODEL);
    let send = async |requests: usize, name: fn(usize) -> String| {
        let mut lanes = JoinSet::new();
        for lane in 0..LANES {
            let (client, message) = (Arc::clone(&client), narrow.clone());
            lanes.spawn(async move {
                for at in (lane..requests).step_by(LANES) {
                    let request = Request::new(PREDICT, &message).metadata(KEY, &name(at));
                    assert_eq!(client.call(request).await.code, 3);
                }
            });
        }
        lanes.join_all().await;
    };
    send(5_000, |_| "honest".to_owned()).await;
    let (memory, series) = (program.memory(), Metrics::read(&program.admin).await.series());
    send(15_000, |at| format!("invented-{at}-{}", "x".repeat(40))).await;
    let metrics = Metrics::read(&program.admin).await;
    let named: Vec<&str> = metrics.samples("tfs_sidecar_rejections_total").collect();
    assert_eq!(named.iter().filter(|line| line.contains("invented-")).count(), 127);
    assert_eq!(metrics.sum("tfs_sidecar_rejections_total", &[("client", "__other__")]), 14_873.0);
    assert_eq!(metrics.sum("tfs_sidecar_rejections_total", &[("client", "honest")]), 5_000.0);
    assert!(metrics.series() <= series + 128, "{} after {series}", metrics.series());
    let grown = program.memory() - memory;
    assert!(grown <= 2.0, "{grown} MiB");
}

#[test]
fn mistakes_in_the_configuration_are_explained() {
    let problem = |yaml: &str| {
        let text = format!("client_identity: {yaml}");
        let problems = load(&Settings::default(), Some(File { name: "c.yaml", text: &text }));
        problems.unwrap_err().to_string()
    };
    for (yaml, said) in [
        ("user_agnt", "did you mean `user_agent`?"),
        ("[]", "`client_identity: off`"),
        ("[{metadta: x}]", "did you mean `metadata`?"),
        ("[{metadata: 'a b'}]", "`a b` is not a metadata key"),
        ("[{metadata: Authorization}]", "carries secrets"),
        ("[{metadata: x-bin}]", "is binary"),
    ] {
        assert!(problem(yaml).contains(said), "{yaml}: {}", problem(yaml));
    }
    assert_eq!(identity("peer"), [IdentitySource::Peer]);
}
