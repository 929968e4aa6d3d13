//! Findings about rows and about callers, with warnings and with refusals.
use serde_json::json;

use super::{FEATURES, INPUT, Profiled, normal, raw, scaled};
use crate::support::client::Reply;
use crate::support::random::Random;
use crate::support::requests::PREDICT;
use crate::support::rest::Ask;

const WARNING: &str = "tfs-sidecar-warning";

fn shifted(reply: &Reply) -> Vec<String> {
    reply.initial(WARNING).into_iter().filter(|text| text.contains("(SHIFTED)")).collect()
}

#[tokio::test]
async fn a_client_that_does_not_scale_is_named_within_64_requests_and_others_never() {
    let setup = Profiled::new("named", "profile_check: warn").await;
    let mut random = Random::new(2);
    let mut named = None;
    for number in 1..=1150 {
        let row = scaled(&mut random);
        let wrong = setup.send("fraud-batch/2.3", &[raw(&row)]).await.ok();
        if named.is_none() && !shifted(&wrong).is_empty() {
            named = Some(number);
        }
        assert_eq!(shifted(&wrong).is_empty(), named.is_none(), "request {number}");
        let right = setup.send("ranker/1.8", &[row]).await.ok();
        assert_eq!(shifted(&right), [""; 0]);
    }
    assert!(named.is_some_and(|number| number <= 64), "{named:?}");

    let found = setup.findings().await;
    let of = |kind: &str| {
        let all = found["findings"].as_array().unwrap();
        all.iter().find(|one| one["kind"] == kind && one["client"] == "fraud-batch/2.3").cloned().unwrap()
    };
    let shifted = of("SHIFTED");
    assert_eq!(
        shifted["text"],
        "caller fraud-batch/2.3 sends `x` unscaled: 10 of 10 features match the training data before \
         StandardScaler; apply the scaler in the client or declare `transform: standardize` (SHIFTED)"
    );
    assert_eq!(setup.counted("SHIFTED", "fraud-batch/2.3").await, shifted["requests"].as_f64().unwrap());
    assert_eq!(setup.counted("SHIFTED", "ranker/1.8").await, 0.0);
    assert_eq!(of("OUT_OF_RANGE")["requests"], 1150, "each request counts once");
    assert_eq!(setup.counted("OUT_OF_RANGE", "fraud-batch/2.3").await, 1150.0);
    let honest: Vec<_> =
        found["findings"].as_array().unwrap().iter().filter(|of| of["client"] == "ranker/1.8").collect();
    assert_eq!(honest, Vec::<&serde_json::Value>::new());
    let client = |name: &str| {
        found["clients"].as_array().unwrap().iter().find(|client| client["client"] == name).cloned().unwrap()
    };
    assert_eq!(client("fraud-batch/2.3")["shifted"], json!(["not_scaled"]));
    assert_eq!(client("ranker/1.8")["shifted"], json!([]));
    assert_eq!(client("ranker/1.8")["requests"], 1150);
    // Half of all rows are far from the training data.
    assert!(found["drift"][0]["index"].as_f64().unwrap() > 0.25, "{found}");
    let metrics = setup.sidecar.metrics().await;
    assert!(metrics.text().contains(
        "tfs_sidecar_feature_drift{model=\"named\",signature=\"serving_default\",input=\"x\",feature="
    ));
    let page = setup.sidecar.page("/api/fixes").await.body;
    assert!(page.contains("SHIFTED") && page.contains("transform: standardize"), "{page}");
    setup.stop().await;
}

