//! Mistakes in JSON: what is repaired, visibly and counted, and what is refused with its place.
use serde_json::{Value, json};
use tfs_sidecar::repair::Repair;

use super::*;
use crate::support::requests::{PREDICT, STRING};
use crate::support::sidecar::policy;

/// Sends a body that must be repaired by these rules. Returns what the model answered.
async fn repaired(setup: &Setup, body: &str, rules: &[&str]) -> Value {
    let answer = predict(setup, body).await.ok();
    let found = answer.repairs();
    let found: Vec<&str> = found.iter().map(|entry| entry.split(';').nth(1).unwrap()).collect();
    assert_eq!(found, rules, "{body}");
    assert_eq!(answer.header("tfs-sidecar-repairs"), rules.len().to_string());
    for rule in rules {
        let labels = [("rule", *rule), ("door", "rest")];
        assert!(metric(setup, "repairs_total", &labels).await >= 1.0, "{rule}");
    }
    answer.json()
}

/// Sends a body that must be refused for one reason: its reason, pointer and byte.
async fn refused(setup: &Setup, body: &str) -> (String, String, Option<u64>) {
    let before = setup.fake.count(PREDICT);
    let answer = predict(setup, body).await;
    let details = answer.refused();
    assert_eq!(setup.fake.count(PREDICT), before, "{body}: the model ran");
    let detail = details.first().unwrap_or_else(|| panic!("{body}: {}", answer.text()));
    let text = |key: &str| detail[key].as_str().unwrap_or_default().to_owned();
    assert!(metric(setup, "rejections_total", &[("reason", &text("reason")), ("door", "rest")]).await >= 1.0);
    (text("reason"), text("pointer"), detail["offset"].as_u64())
}

