//! The log as an operator's tools read it: events of repairs and refusals, the access log, and the
//! ids of requests.
use std::collections::BTreeSet;
use std::sync::Arc;

use prost::Message as _;
use prost::bytes::Bytes;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tonic_types::pb::RequestInfo;

use crate::support::admin::{self, Metrics};
use crate::support::client::{Client, Reply, Request};
use crate::support::dense::{self, CASE, INPUT, MODEL};
use crate::support::fake_tfs::FakeTfs;
use crate::support::fake_tfs::model::{Model, Sig};
use crate::support::process::Process;
use crate::support::requests::{
    FLOAT, INT32, PREDICT, Predict, STATUS, content, floats, int64s, status_request,
};
use crate::support::within;

const AGENT: &str = "grpc-python/1.62.1 grpc-c/39.0.0 (linux; chttp2)";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// The program with a JSON log, behind a fake server.
struct Setup {
    fake: FakeTfs,
    program: Process,
    client: Arc<Client>,
}

impl Setup {
    /// `yaml` is added to the configuration.
    async fn new(model: Model, yaml: &str) -> Self {
        let name = model.name.clone();
        let fake = FakeTfs::start([model]);
        let models =
            if yaml.contains("models:") { String::new() } else { format!("models: {{{name}: {{}}}}") };
        let program = Process::start(fake.addr(), &format!("log_format: json\n{yaml}\n{models}"));
        program.ready().await;
        let client = Arc::new(Client::connect(&program.grpc).await);
        Self { fake, program, client }
    }

    /// The lines so far of the access log or the events.
    fn lines(&self, target: &str) -> Vec<Value> {
        let log = self.program.log();
        let lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.filter(|line: &Value| line["target"] == format!("tfs_sidecar::{target}")).collect()
    }

    /// Waits for so many lines.
    async fn written(&self, target: &str, count: usize) -> Vec<Value> {
        let wait = async {
            while self.lines(target).len() < count {
                admin::get(&self.program.admin, "/livez").await;
            }
        };
        within(&format!("{count} lines of {target}"), wait).await;
        self.lines(target)
    }

    async fn metric(&self, name: &str) -> f64 {
        Metrics::read(&self.program.admin).await.sum(name, &[])
    }
}

fn good() -> Bytes {
    Predict::new(MODEL).input(INPUT, floats(&[1, 128], &CASE.input_tensor)).bytes()
}

/// It is repaired.
fn flat() -> Bytes {
    Predict::new(MODEL).input(INPUT, floats(&[128], &CASE.input_tensor)).bytes()
}

/// It is refused.
fn narrow() -> Bytes {
    Predict::new(MODEL).input(INPUT, floats(&[1, 127], &[0.0; 127])).bytes()
}

fn request(message: &[u8], id: &str) -> Request {
    Request::predict(message)
        .metadata("user-agent", AGENT)
        .metadata("x-request-id", id)
        .metadata("traceparent", &format!("00-{TRACE}-00f067aa0ba902b7-01"))
}

/// The line without what differs from run to run, after a look at it.
fn fixed(mut line: Value) -> Value {
    let fields = line.as_object_mut().unwrap();
    fields.remove("timestamp").unwrap();
    let duration = fields.remove("duration_ms").unwrap().as_f64().unwrap();
    assert!(duration > 0.0 && duration < 60_000.0, "{duration}");
    if let Some(upstream) = fields.remove("upstream_ms") {
        assert!(upstream.as_f64().unwrap() <= duration, "{upstream} {duration}");
    }
    line
}

fn request_info(reply: &Reply) -> String {
    let status = tonic_types::Status::decode(reply.details().unwrap()).unwrap();
    let info = status.details.iter().find(|any| any.type_url.ends_with("google.rpc.RequestInfo")).unwrap();
    RequestInfo::decode(&info.value[..]).unwrap().request_id
}

