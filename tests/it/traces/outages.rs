//! A collector that is absent, silent or failing costs requests nothing.
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::Code;

use super::{conforming, to, traced};
use crate::support::admin::Metrics;
use crate::support::client::Client;
use crate::support::collector::Collector;
use crate::support::dense;
use crate::support::fake_tfs::FakeTfs;
use crate::support::process::Process;
use crate::support::sidecar::Setup;
use crate::support::within;

/// A port that takes connections and never answers, or closes each; stopped on drop.
struct Broken {
    addr: String,
    accepting: JoinHandle<()>,
}

impl Broken {
    async fn start(closing: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let accepting = tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Ok((socket, _)) = listener.accept().await {
                if !closing {
                    kept.push(socket);
                }
            }
        });
        Self { addr, accepting }
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A sidecar that traces every request to this collector.
async fn program(fake: &FakeTfs, collector: &str) -> (Process, Client) {
    let yaml = format!("otlp_endpoint: {collector}\notlp_sample: 1\nmodels: {{{}: {{}}}}", dense::MODEL);
    let program = Process::start(fake.addr(), &yaml);
    program.ready().await;
    let client = Client::connect(&program.grpc).await;
    (program, client)
}

async fn spans(program: &Process, result: &str) -> f64 {
    Metrics::read(&program.admin).await.sum("tfs_sidecar_otlp_spans_total", &[("result", result)])
}

fn warnings(program: &Process) -> usize {
    program.log().matches("cannot export traces").count()
}

#[tokio::test]
async fn an_absent_or_closing_collector_is_counted_and_logged_once() {
    let fake = FakeTfs::start([dense::model()]);
    let closing = Broken::start(true).await;
    let absent = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    for (collector, cause) in [(absent, "Connection refused"), (closing.addr.clone(), "cause=")] {
        let (program, client) = program(&fake, &collector).await;
        assert_eq!(spans(&program, "failed").await, 0.0);
        // Two batches at least, because the second is only made after the first has failed.
        for batch in 1..=2 {
            client.predict(&dense::conforming()).await.ok();
            within("a failed export", async {
                while spans(&program, "failed").await < 2.0 * f64::from(batch) {}
            })
            .await;
        }
        assert_eq!(warnings(&program), 1, "{}", program.log());
        assert!(program.log().contains(cause), "{}", program.log());
        assert_eq!(spans(&program, "exported").await, 0.0);
    }
}

#[tokio::test]
async fn a_collector_that_takes_traces_again_is_used_again() {
    let fake = FakeTfs::start([dense::model()]);
    let collector = Collector::start().await;
    collector.answer(Code::ResourceExhausted);
    let (program, client) = program(&fake, &format!("http://{}", collector.addr)).await;
    client.predict(&dense::conforming()).await.ok();
    collector.until("an export", |received| received.exports == 1).await;
    within("its failure", async { while spans(&program, "failed").await < 2.0 {} }).await;
    collector.answer(Code::Ok);
    client.predict(&dense::conforming()).await.ok();
    collector.spans(super::NAME, 1).await;
    within("the count", async { while spans(&program, "exported").await < 2.0 {} }).await;
    within("the log line", async { while !program.log().contains("traces are exported again") {} }).await;
    assert!(program.log().contains("lost_spans=2"), "{}", program.log());
    assert_eq!(warnings(&program), 1);
}

/// The system's authorities are those of a file, and the pod has the variables of OpenTelemetry.
#[cfg(feature = "tls")]
#[tokio::test]
async fn a_collector_with_a_certificate_is_reached_with_the_systems_authorities() {
    let fake = FakeTfs::start([dense::model()]);
    let collector = Collector::start_tls().await;
    let endpoint = format!("https://localhost:{}", collector.addr.rsplit(':').next().unwrap());
    let authorities = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls/ca.pem");
    let environment = [
        ("SSL_CERT_FILE", authorities),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_SERVICE_NAME", "scorer"),
    ];
    let yaml = format!("otlp_sample: 1\nmodels: {{{}: {{}}}}", dense::MODEL);
    let program = Process::with_environment(fake.addr(), &yaml, &environment);
    program.ready().await;
    Client::connect(&program.grpc).await.predict(&dense::conforming()).await.ok();
    collector.spans(super::NAME, 1).await;
    assert_eq!(collector.received().resource["service.name"], "scorer", "{}", program.log());
}

#[tokio::test]
async fn a_silent_collector_stops_no_request_and_what_it_does_not_take_is_dropped() {
    let fake = FakeTfs::start([dense::model()]);
    let silent = Broken::start(false).await;
    let (program, client) = program(&fake, &silent.addr).await;
    let send = async |requests: usize| {
        for _ in 0..requests {
            client.predict(&dense::conforming()).await.ok();
        }
    };
    // The batch that waits for the collector, and the full queue.
    const HELD: usize = 512 + 2048;
    send(HELD).await;
    let before = program.memory();
    let dropped = spans(&program, "dropped").await;
    send(1_000).await;
    // None was taken from the queue meanwhile, unless the first batch has failed: it has 10 s.
    let now = spans(&program, "dropped").await;
    assert!(now - dropped >= 2.0 * 400.0, "{dropped} then {now}");
    let grown = program.memory() - before;
    assert!(grown < 2.0, "{grown} MiB");
}

#[tokio::test]
async fn a_silent_collector_does_not_hold_up_the_end() {
    let model = "traces_silent_end";
    let silent = Broken::start(false).await;
    let collector = Collector::start().await;
    let setup = Setup::with([dense::model_named(model)], |config| {
        to(&collector)(config);
        config.otlp.endpoint = Some(silent.addr.parse().unwrap());
    })
    .await;
    setup.client.call(traced(&conforming(model))).await.ok();
    drop(setup.client);
    let start = Instant::now();
    setup.sidecar.stop().await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
