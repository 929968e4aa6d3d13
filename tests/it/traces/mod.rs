//! Traces of requests, as a collector receives them.
mod outages;
mod sharing;

use http::HeaderMap;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::bytes::Bytes;
use tfs_sidecar::config::{Config, UpstreamAddr, UpstreamConcurrency};
use tfs_sidecar::proto::tensorflow::TensorProto;
use tfs_sidecar::repair::policy::Mode;

use crate::support::client::Request;
use crate::support::collector::{Collector, events, hex, texts};
use crate::support::dense::{self, CASE, INPUT};
use crate::support::requests::{PREDICT, Predict, STATUS, doubles, floats, status_request};
use crate::support::sidecar::{Setup, policy};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";
const NAME: &str = "tensorflow.serving.PredictionService/Predict";

/// Traces requests whose client does, and no others.
fn to(collector: &Collector) -> impl Fn(&mut Config) {
    let addr = collector.addr.parse().unwrap();
    move |config| {
        config.otlp.endpoint = Some(UpstreamAddr::clone(&addr));
        config.otlp.sample = 0.0;
        config.otlp.mismatches = 0;
    }
}

fn parent(flags: &str) -> String {
    format!("00-{TRACE}-{CALLER}-{flags}")
}

/// A request of a client that traces it.
fn traced(message: &Bytes) -> Request {
    Request::predict(message).metadata("traceparent", &parent("01")).metadata("tracestate", "k=v")
}

/// The headers of the last Predict call.
fn forwarded(setup: &Setup) -> HeaderMap {
    setup.fake.calls_of(PREDICT).pop().unwrap().headers
}

fn conforming(model: &str) -> Bytes {
    Predict::new(model).input(INPUT, floats(&[1, 128], &CASE.input_tensor)).bytes()
}

fn flat(model: &str) -> Bytes {
    Predict::new(model).input(INPUT, floats(&[128], &CASE.input_tensor)).bytes()
}

fn narrow(model: &str) -> Bytes {
    Predict::new(model).input(INPUT, floats(&[1, 127], &[0.5; 127])).bytes()
}

fn failed_with(span: &Span) -> Option<&str> {
    let status = span.status.as_ref()?;
    assert_eq!(status.code, StatusCode::Error as i32);
    Some(&status.message)
}