#[tokio::test]
async fn events_say_who_sent_what_and_what_came_of_it() {
    let setup = Setup::new(dense::model(), "").await;
    setup.client.call(request(&flat(), "first")).await.ok();
    assert_eq!(setup.client.call(request(&narrow(), "second")).await.code, 3);
    let unknown = Predict::new("no_such\nmodel").input(INPUT, floats(&[1], &[0.0])).bytes();
    assert_eq!(setup.client.call(request(&unknown, "third")).await.code, 5);
    let lines: Vec<Value> = setup.written("event", 3).await.into_iter().map(fixed).collect();
    let common = |event: &str, message: &str, code: &str, id: &str| {
        json!({
            "level": "INFO", "target": "tfs_sidecar::event", "message": message, "event": event,
            "client": "grpc-python/1.62", "peer": "127.0.0.1", "user_agent": AGENT,
            "model": MODEL, "version": "2", "signature": "serving_default", "input": INPUT,
            "code": code, "request_id": id, "trace_id": TRACE, "left_out": 0,
        })
    };
    let mut repaired = common("repaired", "repaired a request", "OK", "first");
    repaired["rule"] = "add_batch_dim".into();
    repaired["change"] = "[128]->[1,128]".into();
    assert_eq!(lines[0], repaired);
    let mut refused = common("rejected", "refused a request", "INVALID_ARGUMENT", "second");
    refused["reason"] = "DIM_MISMATCH".into();
    let problem =
        format!("input '{INPUT}': dimension 1 is 127 in [1,127], expected 128 in [-1,128] (DIM_MISMATCH)");
    refused["problem"] = problem.into();
    assert_eq!(lines[1], refused);
    let (reason, model) = (&lines[2]["reason"], &lines[2]["model"]);
    assert_eq!((reason, model), (&"MODEL_UNKNOWN".into(), &"no_such\nmodel".into()), "{}", lines[2]);
    assert_eq!(lines[2]["request_id"], "third");
}

#[tokio::test]
async fn what_mode_observe_would_do_and_warnings_are_events_too() {
    let model = Model::new("pair").version(
        1,
        [Sig::new("serving_default").input("a", FLOAT, &[-1]).input("b", FLOAT, &[-1]).output(
            "y",
            FLOAT,
            &[-1],
        )],
    );
    let setup = Setup::new(model, "defaults: {mode: observe}").await;
    let pair = |a: &[i64], b: &[i64]| {
        let tensor = |dims: &[i64]| floats(dims, &vec![0.5; dims.iter().product::<i64>() as usize]);
        Predict::new("pair").input("a", tensor(a)).input("b", tensor(b)).bytes()
    };
    for message in [pair(&[], &[]), pair(&[2], &[3]), pair(&[2, 2], &[2])] {
        setup.client.predict(&message).await;
    }
    setup.client.call(Request::predict(b"\xff\xff\xff")).await;
    let lines = setup.written("event", 5).await;
    let events: BTreeSet<(String, String)> = lines
        .iter()
        .map(|line| {
            let why = line["rule"].as_str().or(line["reason"].as_str()).unwrap();
            (line["event"].as_str().unwrap().to_owned(), why.to_owned())
        })
        .collect();
    let expected = [
        ("warned", "BATCH_MISMATCH"),
        ("would_reject", "MALFORMED"),
        ("would_reject", "RANK_TOO_HIGH"),
        ("would_repair", "add_batch_dim"),
    ];
    assert_eq!(events, expected.map(|(event, why)| (event.to_owned(), why.to_owned())).into());
    // Two inputs of one request with the same rule are two events.
    assert_eq!(lines.iter().filter(|line| line["rule"] == "add_batch_dim").count(), 2, "{lines:?}");
}

#[tokio::test]
async fn a_warning_beside_a_repair_is_an_event_of_its_own() {
    const INT16: i32 = 5;
    let setup = Setup::new(dense::model(), "").await;
    let samples = Predict::new(MODEL).input(INPUT, content(INT16, &[128], vec![1; 256])).bytes();
    setup.client.predict(&samples).await.ok();
    let lines = setup.written("event", 3).await;
    let events: Vec<(&Value, &Value)> = lines.iter().map(|line| (&line["event"], &line["reason"])).collect();
    let repaired = (&json!("repaired"), &Value::Null);
    assert_eq!(events, [repaired, repaired, (&json!("warned"), &json!("INTEGER_FOR_FLOAT"))]);
}

