//! What the sidecar says while it is not ready, and about what is wrong although it is: the same
//! sentences in `/readyz`, on the page, in metrics and in the log.
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use serde_json::Value;
use tfs_sidecar::config::load::{File, Settings, load};
use tfs_sidecar::config::{Config, UndeclaredModels, UpstreamTls};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::support::admin::{self, Metrics};
use crate::support::dense::{self, CASE, INPUT};
use crate::support::fake_tfs::model::Model;
use crate::support::fake_tfs::{FakeTfs, Options};
use crate::support::requests::{METADATA, Predict, floats};
use crate::support::sidecar::{Setup, TestSidecar, config};
use crate::support::within;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tls").join(name)
}

/// Handles every connection of a free port, and returns the port.
async fn serve<F: Future<Output = ()> + Send>(
    handle: impl Fn(TcpStream) -> F + Copy + Send + 'static,
) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            handle(socket).await;
        }
    });
    port
}

async fn http1(mut socket: TcpStream) {
    socket.read_exact(&mut [0; 24]).await.ok();
    socket.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await.ok();
}

async fn tls(socket: TcpStream) {
    let chain = CertificateDer::pem_file_iter(fixture("server.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(fixture("server.key")).unwrap();
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config)).accept(socket).await.ok();
}

async fn json(admin: &str, path: &str) -> (u16, Value) {
    let page = admin::get(admin, path).await;
    (page.status, serde_json::from_str(&page.body).unwrap_or_else(|_| panic!("{path}: {}", page.body)))
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// Reads `/readyz` until a line under `key` contains the text, and returns that line with the
/// status.
async fn readyz(admin: &str, key: &str, text: &str) -> (u16, String) {
    within(&format!("`{text}` in /readyz"), async {
        loop {
            let (status, body) = json(admin, "/readyz").await;
            if let Some(line) = texts(&body[key]).into_iter().find(|line| line.contains(text)) {
                return (status, line);
            }
        }
    })
    .await
}

/// Waits until `/readyz` lists nothing.
async fn all_well(admin: &str) {
    within("a /readyz without problems", async {
        loop {
            let (status, body) = json(admin, "/readyz").await;
            if status == 200 && body["problems"] == Value::Array(Vec::new()) {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_sidecar_without_an_upstream_says_why_and_what_to_do() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let cases = [
        (format!("127.0.0.1:{closed}"), "Connection refused", "`--port`"),
        (
            format!("127.0.0.1:{}", serve(http1).await),
            "the server does not speak HTTP/2",
            "not its REST port",
        ),
        (format!("127.0.0.1:{}", serve(tls).await), "the server does not speak HTTP/2", "`https://`"),
        (format!("https://localhost:{}", serve(tls).await), "untrusted certificate", "`upstream_tls.ca`"),
        (format!("https://localhost:{}", serve(http1).await), "TLS handshake failed", "without `https://`"),
        ("no-such-host.invalid:8500".to_owned(), "cannot resolve the name `no-such-host.invalid`", "DNS"),
    ];
    for (upstream, cause, advice) in cases {
        let upstream_tls = UpstreamTls { ca: Some(fixture("client.pem")), ..UpstreamTls::default() };
        let settings = config(&upstream, [dense::MODEL.to_owned()]);
        let sidecar = TestSidecar::start(Config { upstream_tls, ..settings });
        let (status, line) = readyz(&sidecar.admin, "missing", cause).await;
        assert_eq!(status, 503);
        let address = upstream.trim_start_matches("https://");
        assert!(line.starts_with("no connection to TF Serving at "), "{line}");
        assert!(line.contains(address) && line.contains(advice), "{line}");
        let (_, status) = json(&sidecar.admin, "/api/status").await;
        assert_eq!(
            (&status["upstream"]["up"], &status["upstream"]["problem"]),
            (&false.into(), &line.into())
        );
        sidecar.stop().await;
    }
}

#[tokio::test]
async fn a_model_that_is_not_served_is_named_with_the_servers_text() {
    let fake = FakeTfs::start([dense::model()]);
    let sidecar = TestSidecar::start(config(fake.addr(), ["ready_absent".to_owned()]));
    let (status, line) = readyz(&sidecar.admin, "missing", "does not serve model 'ready_absent'").await;
    assert_eq!(status, 503);
    assert!(line.contains("Could not find any versions of model ready_absent"), "{line}");
    assert!(line.contains("`--model_name`"), "{line}");
    let problem = [("model", "ready_absent"), ("kind", "not_served")];
    assert_eq!(sidecar.metrics().await.sum("tfs_sidecar_model_problem", &problem), 1.0);
    let (_, models) = json(&sidecar.admin, "/api/models").await;
    assert_eq!(models[0]["problem"], Value::String(line));

    fake.serve(dense::model_named("ready_absent"));
    sidecar.ready().await;
    all_well(&sidecar.admin).await;
    assert_eq!(sidecar.metrics().await.sum("tfs_sidecar_model_problem", &problem), 0.0);
    sidecar.stop().await;
}

#[tokio::test]
async fn metadata_that_cannot_be_read_is_explained() {
    let fake = FakeTfs::start([dense::model_named("ready_metadata")]);
    fake.refuse(METADATA, usize::MAX, 13, "Op type not registered 'Foo' in binary running on host.");
    let sidecar = TestSidecar::start(config(fake.addr(), ["ready_metadata".to_owned()]));
    let (status, line) = readyz(&sidecar.admin, "missing", "cannot be read").await;
    assert_eq!(status, 503);
    let text =
        "the signatures of model 'ready_metadata' cannot be read: INTERNAL: Op type not registered 'Foo'";
    assert!(line.starts_with(text), "{line}");
    assert!(line.contains(" [tfs-sidecar: "), "{line}");
    let problem = [("model", "ready_metadata"), ("kind", "metadata_failed")];
    assert_eq!(sidecar.metrics().await.sum("tfs_sidecar_model_problem", &problem), 1.0);
    sidecar.stop().await;
}

#[tokio::test]
async fn a_version_that_failed_to_load_is_a_problem_until_another_one_is_served() {
    let name = "ready_failed";
    let text = "Could not find meta graph def matching supplied tags";
    let served = || dense::model_named(name);
    let setup = Setup::new([served().failed(3, 5, text)]).await;
    let (status, line) = readyz(&setup.sidecar.admin, "problems", "failed to load").await;
    assert_eq!(status, 200, "version 2 is served");
    assert!(
        line.starts_with(&format!("version 3 of model '{name}' failed to load: NOT_FOUND: {text}")),
        "{line}"
    );
    let problem = [("model", name), ("version", "3"), ("kind", "load_failed")];
    assert_eq!(setup.sidecar.metrics().await.sum("tfs_sidecar_model_problem", &problem), 1.0);
    let (_, status) = json(&setup.sidecar.admin, "/api/status").await;
    let listed = &status["model_problems"][0];
    assert_eq!((&listed["version"], &listed["problem"]), (&3.into(), &line.into()));

    let mut next = served().failed(3, 5, text).version(4, [dense::signature()]);
    next.versions.retain(|version, _| *version > 2);
    setup.fake.serve(next);
    all_well(&setup.sidecar.admin).await;
    assert_eq!(setup.sidecar.metrics().await.sum("tfs_sidecar_model_problem", &problem), 0.0);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_sidecar_that_waits_for_a_version_to_load_says_so() {
    let fake = FakeTfs::start([Model::new("ready_loading").loading(7)]);
    let sidecar = TestSidecar::start(config(fake.addr(), ["ready_loading".to_owned()]));
    let (status, _) =
        readyz(&sidecar.admin, "missing", "version 7 of model 'ready_loading' is still loading").await;
    assert_eq!(status, 503);
    fake.serve(dense::model_named("ready_loading"));
    sidecar.ready().await;
    all_well(&sidecar.admin).await;
    sidecar.stop().await;
}

#[tokio::test]
async fn settings_that_match_no_signature_are_problems_of_a_ready_sidecar() {
    let name = "ready_config";
    let text = format!(
        "models: {{{name}: {{signatures: {{serving_defualt: {{mode: strict}}, serving_default: {{aliases: {{x: input}}}}}}}}}}"
    );
    let loaded = load(&Settings::default(), Some(File { name: "test", text: &text })).unwrap();
    let fake = FakeTfs::start([dense::model_named(name)]);
    let models = loaded.models.clone();
    let sidecar = TestSidecar::start(Config { models, ..config(fake.addr(), []) });
    sidecar.ready().await;
    let (status, line) = readyz(&sidecar.admin, "problems", "did you mean `serving_default`?").await;
    assert_eq!(status, 200);
    let (_, body) = json(&sidecar.admin, "/api/status").await;
    let listed = texts(&body["config_problems"]);
    assert!(listed.contains(&line), "{listed:?}");
    assert!(
        listed
            .iter()
            .any(|line| line.contains("aliases.x`: signature `serving_default` has no input `input`"))
    );
    assert_eq!(sidecar.metrics().await.sum("tfs_sidecar_config_problems", &[("model", name)]), 2.0);

    // The next version has what the configuration names.
    let signature = |name| dense::signature_named(name).input("input", 1, &[-1, 1]);
    let next = Model::new(name).version(3, [signature("serving_defualt"), signature("serving_default")]);
    fake.serve(next);
    all_well(&sidecar.admin).await;
    assert_eq!(sidecar.metrics().await.sum("tfs_sidecar_config_problems", &[("model", name)]), 0.0);
    sidecar.stop().await;
}

fn names(list: &Value) -> Vec<&str> {
    list["entries"].as_array().unwrap().iter().filter_map(|entry| entry["model"].as_str()).collect()
}

#[tokio::test]
async fn models_that_only_clients_know_are_listed_up_to_a_limit() {
    let setup = Setup::new([dense::model_named("ready_declared")]).await;
    setup.fake.serve(dense::model_named("ready_known"));
    let ask = |name: &str, version: i64| {
        let request = Predict::new(name).input(INPUT, floats(&[1, 128], &CASE.input_tensor));
        if version > 0 { request.version(version).bytes() } else { request.bytes() }
    };
    setup.client.predict(&ask("ready_known", 0)).await.ok();
    for known in ["ready_known", "ready_declared"] {
        assert_eq!(setup.client.predict(&ask(known, 99)).await.code, 5);
    }
    let (_, list) = json(&setup.sidecar.admin, "/api/unknown_models").await;
    assert_eq!(names(&list), [""; 0], "only their version is unknown");
    for number in 0..100 {
        assert_eq!(setup.client.predict(&ask(&format!("ready_misspelt_{number}"), 0)).await.code, 5);
    }
    for _ in 0..2 {
        setup.client.predict(&ask("ready_misspelt_90", 0)).await;
    }
    setup.client.predict(&ask(&"x".repeat(5_000), 0)).await;
    let (_, list) = json(&setup.sidecar.admin, "/api/unknown_models").await;
    let listed = names(&list);
    assert_eq!(listed.len(), 32, "one client does not fill the list");
    assert!(listed[0].len() < 300, "cut");
    assert_eq!((listed[1], &list["entries"][1]["count"]), ("ready_misspelt_90", &3.into()));
    assert_eq!(listed[2], "ready_misspelt_99");
    assert_eq!(list["entries"][1]["client"], "127.0.0.1");
    assert!(!listed.contains(&"ready_misspelt_1"));
    assert!(!setup.sidecar.metrics().await.text().contains("ready_misspelt"));
    setup.sidecar.stop().await;

    let setup =
        Setup::with([dense::model()], |config| config.undeclared_models = UndeclaredModels::Refuse).await;
    assert_eq!(setup.client.predict(&ask("ready_undeclared", 0)).await.code, 5);
    let (_, list) = json(&setup.sidecar.admin, "/api/unknown_models").await;
    assert_eq!(names(&list), ["ready_undeclared"]);
    setup.sidecar.stop().await;
}

/// The program as a process of its own, and what it logs.
struct Process {
    child: Child,
    lines: mpsc::Receiver<String>,
    log: Vec<Value>,
}

impl Process {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tfs-sidecar"));
        command.args(arguments).args(["--log-format", "json"]).env_clear().stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel(1024);
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).all(|line| sender.blocking_send(line).is_ok())
        });
        Self { child, lines, log: Vec::new() }
    }

    /// The first line with this value; waits for it.
    async fn logged(&mut self, key: &str, value: &str) -> Value {
        within(&format!("a line with {key} = {value}"), async {
            loop {
                if let Some(line) = self.log.iter().find(|line| line[key] == value) {
                    return line.clone();
                }
                let line = self.lines.recv().await.expect("the program runs");
                self.log.push(serde_json::from_str(&line).unwrap());
            }
        })
        .await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[tokio::test]
async fn the_log_has_a_cause_once_and_when_it_is_over() {
    let mut fake = FakeTfs::absent(Options::default(), [dense::model()]);
    let addresses = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let upstream = ["--upstream", fake.addr(), "--model", dense::MODEL];
    let mut process = Process::start(&[&["run"][..], &addresses, &upstream].concat());
    let listening = process.logged("server", "admin").await;
    let admin = listening["addr"].as_str().unwrap().to_owned();
    let warning = process.logged("level", "WARN").await;
    let (_, line) = readyz(&admin, "missing", "no connection to TF Serving").await;
    assert_eq!(warning["message"], Value::String(line), "the same sentence");
    // The process has metrics of its own.
    let up = async |up: &str| {
        let text = Metrics::read(&admin).await.text().to_owned();
        for name in ["upstream_up", "ready"] {
            assert!(text.contains(&format!("\ntfs_sidecar_{name} {up}\n")), "{name} is not {up}: {text}");
        }
    };
    up("0").await;

    // Every thread has failed to connect by then, most of them several times.
    fake.restart();
    process.logged("message", "connected again").await;
    within("readiness", async { while admin::get(&admin, "/readyz").await.status != 200 {} }).await;
    up("1").await;
    let drained = admin::post(&admin, "/drain").await;
    assert_eq!(drained.status, 200, "{drained:?}");
    let text = Metrics::read(&admin).await.text().to_owned();
    assert!(text.contains("\ntfs_sidecar_ready 0\n"), "draining: {text}");
    let warnings = process.log.iter().filter(|line| line["level"] == "WARN").count();
    assert_eq!(warnings, 1, "{:#?}", process.log);
}
