//! The modes that change nothing answer as TF Serving's REST API; `strict` and dry runs.
use tfs_sidecar::repair::policy::Mode;

use super::*;
use crate::support::requests::PREDICT;
use crate::support::sidecar::policy;

async fn in_mode(mode: Mode) -> Setup {
    serve_with(echo(INT64, &[-1, 2]), |config| policy(config, |policy| policy.mode = mode)).await
}

#[tokio::test]
async fn modes_that_change_nothing_answer_with_the_text_of_tensorflow_serving() {
    for mode in [Mode::Off, Mode::Observe] {
        let setup = in_mode(mode).await;
        let answer = predict(&setup, r#"{"instances": [[1, 2.0]]}"#).await;
        assert_eq!(answer.status, 400, "{mode}: {}", answer.text());
        assert!(answer.error().contains("JSON Value: 2.0"), "{mode}: {}", answer.text());
        assert!(answer.json().get("details").is_none() && answer.repairs().is_empty(), "{}", answer.text());
        let answer = predict(&setup, r#"{"instances": [[1, "x"]]}"#).await;
        assert_eq!(answer.status, 400);
        assert_eq!(setup.fake.count(PREDICT), 0);
        let observed = f64::from(u8::from(mode == Mode::Observe));
        for (name, label) in [
            ("would_repair_total", ("rule", "integral_floats")),
            ("would_reject_total", ("reason", "DTYPE_MISMATCH")),
        ] {
            assert_eq!(metric(&setup, name, &[label, ("door", "rest")]).await, observed, "{mode} {name}");
        }
        assert_eq!(metric(&setup, "repairs_total", &[]).await, 0.0);
        assert_eq!(metric(&setup, "rejections_total", &[]).await, 0.0);
        // A right request is answered.
        assert_eq!(predict(&setup, r#"{"instances": [[1, 2]]}"#).await.ok().text().matches('1').count(), 1);
        setup.sidecar.stop().await;
    }
}

/// What TF Serving reads silently wrong is forwarded so, and counted.
#[tokio::test]
async fn mode_observe_forwards_what_tensorflow_serving_reads_wrong() {
    let observe = |config: &mut Config| policy(config, |policy| policy.mode = Mode::Observe);
    let setup = serve_with(echo(UINT8, &[-1, 2]), observe).await;
    let answer = predict(&setup, r#"{"instances": [[1, 300]]}"#).await.ok();
    assert_eq!(answer.json(), serde_json::json!({"predictions": [[1, 44]]}));
    assert_eq!(metric(&setup, "would_reject_total", &[("reason", "CAST_OUT_OF_RANGE")]).await, 1.0);
    // TF Serving forwards a wrong shape to the model.
    let answer = predict(&setup, r#"{"instances": [7, 8]}"#).await.ok();
    assert_eq!(answer.json(), serde_json::json!({"predictions": [7, 8]}));
    assert_eq!(metric(&setup, "would_repair_total", &[("rule", "add_batch_dim")]).await, 1.0);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn mode_strict_refuses_what_would_be_repaired() {
    let setup = in_mode(Mode::Strict).await;
    for body in [r#"{"instances": [[1, 2.0]]}"#, r#"{"instances": [1, 2]}"#, r#"{"x": [[1, 2]]}"#] {
        let answer = predict(&setup, body).await;
        assert!(!answer.refused().is_empty(), "{}", answer.text());
        assert!(answer.repairs().is_empty());
    }
    assert_eq!(setup.fake.count(PREDICT), 0);
    predict(&setup, r#"{"instances": [[1, 2]]}"#).await.ok();
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_client_may_ask_for_a_stricter_mode_only() {
    let setup = in_mode(Mode::Repair).await;
    for (mode, status) in [("strict", 400), ("repair", 200), ("observe", 200), ("of", 400)] {
        let request = Ask::predict(&name(), r#"{"instances": [[1, 2.0]]}"#).header("tfs-sidecar-mode", mode);
        assert_eq!(request.send(&setup.sidecar.rest).await.status, status, "{mode}");
    }
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_dry_run_runs_nothing_and_says_what_would_be_done() {
    let setup = in_mode(Mode::Repair).await;
    for (body, status) in [
        (r#"{"instances": [[1, 2.0]]}"#, 200),
        (r#"{"instances": [[1, 2]]}"#, 200),
        (r#"{"instances": [[1, "x"]]}"#, 400),
    ] {
        let request = Ask::predict(&name(), body).header("tfs-sidecar-dry-run", "1");
        let answer = request.send(&setup.sidecar.rest).await;
        assert_eq!(
            (answer.status, answer.header("tfs-sidecar-dry-run").as_str()),
            (status, "1"),
            "{answer:?}"
        );
        let repairs = usize::from(body.contains("2.0"));
        assert_eq!(answer.repairs().len(), repairs, "{body}");
        if status == 200 {
            assert_eq!(answer.json(), serde_json::json!({}));
        }
    }
    assert_eq!(setup.fake.count(PREDICT), 0);
    setup.sidecar.stop().await;
}