#[tokio::test]
async fn a_client_that_repeats_its_mistake_has_one_event_and_the_others_are_counted() {
    let setup = Setup::new(dense::model(), "").await;
    for _ in 0..50 {
        assert_eq!(setup.client.call(request(&narrow(), "n")).await.code, 3);
    }
    setup.client.call(request(&narrow(), "n").metadata("x", "y")).await;
    let other = Request::predict(&narrow()).metadata("user-agent", "other/1.0");
    setup.client.call(other).await;
    let lines = setup.written("event", 2).await;
    let clients: Vec<&str> = lines.iter().map(|line| line["client"].as_str().unwrap()).collect();
    assert_eq!(clients, ["grpc-python/1.62", "other/1.0"]);
    assert_eq!(setup.metric("tfs_sidecar_events_left_out_total").await, 50.0);
}

#[tokio::test]
async fn invented_names_neither_fill_the_log_nor_take_memory() {
    const LANES: usize = 64;
    let setup = Setup::new(dense::model(), "client_identity: [{metadata: x-client-id}]").await;
    let send = async |requests: usize, name: fn(usize) -> String| {
        let mut lanes = JoinSet::new();
        for lane in 0..LANES {
            let (client, message) = (Arc::clone(&setup.client), narrow());
            lanes.spawn(async move {
                for at in (lane..requests).step_by(LANES) {
                    let request = Request::new(PREDICT, &message).metadata("x-client-id", &name(at));
                    assert_eq!(client.call(request).await.code, 3);
                }
            });
        }
        lanes.join_all().await;
    };
    send(5_000, |_| "honest".to_owned()).await;
    // The series of the first clients take memory once.
    send(1_000, |at| format!("early-{at}")).await;
    let memory = setup.program.memory();
    send(15_000, |at| format!("invented-{at}-{}", "x".repeat(40))).await;
    let grown = setup.program.memory() - memory;
    assert!(grown <= 2.0, "{grown} MiB");
    let left_out = setup.metric("tfs_sidecar_events_left_out_total").await;
    let lines = setup.lines("event").len();
    // 512 at once, and as many every 20 seconds after that.
    assert!(lines <= 512 * 8, "{lines} lines");
    assert!(left_out >= 21_000.0 - 512.0 * 8.0, "{left_out}");
}

/// The number that is wrong in the requests of the next test, and text that looks like nothing
/// else.
const SECRET: i64 = 7_654_321_012;

#[tokio::test]
async fn no_tensor_value_is_in_the_log_or_on_the_page() {
    let signature = Sig::new("serving_default").input("ids", INT32, &[-1]).output("y", FLOAT, &[-1]);
    let model = Model::new("secret").version(1, [signature]);
    for mode in ["observe", "repair", "strict"] {
        let yaml = format!("access_log: all\nlog: tfs_sidecar=debug\nmodels: {{secret: {{mode: {mode}}}}}");
        let setup = Setup::new(model.clone(), &yaml).await;
        let message = Predict::new("secret").input("ids", int64s(&[2], &[1, SECRET])).bytes();
        let reply = setup.client.predict(&message).await;
        if mode == "repair" {
            assert!(reply.text.contains(&format!("value {SECRET} at index 1")), "{}", reply.text);
        }
        setup.written("access", 1).await;
        setup.written("event", 1).await;
        let shown = setup.program.log() + &admin::get(&setup.program.admin, "/api/repairs").await.body;
        assert!(shown.contains("CAST_OUT_OF_RANGE") || mode == "strict", "{shown}");
        assert!(!shown.contains(&SECRET.to_string()), "{shown}");
    }
}

#[tokio::test]
async fn a_log_that_nobody_reads_delays_no_request() {
    const REQUESTS: usize = 12_000;
    const LANES: usize = 64;
    let setup = Setup::new(dense::model(), "access_log: all").await;
    setup.program.stop_reading_the_log();
    let mut lanes = JoinSet::new();
    for _ in 0..LANES {
        let (client, message) = (Arc::clone(&setup.client), good());
        lanes.spawn(async move {
            for _ in 0..REQUESTS / LANES {
                client.predict(&message).await.ok();
            }
        });
    }
    lanes.join_all().await;
    // 4096 wait, some thousand are in the pipe, and the rest is lost and counted.
    assert!(setup.metric("tfs_sidecar_log_lines_lost_total").await > 1_000.0);
}