#[tokio::test]
async fn a_drifting_client_and_one_that_repeats_a_row_are_no_findings() {
    let setup = Profiled::new("drifting", "profile_check: refuse").await;
    let mut random = Random::new(3);
    let same = scaled(&mut random);
    for number in 0..600 {
        // Moves by a deviation and a half, within the range of the training data.
        let shift = 1.5 * f64::from(number) / 600.0;
        let mut moved = || -> Vec<f64> {
            (0..FEATURES).map(|_| (normal(&mut random) * 0.5 + shift).clamp(-3.0, 3.0)).collect()
        };
        setup.send("drifting", &[moved(), moved(), moved(), moved()]).await.ok();
        setup.send("health", &vec![same.clone(); 4]).await.ok();
    }
    let found = setup.findings().await;
    assert_eq!(found["findings"], json!([]), "{found}");
    let drift = |name: &str| {
        found["clients"].as_array().unwrap().iter().find(|client| client["client"] == name).unwrap()["drift"]
            .as_f64()
            .unwrap()
    };
    assert!(drift("drifting") > 0.25, "{found}");
    assert!(drift("health") > 0.25, "{found}");
    assert_eq!(
        setup.sidecar.metrics().await.sum("tfs_sidecar_rejections_total", &[("model", setup.model)]),
        0.0
    );
    setup.stop().await;
}

#[tokio::test]
async fn with_refuse_a_value_out_of_range_is_refused_and_only_its_client_is_told_it() {
    let setup = Profiled::new("out_of_range", "profile_check: refuse").await;
    let mut random = Random::new(4);
    let mut row = scaled(&mut random);
    setup.send("a", &[row.clone()]).await.ok();
    row[3] = 8765.25;
    let reply = setup.send("a", &[row.clone()]).await;
    assert_eq!((reply.code, reply.reason().as_str()), (3, "OUT_OF_RANGE"), "{}", reply.text);
    let (bad, _) = reply.problems();
    let told = &bad.field_violations[0].description;
    assert!(
        told.contains("value 8765.25 (training data: ")
            && told.contains("of feature 3 is more than three ranges"),
        "{told}"
    );
    row[3] = f64::NAN;
    let reply = setup.send("a", &[row]).await;
    assert_eq!((reply.code, reply.reason().as_str()), (3, "NOT_FINITE"), "{}", reply.text);
    assert_eq!(setup.fake.count(PREDICT), 1, "neither was sent on");
    for path in ["/api/findings", "/api/repairs", "/api/fixes", "/metrics"] {
        let page = setup.sidecar.page(path).await.body;
        assert!(!page.contains("8765.25"), "{path} shows a value: {page}");
    }
    assert_eq!(setup.counted("OUT_OF_RANGE", "a").await, 1.0);
    let labels = [("model", setup.model), ("reason", "OUT_OF_RANGE"), ("input", INPUT), ("client", "a")];
    assert_eq!(setup.sidecar.metrics().await.sum("tfs_sidecar_rejections_total", &labels), 1.0);
    setup.stop().await;
}

/// Scaled twice: all values are near the middle of the training data, or below it, and some lie
/// outside.
#[tokio::test]
async fn with_refuse_a_client_is_refused_once_it_is_certain_and_served_as_soon_as_it_is_fixed() {
    let setup = Profiled::new("certain", "profile_check: refuse").await;
    let mut random = Random::new(5);
    let twice = |row: &[f64]| -> Vec<f64> {
        row.iter().enumerate().map(|(at, value)| (value - super::mean(at)) / super::scale(at)).collect()
    };
    let mut refused = 0;
    for _ in 0..64 {
        let reply = setup.send("twice", &[twice(&scaled(&mut random))]).await;
        if reply.code == 3 && reply.reason() == "SHIFTED" {
            let said = "remove one of the scalers (SHIFTED); input 'x': value ";
            assert!(reply.text.contains(said), "{}", reply.text);
            refused += 1;
        }
    }
    assert!(refused > 0, "{}", setup.findings().await);
    for _ in 0..50 {
        setup.send("twice", &[scaled(&mut random)]).await.ok();
    }
    setup.stop().await;
}

