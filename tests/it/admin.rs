//! The admin listener: what `/metrics` counts, and that names from clients add no series.
use std::sync::Arc;

use prost::bytes::Bytes;
use tokio::task::JoinSet;

use crate::support::client::Request;
use crate::support::dense::{self, CASE, INPUT};
use crate::support::requests::{METADATA, PREDICT, Predict, floats, metadata_request};
use crate::support::sidecar::Setup;

#[tokio::test]
async fn metrics_show_which_model_and_input_get_wrong_requests() {
    let name = "admin_metrics";
    let setup = Setup::new([dense::model_named(name)]).await;
    let good = Predict::new(name).input(INPUT, floats(&[1, 128], &CASE.input_tensor)).bytes();
    let flat = Predict::new(name).input(INPUT, floats(&[128], &CASE.input_tensor)).bytes();
    let bad = Predict::new(name).input(INPUT, floats(&[1, 127], &[0.0; 127])).bytes();
    for (times, message) in [(3, &good), (2, &flat), (1, &bad)] {
        for _ in 0..times {
            setup.client.predict(message).await;
        }
    }
    setup.fake.refuse(PREDICT, 1, 14, "no session");
    assert_eq!(setup.client.predict(&good).await.code, 14);
    setup.client.call(Request::new(METADATA, &metadata_request(name))).await.ok();

    let metrics = setup.sidecar.metrics().await;
    let requests = |labels: &[(&str, &str)]| {
        metrics
            .sum("tfs_sidecar_requests_total", &[&[("model", name), ("method", "Predict")], labels].concat())
    };
    assert_eq!(requests(&[("outcome", "conforming"), ("code", "OK")]), 3.0, "{}", metrics.text());
    assert_eq!(requests(&[("outcome", "repaired"), ("code", "OK")]), 2.0);
    assert_eq!(requests(&[("outcome", "rejected"), ("code", "INVALID_ARGUMENT")]), 1.0);
    assert_eq!(requests(&[("code", "UNAVAILABLE")]), 1.0);
    let rejected = [("model", name), ("signature", "serving_default"), ("reason", "DIM_MISMATCH")];
    assert_eq!(metrics.sum("tfs_sidecar_rejections_total", &rejected), 1.0);
    let repaired = [("model", name), ("input", INPUT), ("rule", "add_batch_dim")];
    assert_eq!(metrics.sum("tfs_sidecar_repairs_total", &repaired), 2.0);
    let durations = [("model", name), ("method", "Predict")];
    assert_eq!(metrics.sum("tfs_sidecar_request_duration_seconds_count", &durations), 7.0);
    assert_eq!(metrics.sum("tfs_sidecar_upstream_duration_seconds_count", &durations), 6.0);
    let info = [("model", name), ("signature", "serving_default"), ("input", INPUT), ("shape", "[-1,128]")];
    assert_eq!(metrics.sum("tfs_sidecar_signature_info", &info), 1.0);
    assert_eq!(metrics.sum("tfs_sidecar_build_info", &[]), 1.0);
    assert!(metrics.sum("process_resident_memory_bytes", &[]) > 0.0);
    for name in
        ["tfs_sidecar_inflight_requests", "tfs_sidecar_upstream_connections", "tfs_sidecar_upstream_up"]
    {
        assert!(metrics.samples(name).next().is_some(), "{name}\n{}", metrics.text());
    }
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn names_from_clients_add_no_series() {
    const INVENTED: &str = "invented_name";
    let setup = Setup::new([dense::model_named("admin_names")]).await;
    // Sixteen at a time, because one by one they would mostly wait for the sidecar's thread.
    let client = Arc::new(setup.client);
    let mut clients = JoinSet::new();
    for lane in 0..16 {
        let client = client.clone();
        clients.spawn(async move {
            for at in (lane..10_000).step_by(16) {
                let reply = client.predict(&with_invented_name(at, &format!("{INVENTED}_{at}"))).await;
                assert_ne!(reply.code, 0);
            }
        });
    }
    clients.join_all().await;
    let metrics = setup.sidecar.metrics().await;
    let found: Vec<&str> = metrics.text().lines().filter(|line| line.contains(INVENTED)).take(5).collect();
    assert!(found.is_empty(), "names from clients are in the metrics: {found:#?}");
    assert!(metrics.sum("tfs_sidecar_requests_total", &[("model", "__unknown__")]) >= 8_000.0);
    let unknown =
        metrics.samples("tfs_sidecar_requests_total").filter(|line| line.contains("__unknown__")).count();
    assert!(unknown < 50, "{unknown} series for unknown models");
    setup.sidecar.stop().await;
}

/// A request with an invented name for its model, its signature or its input.
fn with_invented_name(at: usize, name: &str) -> Bytes {
    let tensor = floats(&[1, 1], &[0.0]);
    let request = match at % 10 {
        0 => Predict::new("admin_names").signature(name).input(INPUT, tensor),
        1 => Predict::new("admin_names").input(name, tensor),
        _ => Predict::new(name).input(name, tensor),
    };
    request.bytes()
}

#[tokio::test]
async fn unknown_paths_are_not_found() {
    let setup = Setup::new([dense::model()]).await;
    assert_eq!(setup.sidecar.page("/nothing").await.status, 404);
    assert_eq!(setup.sidecar.page("/readyz").await.status, 200);
    setup.sidecar.stop().await;
}