#[tokio::test]
async fn the_access_log_has_every_request_or_those_with_problems_or_none() {
    for (mode, outcomes) in [
        ("off", vec![]),
        ("problems", vec!["repaired", "rejected", "conforming"]),
        ("all", vec!["conforming", "repaired", "rejected", "conforming", "passed"]),
    ] {
        let setup = Setup::new(dense::model(), &format!("access_log: {mode}")).await;
        setup.client.call(request(&good(), "good")).await.ok();
        setup.client.call(request(&flat(), "flat")).await.ok();
        assert_eq!(setup.client.call(request(&narrow(), "narrow")).await.code, 3);
        setup.fake.refuse(PREDICT, 1, 13, "an op failed");
        assert_eq!(setup.client.call(request(&good(), "failed")).await.code, 13);
        setup.client.call(Request::new(STATUS, &status_request(MODEL))).await.ok();
        // Both events are there, so nothing of the requests before them is still to come.
        setup.written("event", 2).await;
        let lines = setup.written("access", outcomes.len()).await;
        let found: Vec<&str> = lines.iter().map(|line| line["outcome"].as_str().unwrap()).collect();
        assert_eq!(found, outcomes, "{mode}");
    }
}

#[tokio::test]
async fn a_line_of_the_access_log_has_every_field() {
    let setup = Setup::new(dense::model(), "access_log: all").await;
    let message = good();
    setup.client.call(request(&message, "z\u{fc}rich\"")).await.ok();
    let two = Predict::new(MODEL).input(INPUT, floats(&[2, 128], &[0.5; 256])).bytes();
    setup.client.predict(&two).await.ok();
    let lines = setup.written("access", 2).await;
    assert!(lines[0]["upstream_ms"].is_number(), "{}", lines[0]);
    let expected = json!({
        "level": "INFO", "target": "tfs_sidecar::access", "message": "request",
        "client": "grpc-python/1.62", "peer": "127.0.0.1", "model": MODEL, "version": "2",
        "signature": "serving_default", "method": "Predict", "outcome": "conforming", "code": "OK",
        "request_bytes": message.len(), "rows": 1, "request_id": "z__rich\"", "trace_id": TRACE,
    });
    assert_eq!(fixed(lines[0].clone()), expected);
    // An id is made where there is none, and no two are alike.
    let made = lines[1]["request_id"].as_str().unwrap();
    assert_eq!(
        (made.find('-'), &lines[1]["rows"], &lines[1]["client"]),
        (Some(16), &2.into(), &"127.0.0.1".into())
    );
    assert_eq!(lines[1].get("trace_id"), None);
}

#[tokio::test]
async fn requests_that_shared_a_run_say_so() {
    let yaml = format!(
        "access_log: all\nupstream_concurrency: 1\nmodels: {{{MODEL}: {{signatures: {{serving_default: {{batching: \
         {{enabled: on, probation: 0, verify_sample: 0}}}}}}}}}}"
    );
    let setup = Setup::new(dense::model(), &yaml).await;
    let gate = setup.fake.hold(PREDICT, 1);
    let mut calls = JoinSet::new();
    for sent in 1..=8_u32 {
        let (client, message) = (Arc::clone(&setup.client), good());
        calls.spawn(async move { client.predict(&message).await.ok() });
        // The first one is at TF Serving, and the others wait for it.
        setup.fake.called(PREDICT, 1).await;
        let waits = async { while setup.metric("tfs_sidecar_queue_rows").await < f64::from(sent - 1) {} };
        within("the requests to wait for a run", waits).await;
    }
    gate.open();
    calls.join_all().await;
    let lines = setup.written("access", 8).await;
    let shared: Vec<&Value> = lines.iter().map(|line| &line["batch_rows"]).collect();
    assert_eq!(shared.iter().filter(|rows| ***rows == 7).count(), 7, "{lines:?}");
    assert!(lines.iter().all(|line| line["rows"] == 1), "{lines:?}");
}