#[tokio::test]
async fn a_traced_request_continues_the_trace_of_its_client() {
    let model = "traces_continue";
    let collector = Collector::start().await;
    let setup = Setup::with([dense::model_named(model)], to(&collector)).await;
    let agent = "grpc-python/1.62.1 grpc-c/39.0.0 (linux; chttp2)";
    setup.client.call(traced(&conforming(model)).metadata("user-agent", agent)).await.ok();
    let server = collector.spans(NAME, 1).await.remove(0);
    assert_eq!((hex(&server.trace_id), hex(&server.parent_span_id)), (TRACE.to_owned(), CALLER.to_owned()));
    assert_eq!((server.kind, server.flags), (SpanKind::Server as i32, 0x301));
    assert_eq!((server.trace_state.as_str(), failed_with(&server)), ("k=v", None));
    let expected = [
        ("rpc.grpc.status_code", "0"),
        ("rpc.method", "Predict"),
        ("rpc.service", "tensorflow.serving.PredictionService"),
        ("rpc.system", "grpc"),
        ("tfs_sidecar.client", "grpc-python/1.62"),
        ("tfs_sidecar.model", model),
        ("tfs_sidecar.outcome", "conforming"),
        ("tfs_sidecar.signature", "serving_default"),
        ("tfs_sidecar.version", "2"),
    ];
    assert_eq!(texts(&server.attributes), expected.map(|(key, value)| (key.into(), value.into())).into());
    let [upstream] = &collector.below(&server)[..] else { panic!("{:?}", collector.received()) };
    assert_eq!((upstream.name.as_str(), upstream.kind), ("upstream", SpanKind::Client as i32));
    assert_eq!(texts(&upstream.attributes)["rpc.grpc.status_code"], "0");
    let times = [server.start_time_unix_nano, upstream.start_time_unix_nano, upstream.end_time_unix_nano];
    assert!(times.is_sorted() && times[2] <= server.end_time_unix_nano, "{times:?}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
    assert!(times[2] <= now && now - times[0] < 60_000_000_000, "{times:?} at {now}");
    // TF Serving would continue our span.
    let headers = forwarded(&setup);
    assert_eq!(headers["traceparent"], format!("00-{TRACE}-{}-01", hex(&upstream.span_id)));
    assert_eq!(headers["tracestate"], "k=v");
    let resource = collector.received().resource;
    assert_eq!((resource["service.name"].as_str(), resource.len()), ("tfs-sidecar", 3));
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn headers_of_requests_that_are_not_traced_are_forwarded_untouched() {
    let model = "traces_untouched";
    let collector = Collector::start().await;
    let setup = Setup::with([dense::model_named(model)], to(&collector)).await;
    let off = Setup::new([dense::model_named(model)]).await;
    for (setup, value) in [
        (&setup, parent("00")),
        (&setup, parent("02")),
        (&setup, "00-1-2-3".to_owned()),
        (&setup, parent("01").to_uppercase()),
        (&off, parent("01")),
        (&off, parent("00")),
    ] {
        let request = Request::predict(&conforming(model));
        let request = request.metadata("traceparent", &value).metadata("tracestate", "k=v");
        setup.client.call(request).await.ok();
        let headers = forwarded(setup);
        assert_eq!(headers["traceparent"], value);
        assert_eq!(headers["tracestate"], "k=v");
    }
    setup.client.predict(&conforming(model)).await.ok();
    assert!(!forwarded(&setup).contains_key("traceparent"));
    // Were they traced, their spans would have come before this one's.
    setup.client.call(traced(&conforming(model))).await.ok();
    collector.spans(NAME, 1).await;
    assert_eq!(collector.received().spans.len(), 2, "{:?}", collector.received());
    off.sidecar.stop().await;
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_drawn_request_begins_a_trace_of_its_own() {
    let model = "traces_drawn";
    let collector = Collector::start().await;
    let setup = Setup::with([dense::model_named(model)], |config| {
        to(&collector)(config);
        config.otlp.sample = 1.0;
    })
    .await;
    let invalid = Request::predict(&conforming(model)).metadata("traceparent", "00-1-2-3");
    setup.client.call(invalid.metadata("tracestate", "of=another")).await.ok();
    let headers = forwarded(&setup);
    setup.client.predict(&conforming(model)).await.ok();
    let servers = collector.spans(NAME, 2).await;
    assert_ne!(servers[0].trace_id, servers[1].trace_id);
    assert!(servers.iter().all(|span| span.parent_span_id.is_empty() && span.trace_state.is_empty()));
    let upstream = &collector.below(&servers[0])[0];
    let expected = format!("00-{}-{}-01", hex(&servers[0].trace_id), hex(&upstream.span_id));
    assert_eq!(headers["traceparent"], expected);
    assert!(!headers.contains_key("tracestate"));
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn repairs_and_problems_are_events_without_values() {
    let model = "traces_events";
    let collector = Collector::start().await;
    let setup = Setup::with([dense::model_named(model)], to(&collector)).await;
    setup.client.call(traced(&flat(model))).await.ok();
    assert_eq!(setup.client.call(traced(&narrow(model))).await.code, 3);
    let doubles = TensorProto { double_val: vec![1e300; 128], ..doubles(&[1, 128], &[]) };
    let huge = Predict::new(model).input(INPUT, doubles).bytes();
    let reply = setup.client.call(traced(&huge)).await;
    assert!(reply.text.contains("CAST_OUT_OF_RANGE") && reply.text.contains("e300"), "{}", reply.text);
    let servers = collector.spans(NAME, 3).await;
    let lines: Vec<_> = servers.iter().map(events).collect();
    assert_eq!(lines[0], ["repair change=[128]->[1,128] input=input_tensor rule=add_batch_dim"]);
    assert_eq!(
        lines[1],
        [
            "problem input=input_tensor problem=dimension 1 is 127 in [1,127], expected 128 in [-1,128] reason=DIM_MISMATCH"
        ]
    );
    assert_eq!(lines[2], ["problem input=input_tensor reason=CAST_OUT_OF_RANGE"]);
    let refused = texts(&servers[1].attributes);
    assert_eq!(
        [&refused["tfs_sidecar.outcome"], &refused["tfs_sidecar.reason"], &refused["rpc.grpc.status_code"]],
        ["rejected", "DIM_MISMATCH", "3"]
    );
    assert_eq!(failed_with(&servers[1]), Some("INVALID_ARGUMENT"));
    assert!(collector.below(&servers[1]).is_empty());
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn requests_that_do_not_conform_are_traced_up_to_the_rate() {
    let model = "traces_mismatches";
    let collector = Collector::start().await;
    let setup = Setup::with([dense::model_named(model)], |config| {
        to(&collector)(config);
        config.otlp.mismatches = 3;
        config.limits.max_message_bytes = 2_000;
    })
    .await;
    setup.client.predict(&conforming(model)).await.ok();
    setup.client.predict(&flat(model)).await.ok();
    let headers = forwarded(&setup);
    assert_eq!(setup.client.predict(&narrow(model)).await.code, 3);
    let large = Predict::new(model).input(INPUT, floats(&[8, 128], &[0.0; 1_024])).bytes();
    assert_eq!(setup.client.predict(&large).await.code, 8);
    // A client that has decided is not overruled.
    let undecided = Request::predict(&narrow(model));
    setup.client.call(undecided.metadata("traceparent", &parent("00"))).await;
    let servers = collector.spans(NAME, 3).await;
    let outcomes = servers.iter().map(|span| texts(&span.attributes)["tfs_sidecar.outcome"].clone());
    assert_eq!(outcomes.collect::<Vec<_>>(), ["repaired", "rejected", "rejected"]);
    let upstream = &collector.below(&servers[0])[0];
    let expected = format!("00-{}-{}-01", hex(&servers[0].trace_id), hex(&upstream.span_id));
    assert_eq!(headers["traceparent"], expected);
    setup.sidecar.stop().await;
    // A whole burst, of which the clock allows a few more each second.
    let collector = Collector::start().await;
    let setup = Setup::with([dense::model_named(model)], |config| {
        to(&collector)(config);
        config.otlp.mismatches = 1;
    })
    .await;
    let start = std::time::Instant::now();
    for _ in 0..50 {
        assert_eq!(setup.client.predict(&narrow(model)).await.code, 3);
    }
    setup.sidecar.stop().await;
    let most = 1 + start.elapsed().as_secs() as usize + 1;
    assert!((1..=most).contains(&collector.received().spans.len()), "{:?}", collector.received());
}

#[tokio::test]
async fn observed_repairs_are_told_from_those_that_are_made() {
    let model = "traces_observed";
    let collector = Collector::start().await;
    let setup = Setup::with([dense::model_named(model)], |config| {
        to(&collector)(config);
        policy(config, |policy| policy.mode = Mode::Observe);
    })
    .await;
    setup.client.call(traced(&flat(model))).await;
    let server = collector.spans(NAME, 1).await.remove(0);
    assert_eq!(events(&server), ["would_repair change=[128]->[1,128] input=input_tensor rule=add_batch_dim"]);
    assert_eq!(texts(&server.attributes)["tfs_sidecar.outcome"], "would_repair");
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_request_that_waits_for_a_permit_has_a_span_for_it() {
    let model = "traces_queue";
    let collector = Collector::start().await;
    let setup = Setup::with([dense::model_named(model)], |config| {
        to(&collector)(config);
        config.upstream_concurrency = UpstreamConcurrency::Fixed(1);
    })
    .await;
    let gate = setup.fake.hold(PREDICT, 1);
    let first = setup.client.stream(Request::predict(&conforming(model))).await;
    setup.fake.called(PREDICT, 1).await;
    let second = setup.client.stream(traced(&conforming(model))).await;
    crate::support::within("a request in the queue", async {
        while setup.sidecar.metrics().await.sum("tfs_sidecar_queued_requests", &[]) < 1.0 {}
    })
    .await;
    gate.open();
    first.finish().await.unwrap().ok();
    second.finish().await.unwrap().ok();
    let server = collector.spans(NAME, 1).await.remove(0);
    let names: Vec<_> = collector.below(&server).into_iter().map(|span| span.name).collect();
    assert_eq!(names, ["queue", "upstream"]);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn failures_have_their_code() {
    let model = "traces_failures";
    let collector = Collector::start().await;
    let setup = Setup::with([dense::model_named(model)], to(&collector)).await;
    setup.fake.refuse(PREDICT, 1, 13, "broken");
    assert_eq!(setup.client.call(traced(&conforming(model))).await.code, 13);
    let _gate = setup.fake.hold(PREDICT, 1);
    assert_eq!(setup.client.call(traced(&conforming(model)).timeout("1S")).await.code, 4);
    let servers = collector.spans(NAME, 2).await;
    for (server, code) in servers.iter().zip(["INTERNAL", "DEADLINE_EXCEEDED"]) {
        let upstream = &collector.below(server)[0];
        assert_eq!((failed_with(server), failed_with(upstream)), (Some(code), Some(code)));
        assert!(upstream.end_time_unix_nano >= upstream.start_time_unix_nano);
    }
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn other_methods_are_traced_too() {
    let model = "traces_methods";
    let collector = Collector::start().await;
    let setup = Setup::with([dense::model_named(model)], to(&collector)).await;
    let traced = |path, message: &[u8]| Request::new(path, message).metadata("traceparent", &parent("01"));
    setup.client.call(traced(STATUS, &status_request(model))).await.ok();
    assert_eq!(setup.client.call(traced("/some.Service/Method", b"")).await.code, 12);
    let status = collector.spans("tensorflow.serving.ModelService/GetModelStatus", 1).await.remove(0);
    assert_eq!(collector.below(&status)[0].name, "upstream");
    let other = collector.spans("_OTHER", 1).await.remove(0);
    assert_eq!(failed_with(&collector.below(&other)[0]), Some("UNIMPLEMENTED"));
    assert_eq!(failed_with(&other), Some("UNIMPLEMENTED"));
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn what_waits_is_sent_when_the_sidecar_stops() {
    let model = "traces_flush";
    let collector = Collector::start().await;
    let setup = Setup::with([dense::model_named(model)], |config| {
        to(&collector)(config);
        config.otlp.service_name = "scorer".to_owned();
        config.otlp.resource = vec!["k8s.pod.name=pod%201".to_owned()];
    })
    .await;
    for _ in 0..3 {
        setup.client.call(traced(&conforming(model))).await.ok();
    }
    drop(setup.client);
    setup.sidecar.stop().await;
    let received = collector.received();
    assert_eq!(received.spans.len(), 6, "{received:?}");
    let resource = &received.resource;
    assert_eq!((&*resource["service.name"], &*resource["k8s.pod.name"]), ("scorer", "pod 1"));
}
