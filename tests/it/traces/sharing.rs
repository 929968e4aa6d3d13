//! The traces of requests that share a run of the model.
use super::{NAME, to};
use crate::batching::{Busy, carried, enqueue, finish, firsts, metric, model, name, on, rows};
use crate::support::client::Request;
use crate::support::collector::{Collector, hex, texts};
use crate::support::requests::PREDICT;
use crate::support::sidecar::Setup;

fn parent(number: usize, flags: &str) -> String {
    format!("00-{number:032x}-{number:016x}-{flags}")
}

/// A sidecar whose requests may share runs, and what it sends its traces to.
async fn traced() -> (Collector, Setup) {
    let collector = Collector::start().await;
    let setup = Setup::with([model()], |config| {
        on(config);
        to(&collector)(config);
    })
    .await;
    (collector, setup)
}

#[tokio::test]
async fn members_with_different_traces_share_a_run_that_is_linked_with_them() {
    let (collector, setup) = traced().await;
    let busy = Busy::new(&setup).await;
    let of = |number: usize, flags: &str| {
        let request = Request::predict(&rows(&[number as f32]));
        request.metadata("traceparent", &parent(number, flags)).metadata("tracestate", "first=1")
    };
    let requests = vec![of(1, "00"), of(2, "01"), Request::predict(&rows(&[3.0])), of(4, "01")];
    let streams = enqueue(&setup, &setup.client, requests, 1).await;
    busy.end().await;
    let replies = finish(streams).await;
    assert_eq!(replies.iter().map(firsts).collect::<Vec<_>>(), [[1.0], [2.0], [3.0], [4.0]]);
    let call = setup.fake.calls_of(PREDICT).pop().unwrap();
    assert_eq!(carried(&call), [1.0, 2.0, 3.0, 4.0]);

    let run = collector.spans("run", 1).await.remove(0);
    let servers = collector.spans(NAME, 2).await;
    assert!(run.parent_span_id.is_empty() && servers.iter().all(|server| server.trace_id != run.trace_id));
    let attributes = texts(&run.attributes);
    assert_eq!((&*attributes["tfs_sidecar.requests"], &*attributes["tfs_sidecar.rows"]), ("4", "4"));
    let below = collector.below(&run);
    assert_eq!(below.iter().map(|span| span.name.as_str()).collect::<Vec<_>>(), ["queue", "upstream"]);
    // The call belongs to the run, not to the member whose metadata it carries.
    let expected = format!("00-{}-{}-01", hex(&run.trace_id), hex(&below[1].span_id));
    assert_eq!(call.headers["traceparent"], expected);
    assert!(!call.headers.contains_key("tracestate"));
    let mut members = Vec::new();
    for server in &servers {
        let [member] = &collector.below(server)[..] else { panic!("{:?}", collector.below(server)) };
        assert_eq!((member.name.as_str(), member.links.len()), ("batch", 1));
        assert_eq!((&member.links[0].trace_id, &member.links[0].span_id), (&run.trace_id, &run.span_id));
        members.push((member.trace_id.clone(), member.span_id.clone()));
    }
    let links = run.links.iter().map(|link| (link.trace_id.clone(), link.span_id.clone()));
    let mut links: Vec<_> = links.collect();
    links.sort();
    members.sort();
    assert_eq!(links, members);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_run_whose_members_are_not_traced_is_not_traced() {
    let (collector, setup) = traced().await;
    let busy = Busy::new(&setup).await;
    let of = |number: usize| {
        Request::predict(&rows(&[number as f32])).metadata("traceparent", &parent(number, "00"))
    };
    let streams = enqueue(&setup, &setup.client, vec![of(1), of(2)], 1).await;
    busy.end().await;
    finish(streams).await;
    assert_eq!(setup.fake.calls_of(PREDICT).pop().unwrap().headers["traceparent"], parent(1, "00"));
    setup.sidecar.stop().await;
    assert!(collector.received().spans.is_empty());
}

/// The run had the metadata of the first member, and another call is made with it.
#[tokio::test]
async fn a_member_that_is_sent_alone_later_has_its_own_trace_again() {
    let (collector, setup) = traced().await;
    let busy = Busy::new(&setup).await;
    setup.fake.refuse(PREDICT, 1, 3, "no such run");
    let of = |number: usize, flags: &str| {
        let request = Request::predict(&rows(&[number as f32]));
        request.metadata("traceparent", &parent(number, flags)).metadata("tracestate", "k=v")
    };
    let streams = enqueue(&setup, &setup.client, vec![of(1, "00"), of(2, "01")], 1).await;
    busy.end().await;
    finish(streams).await;
    assert_eq!(metric(&setup, "batch_requests_count", &[]).await, 1.0, "{}", name());
    let calls = setup.fake.calls_of(PREDICT);
    let alone = |number: f64| calls.iter().rfind(|call| carried(call) == [number]).unwrap();
    assert_eq!(alone(1.0).headers["traceparent"], parent(1, "00"));
    assert_eq!(alone(1.0).headers["tracestate"], "k=v");
    let server = collector.spans(NAME, 1).await.remove(0);
    let below = collector.below(&server);
    assert_eq!(below.iter().map(|span| span.name.as_str()).collect::<Vec<_>>(), ["batch", "upstream"]);
    let expected = format!("00-{:032x}-{}-01", 2, hex(&below[1].span_id));
    assert_eq!(alone(2.0).headers["traceparent"], expected);
    let run = collector.spans("run", 1).await.remove(0);
    assert_eq!(run.status.as_ref().unwrap().message, "INVALID_ARGUMENT");
    setup.sidecar.stop().await;
}