#[tokio::test]
async fn a_request_that_waited_for_tf_serving_says_how_long() {
    let setup = Setup::new(dense::model(), "access_log: all\nupstream_concurrency: 1").await;
    let gate = setup.fake.hold(PREDICT, 1);
    let mut calls = JoinSet::new();
    for _ in 0..2 {
        let (client, message) = (Arc::clone(&setup.client), good());
        calls.spawn(async move { client.predict(&message).await.ok() });
    }
    let waits = async { while setup.metric("tfs_sidecar_queued_requests").await < 1.0 {} };
    within("one request to wait", waits).await;
    gate.open();
    calls.join_all().await;
    let lines = setup.written("access", 2).await;
    let waited: Vec<f64> = lines.iter().filter_map(|line| line["queue_ms"].as_f64()).collect();
    assert!(waited.len() == 1 && waited[0] > 0.0, "{lines:?}");
}

#[tokio::test]
async fn the_id_of_a_request_is_passed_on_and_comes_back() {
    let setup = Setup::new(dense::model(), "").await;
    for (message, code) in [(good(), 0), (flat(), 0), (narrow(), 3)] {
        let reply = setup.client.call(request(&message, "id-7")).await;
        assert_eq!((reply.code, reply.initial("x-request-id")), (code, vec!["id-7".to_owned()]));
    }
    let calls = setup.fake.calls_of(PREDICT);
    assert_eq!(calls.len(), 2);
    assert!(calls.iter().all(|call| call.headers["x-request-id"] == "id-7"), "{calls:?}");
    // One of TF Serving's own answers that is an error.
    setup.fake.refuse(PREDICT, 1, 13, "an op failed");
    let reply = setup.client.call(request(&good(), "id-8")).await;
    assert_eq!((reply.code, reply.initial("x-request-id")), (13, vec!["id-8".to_owned()]));
    // One that would take too much room in the trailers of the client.
    let long = "x".repeat(2_000);
    let reply = setup.client.call(request(&good(), &long)).await.ok();
    assert!(reply.initial("x-request-id").is_empty());
    assert_eq!(setup.fake.calls_of(PREDICT).last().unwrap().headers["x-request-id"], long);
}

#[tokio::test]
async fn an_id_is_made_for_a_refusal_and_not_for_an_answer() {
    let setup = Setup::new(dense::model(), "").await;
    let reply = setup.client.predict(&good()).await.ok();
    assert!(reply.initial("x-request-id").is_empty() && reply.trailer("x-request-id").is_empty());
    assert!(!setup.fake.only(PREDICT).headers.contains_key("x-request-id"));
    let reply = setup.client.predict(&narrow()).await;
    let made = reply.trailer("x-request-id").remove(0);
    assert_eq!((reply.code, &request_info(&reply)), (3, &made));
    assert_eq!(setup.written("event", 1).await[0]["request_id"], made);
    // The id of a client is in the details too.
    assert_eq!(request_info(&setup.client.call(request(&narrow(), "mine")).await), "mine");
}

/// So that a line leads to the trace that the sidecar has begun, and to that of the client.
#[tokio::test]
async fn lines_name_the_trace_of_the_request() {
    // Nothing listens on port 9; the spans are dropped.
    let yaml = "otlp_endpoint: 127.0.0.1:9\notlp_sample: 1\notlp_sample_mismatches: 0\naccess_log: all\n";
    let setup = Setup::new(dense::model(), yaml).await;
    setup.client.predict(&good()).await.ok();
    let id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{id}-00f067aa0ba902b7-00");
    setup.client.call(Request::predict(&good()).metadata("traceparent", &parent)).await.ok();
    let lines = setup.written("access", 2).await;
    let begun = lines[0]["trace_id"].as_str().unwrap();
    assert!(begun.len() == 32 && begun.bytes().all(|byte| byte.is_ascii_hexdigit()), "{begun}");
    let sent = setup.fake.calls_of(PREDICT)[0].headers["traceparent"].to_str().unwrap().to_owned();
    assert_eq!(&sent[3..35], begun);
    assert_eq!(lines[1]["trace_id"], id, "that of the client, which is not sampled");
}