#[tokio::test]
async fn shapes_are_repaired() {
    let setup = serve(echo(FLOAT, &[-1, 3])).await;
    let one = json!({"predictions": [[1.0, 2.0, 3.0]]});
    assert_eq!(repaired(&setup, r#"{"instances": [1, 2, 3]}"#, &["add_batch_dim"]).await, one);
    assert_eq!(repaired(&setup, r#"{"instances": [[[1, 2, 3]]]}"#, &["drop_unit_dims"]).await, one);
    let two = repaired(&setup, r#"{"instances": [[[1, 2, 3]], [[4, 5, 6]]]}"#, &["drop_unit_dims"]).await;
    assert_eq!(two, json!({"predictions": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]}));
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn images_without_their_channel_are_repaired() {
    let setup = serve(echo(FLOAT, &[-1, 2, 2, 1])).await;
    let answer =
        repaired(&setup, r#"{"instances": [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]}"#, &["insert_unit_dims"])
            .await;
    assert_eq!(answer["predictions"][1], json!([[[5.0], [6.0]], [[7.0], [8.0]]]));
    setup.sidecar.stop().await;
}

/// The answer has a prediction for each instance, or the request is refused.
#[tokio::test]
async fn no_repair_changes_the_number_of_instances() {
    let setup = serve(echo(FLOAT, &[-1, 2])).await;
    for body in [
        r#"{"instances": [{"x": 1.0}, {"x": 2.0}]}"#,
        r#"{"instances": [[[1, 2], [3, 4], [5, 6], [7, 8]]]}"#,
        r#"{"instances": [{"x": [[1, 2], [3, 4], [5, 6], [7, 8]]}]}"#,
        r#"{"instances": [[1], [2]]}"#,
        r#"{"instances": [1, 2, 3, 4]}"#,
        r#"{"instances": [[1, 2, 3, 4]]}"#,
        r#"{"instances": []}"#,
    ] {
        let before = setup.fake.count(PREDICT);
        let answer = predict(&setup, body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
        assert_eq!(setup.fake.count(PREDICT), before, "{body}");
    }
    // The flat list of the only row.
    let one = repaired(&setup, r#"{"instances": [1.0, 2.0]}"#, &["add_batch_dim"]).await;
    assert_eq!(one, json!({"predictions": [[1.0, 2.0]]}));
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn whole_floats_are_integers() {
    let setup = serve(echo(INT64, &[-1])).await;
    let answer = repaired(&setup, r#"{"instances": [1.0, 2, 1e2]}"#, &["integral_floats"]).await;
    assert_eq!(answer, json!({"predictions": [1, 2, 100]}));
    let found = refused(&setup, r#"{"instances": [1, 1.5]}"#).await;
    assert_eq!(found, ("CAST_INEXACT".into(), "/instances/1".into(), Some(18)));
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn objects_at_the_wrong_level_are_repaired() {
    let setup = serve(pair()).await;
    let answer = repaired(&setup, r#"{"instances": {"a": 7, "b": [2.0, 3.0]}}"#, &["list_of_one"]).await;
    assert_eq!(answer, json!({"predictions": [7]}));
    let answer = repaired(&setup, r#"{"a": [7], "b": [[2.0, 3.0]]}"#, &["names_at_top"]).await;
    assert_eq!(answer, json!({"outputs": [7]}));
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn the_wrong_name_of_an_only_input_is_repaired() {
    let setup = serve(echo(FLOAT, &[-1, 3])).await;
    let one = json!([[1.0, 2.0, 3.0]]);
    let answer = repaired(&setup, r#"{"instances": [{"X_in": [1, 2, 3]}]}"#, &["rename_single"]).await;
    assert_eq!(answer["predictions"], one);
    let answer = repaired(&setup, r#"{"inputs": {"features": [[1, 2, 3]]}}"#, &["rename_single"]).await;
    assert_eq!(answer["outputs"], one);
    setup.sidecar.stop().await;

    let setup = serve(pair()).await;
    let answer = predict(&setup, r#"{"inputs": {"a": [7], "bb": [[2.0, 3.0]]}}"#).await;
    assert!(answer.refused().iter().any(|detail| detail["reason"] == "NAME_UNKNOWN"), "{}", answer.text());
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn numbers_in_strings_are_read_only_if_that_is_switched_on() {
    let setup = serve(echo(FLOAT, &[-1])).await;
    let found = refused(&setup, r#"{"instances": [1, "3.5"]}"#).await;
    assert_eq!(found, ("DTYPE_MISMATCH".into(), "/instances/1".into(), Some(18)));
    setup.sidecar.stop().await;

    let setup = serve_with(echo(FLOAT, &[-1]), |config| {
        policy(config, |policy| {
            policy.rules.set(Repair::find("string_numbers").unwrap(), true);
        });
    })
    .await;
    let answer = repaired(&setup, r#"{"instances": [1, "3.5"]}"#, &["string_numbers"]).await;
    assert_eq!(answer, json!({"predictions": [1.0, 3.5]}));
    let found = refused(&setup, r#"{"instances": [1, "3.5x"]}"#).await;
    assert_eq!(found.1, "/instances/1");
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn what_has_no_right_reading_is_refused_with_its_place() {
    let setup = serve(echo(UINT8, &[-1, 2])).await;
    for (body, reason, pointer, offset) in [
        (r#"{"instances": [[1, 2], [3, 300]]}"#, "CAST_OUT_OF_RANGE", "/instances/1/1", 27),
        (r#"{"instances": [[1, -1]]}"#, "CAST_OUT_OF_RANGE", "/instances/0/1", 19),
        (r#"{"instances": [[1, true]]}"#, "DTYPE_MISMATCH", "/instances/0/1", 19),
        (r#"{"instances": [[1, null]]}"#, "DTYPE_MISMATCH", "/instances/0/1", 19),
        (r#"{"instances": [[1, 2], [3]]}"#, "RAGGED", "/instances/1", 23),
        (r#"{"instances": [{"b64": "AAA="}]}"#, "DTYPE_MISMATCH", "/instances/0", 15),
        (r#"{"instances": [[1, 2],]}"#, "MALFORMED", "/instances", 22),
        (r#"{"instances": [{"x": [1, 2], "x": [3, 4]}]}"#, "MALFORMED", "/instances/0/x", 29),
    ] {
        assert_eq!(refused(&setup, body).await, (reason.into(), pointer.into(), Some(offset)), "{body}");
    }
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn all_problems_are_reported_at_once_behind_the_text_of_tensorflow_serving() {
    let setup = serve(pair()).await;
    let answer =
        predict(&setup, r#"{"instances": [{"a": 1.5, "b": [1, 2]}, {"a": 2, "b": [1, null]}]}"#).await;
    let pointers: Vec<String> =
        answer.refused().iter().map(|detail| detail["pointer"].as_str().unwrap().to_owned()).collect();
    assert_eq!(pointers, ["/instances/0/a", "/instances/1/b/1"]);
    assert!(answer.error().contains("JSON Value: 1.5"), "{}", answer.text());
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn text_is_never_decoded_as_base64_on_a_guess() {
    let setup = serve(echo(STRING, &[-1])).await;
    let answer = predict(&setup, r#"{"instances": ["aGVsbG8=", {"b64": "aGVsbG8="}]}"#).await.ok();
    assert_eq!(answer.json(), json!({"predictions": ["aGVsbG8=", "hello"]}));
    let found = refused(&setup, r#"{"instances": [17]}"#).await;
    assert_eq!((found.0.as_str(), found.1.as_str()), ("DTYPE_MISMATCH", "/instances/0"));
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn every_key_beside_instances_is_ignored_with_a_warning() {
    let setup = serve(echo(FLOAT, &[-1, 3])).await;
    for (key, meant) in [("x", ""), ("parameters", ""), ("instance", "did you mean `instances`?")] {
        let body = format!(r#"{{"instances": [[1, 2, 3]], "{key}": [[4, 5, 6]]}}"#);
        let answer = predict(&setup, &body).await.ok();
        let warning = answer.header("tfs-sidecar-warning");
        assert!(warning.contains(&format!("/{key}, byte 27")) && warning.contains(meant), "{answer:?}");
        assert_eq!(answer.repairs(), [""; 0]);
    }
    let body = r#"{"instances": [[1, 2, 3]], "a": 1, "b": {"c": []}}"#;
    assert_eq!(predict(&setup, body).await.ok().all("tfs-sidecar-warning").len(), 2);
    setup.sidecar.stop().await;
}