/// 255 times too small: all values are within the training data, so that one request does not show
/// that the client was fixed.
#[tokio::test]
async fn with_refuse_a_client_without_values_outside_is_served_again_after_256_rows() {
    let setup = Profiled::new("cleared", "profile_check: refuse").await;
    let mut random = Random::new(14);
    let small = |row: Vec<f64>| -> Vec<f64> { row.into_iter().map(|value| value / 255.0).collect() };
    let mut refused = 0;
    for _ in 0..40 {
        let rows: Vec<Vec<f64>> = (0..16).map(|_| small(scaled(&mut random))).collect();
        let reply = setup.send("small", &rows).await;
        refused += u32::from(reply.code == 3 && reply.reason() == "SHIFTED");
    }
    assert!(refused > 0, "{}", setup.findings().await);
    let mut codes = Vec::new();
    for _ in 0..40 {
        let rows: Vec<Vec<f64>> = (0..16).map(|_| scaled(&mut random)).collect();
        codes.push(setup.send("small", &rows).await.code);
    }
    // The window in which it was fixed has rows of both kinds.
    let served = codes.iter().position(|code| *code == 0).expect("it is served again");
    assert!((8..=33).contains(&served), "{codes:?}");
    assert!(codes[served..].iter().all(|code| *code == 0), "{codes:?}");
    setup.stop().await;
}

#[tokio::test]
async fn no_more_rows_are_looked_at_than_the_budget_says() {
    let mut random = Random::new(19);
    let mut rows = vec![scaled(&mut random), scaled(&mut random)];
    rows[1][0] = 1e6;
    for (name, check, found) in
        [("one_row", "{sample: 1}", 0), ("few_values", "{budget: 10}", 0), ("all", "warn", 1)]
    {
        let setup = Profiled::new(name, &format!("profile_check: {check}")).await;
        assert_eq!(setup.send("a", &rows).await.ok().initial(WARNING).len(), found, "{check}");
        setup.stop().await;
    }
}

#[tokio::test]
async fn clients_of_the_rest_api_are_told_in_json() {
    let setup = Profiled::new("rest", "profile_check: warn").await;
    let body = r#"{"instances": [[0, 0, 0, 8765.25, 0, 0, 0, 0, 0, 0]]}"#;
    let ask = || Ask::predict(setup.model, body).header("x-client", "web");
    let answer = ask().send(&setup.sidecar.rest).await.ok();
    let warnings = answer.all(WARNING);
    assert!(warnings.len() == 1 && warnings[0].ends_with("(OUT_OF_RANGE)"), "{warnings:?}");
    assert_eq!(setup.counted("OUT_OF_RANGE", "web").await, 1.0);
    setup.stop().await;
    let setup = Profiled::new("rest_refused", "profile_check: refuse").await;
    let answer = Ask::predict(setup.model, body).send(&setup.sidecar.rest).await;
    let error = answer.error();
    assert!(answer.status == 400 && error.contains("8765.25") && error.contains("(OUT_OF_RANGE)"), "{error}");
    setup.stop().await;
}

#[tokio::test]
async fn with_off_nothing_is_compared() {
    let setup = Profiled::new("unwatched", "profile_check: off").await;
    let mut random = Random::new(15);
    for _ in 0..80 {
        let reply = setup.send("a", &[raw(&scaled(&mut random))]).await.ok();
        assert_eq!(reply.initial(WARNING), [""; 0]);
    }
    let page = setup.sidecar.page("/api/findings").await.body;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&page).unwrap(), json!({"signatures": []}));
    setup.stop().await;
}

#[tokio::test]
async fn in_mode_observe_and_in_dry_runs_nothing_is_refused() {
    let setup = Profiled::new("observed", "profile_check: refuse, mode: observe").await;
    let mut random = Random::new(6);
    let mut row = scaled(&mut random);
    row[0] = 1e6;
    let reply = setup.send("a", &[row.clone()]).await.ok();
    assert_eq!(reply.initial(WARNING), [""; 0]);
    let labels = [("model", setup.model), ("reason", "OUT_OF_RANGE"), ("input", INPUT)];
    assert_eq!(setup.sidecar.metrics().await.sum("tfs_sidecar_would_reject_total", &labels), 1.0);
    let before = setup.findings().await["requests"].clone();
    let request = crate::support::client::Request::predict(&super::request(setup.model, &[row]));
    let reply =
        setup.client.call(request.metadata("x-client", "a").metadata("tfs-sidecar-dry-run", "1")).await;
    assert_eq!(reply.code, 0, "{}", reply.text);
    assert_eq!(setup.findings().await["requests"], before, "a dry run is not compared with others");
    setup.stop().await;
}
