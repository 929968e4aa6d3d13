//! How requests are counted that no model answers: overload and outages are not mismatches.
use tfs_sidecar::config::{Config, UpstreamConcurrency};

use crate::support::client::Request;
use crate::support::dense::{self, CASE, INPUT};
use crate::support::requests::{PREDICT, Predict, floats};
use crate::support::sidecar::{Setup, TestSidecar};

fn request(model: &str) -> Request {
    Request::predict(&Predict::new(model).input(INPUT, floats(&[1, 128], &CASE.input_tensor)).bytes())
}

async fn setup(model: &str, change: impl FnOnce(&mut Config)) -> Setup {
    Setup::with([dense::model_named(model)], |config| {
        config.upstream_concurrency = UpstreamConcurrency::Fixed(1);
        change(config);
    })
    .await
}

/// How many requests of a model ended this way. Only mismatches may be in `rejections_total`, of
/// any test of this process.
async fn counted(sidecar: &TestSidecar, model: &str, outcome: &str, code: &str) -> f64 {
    let metrics = sidecar.metrics().await;
    for reason in ["QUEUE_FULL", "DEADLINE", "DRAINING", "UPSTREAM_UNAVAILABLE"] {
        let rejected = metrics.sum("tfs_sidecar_rejections_total", &[("reason", reason)]);
        assert_eq!(rejected, 0.0, "{reason}");
    }
    let labels = [("model", model), ("outcome", outcome), ("code", code)];
    metrics.sum("tfs_sidecar_requests_total", &labels)
}

#[tokio::test]
async fn a_deadline_that_passes_in_the_queue_is_overload_of_its_model() {
    let model = "outcome_deadline";
    let setup = setup(model, |_| {}).await;
    let gate = setup.fake.hold(PREDICT, 1);
    let held = setup.client.stream(request(model)).await;
    setup.fake.called(PREDICT, 1).await;
    let late = setup.client.call(request(model).timeout("50m")).await;
    assert_eq!((late.code, late.reason().as_str()), (4, "DEADLINE"), "{}", late.text);
    assert_eq!(counted(&setup.sidecar, model, "overloaded", "DEADLINE_EXCEEDED").await, 1.0);
    gate.open();
    held.finish().await.unwrap().ok();
    assert_eq!(counted(&setup.sidecar, model, "conforming", "OK").await, 1.0);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn limits_on_what_is_in_flight_are_overload() {
    let limits: [fn(&mut Config); 2] =
        [|config| config.limits.max_inflight_requests = 1, |config| config.limits.max_inflight_bytes = 1_000];
    for (at, limit) in limits.into_iter().enumerate() {
        let model = format!("outcome_limits_{at}");
        let setup = setup(&model, limit).await;
        let before = counted(&setup.sidecar, "__unknown__", "overloaded", "RESOURCE_EXHAUSTED").await;
        let gate = setup.fake.hold(PREDICT, 1);
        let held = setup.client.stream(request(&model)).await;
        setup.fake.called(PREDICT, 1).await;
        let full = setup.client.call(request(&model)).await;
        assert_eq!((full.code, full.reason().as_str()), (8, "QUEUE_FULL"), "{}", full.text);
        // Refused before the message was read: its model is not known.
        let after = counted(&setup.sidecar, "__unknown__", "overloaded", "RESOURCE_EXHAUSTED").await;
        assert!(after > before, "{after} {before}");
        gate.open();
        held.finish().await.unwrap().ok();
        setup.sidecar.stop().await;
    }
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_a_failure() {
    let model = "outcome_unavailable";
    let mut setup = setup(model, |_| {}).await;
    setup.fake.stop();
    let reply = setup.client.call(request(model)).await;
    assert_eq!((reply.code, reply.reason().as_str()), (14, "UPSTREAM_UNAVAILABLE"), "{}", reply.text);
    assert_eq!(counted(&setup.sidecar, model, "failed", "UNAVAILABLE").await, 1.0);
    setup.sidecar.stop().await;
}
