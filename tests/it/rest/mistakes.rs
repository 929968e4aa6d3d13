//! What a refusal says: the place of each problem, what to do, and the rule that would repair it.
use serde_json::{Value, json};
use tfs_sidecar::repair::policy::Mode;

use super::*;
use crate::support::requests::{CLASSIFY, PREDICT, STRING};
use crate::support::sidecar::policy;

const BOOL: i32 = 10;

/// The details of a refusal of a body by a model of one input.
async fn details(model: Model, body: &str) -> Vec<Value> {
    let setup = serve(model).await;
    let answer = predict(&setup, body).await;
    assert_eq!(setup.fake.count(PREDICT), 0, "{body}");
    setup.sidecar.stop().await;
    answer.refused()
}

/// The text and the fix of the only problem.
async fn only(model: Model, body: &str) -> (String, String) {
    let found = details(model, body).await;
    assert_eq!(found.len(), 1, "{body}: {found:?}");
    let text = |key: &str| found[0][key].as_str().unwrap_or_default().to_owned();
    assert_eq!(found[0]["reason"], "DTYPE_MISMATCH", "{body}");
    assert!(text("fix").is_empty() || !text("text").contains(&text("fix")), "{body}: said twice: {found:?}");
    (text("text"), text("fix"))
}

#[tokio::test]
async fn bools_and_numbers_name_the_rule_that_reads_them() {
    let (text, fix) = only(echo(UINT8, &[-1, 2]), r#"{"instances": [[1, true]]}"#).await;
    assert!(text.contains("expected a number, got a bool (/instances/0/1, byte 19)"), "{text}");
    assert_eq!(fix, "send 1 or 0; the operator can switch on `bool_numbers`");
    let (_, fix) = only(echo(BOOL, &[-1]), r#"{"instances": [true, 0]}"#).await;
    assert_eq!(fix, "send true or false; the operator can switch on `bool_numbers`");
    // The rule would not read it.
    let (text, fix) = only(echo(BOOL, &[-1]), r#"{"instances": [true, 2]}"#).await;
    assert!(text.contains("expected true or false, got a number") && fix.is_empty(), "{text} {fix}");
}

#[tokio::test]
async fn a_number_in_a_string_names_the_rule_that_reads_it() {
    let (_, fix) = only(echo(FLOAT, &[-1]), r#"{"instances": ["3.5"]}"#).await;
    assert_eq!(fix, "send it without quotes; the operator can switch on `string_numbers`");
    for (dtype, value) in [(FLOAT, "3.5x"), (INT64, "3.5"), (UINT8, "300"), (BOOL, "1"), (FLOAT, "")] {
        let (_, fix) = only(echo(dtype, &[-1]), &format!(r#"{{"instances": ["{value}"]}}"#)).await;
        assert!(!fix.contains("string_numbers"), "{value}: {fix}");
    }
}

#[tokio::test]
async fn base64_for_numbers_is_to_be_decoded_first() {
    for dims in [&[-1, 4, 4, 3][..], &[-1, 3]] {
        let (text, fix) = only(echo(FLOAT, dims), r#"{"instances": [{"b64": "AAA="}]}"#).await;
        assert!(text.contains("expected float, got base64 data"), "{text}");
        assert!(fix.contains("decode the image first"), "{fix}");
    }
}

#[tokio::test]
async fn numbers_for_strings_are_told_what_the_bytes_should_be() {
    let (_, fix) = only(echo(STRING, &[-1]), r#"{"instances": [17]}"#).await;
    assert!(fix.contains(r#"an encoded image or a serialized tf.Example as {"b64": "..."}"#), "{fix}");
    assert!(!fix.contains("classify"), "{fix}");
    let examples = |name: &str, verb: &str| {
        Sig::new(name).method(&format!("tensorflow/serving/{verb}")).input("inputs", STRING, &[-1])
    };
    let own = Model::new(&name()).version(1, [examples("serving_default", "regress")]);
    let (_, fix) = only(own, r#"{"instances": [1.5]}"#).await;
    assert!(fix.contains("serialized tf.Example") && fix.contains("`examples` to :regress,"), "{fix}");
    let predict = Sig::new("serving_default").input("x", STRING, &[-1]).output("y", STRING, &[-1]);
    let other = Model::new(&name()).version(1, [predict, examples("by_class", "classify")]);
    let (_, fix) = only(other, r#"{"instances": [1.5]}"#).await;
    assert!(fix.ends_with("`examples` to :classify with signature_name 'by_class'"), "{fix}");
}

/// Also problems that are found in the tensors, not in the text.
#[tokio::test]
async fn every_problem_of_an_input_has_its_place() {
    let strict = |config: &mut Config| policy(config, |policy| policy.mode = Mode::Strict);
    let setup = serve_with(pair(), strict).await;
    for (body, expected) in [
        (r#"{"instances": [{"a": 1, "b": [1, 2, 3]}]}"#, &[("DIM_MISMATCH", "/instances/0/b", 29)][..]),
        (r#"{"inputs": {"b": [[1, 2]], "a": 7}}"#, &[("RANK_TOO_LOW", "/inputs/a", 32)]),
        (
            r#"{"inputs": {"b": [[1, 2]], "aa": [7], "bb": 1}}"#,
            &[
                ("NAME_UNKNOWN", "/inputs/aa", 27),
                ("NAME_UNKNOWN", "/inputs/bb", 38),
                ("INPUT_MISSING", "/inputs", 46),
            ],
        ),
        (r#"{"a": [1, 2, 3], "b": [[1, 2]]}"#, &[("MALFORMED", "", 0)]),
    ] {
        let found = predict(&setup, body).await.refused();
        let found: Vec<(&str, &str, u64)> = found
            .iter()
            .map(|detail| {
                let pointer = detail["pointer"].as_str().unwrap_or("none");
                (detail["reason"].as_str().unwrap(), pointer, detail["offset"].as_u64().unwrap_or(999))
            })
            .collect();
        assert_eq!(found, expected, "{body}");
    }
    setup.sidecar.stop().await;
    let setup = serve_with(echo(FLOAT, &[-1, 3]), strict).await;
    let found = predict(&setup, r#"{"instances": [1, 2, 3]}"#).await.refused();
    assert_eq!((found[0]["pointer"].as_str(), found[0]["offset"].as_u64()), (Some("/instances"), Some(14)));
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn an_unknown_signature_is_at_its_name_or_nowhere() {
    let model = || {
        let sigs =
            ["small", "large"].map(|name| Sig::new(name).input("x", FLOAT, &[-1]).output("y", FLOAT, &[-1]));
        Model::new(&name()).version(1, sigs)
    };
    let found = details(model(), r#"{"instances": [1], "signature_name": "smal"}"#).await;
    let place = |found: &[Value]| (found[0]["pointer"].clone(), found[0]["offset"].clone());
    assert_eq!(
        (found[0]["reason"].as_str(), place(&found)),
        (Some("SIGNATURE_UNKNOWN"), (json!("/signature_name"), json!(37)))
    );
    assert_eq!(found[0]["fix"], "did you mean 'small'?");
    let found = details(model(), r#"{"instances": [1]}"#).await;
    assert_eq!(
        (found[0]["reason"].as_str(), place(&found)),
        (Some("SIGNATURE_UNKNOWN"), (Value::Null, Value::Null))
    );
    assert_eq!(found[0]["fix"], "the model has 'large' (x: float [-1]), 'small' (x: float [-1])");
}

#[tokio::test]
async fn lists_that_are_ragged_or_null_or_too_deep_name_the_first_that_differs() {
    let deep = format!(r#"{{"instances": [{}1{}]}}"#, "[".repeat(300), "]".repeat(300));
    for (body, reason, pointer, offset) in [
        (r#"{"instances": [[1, 2], [3], [4]]}"#, "RAGGED", "/instances/1".to_owned(), 23),
        (r#"{"instances": [[1, 2], 3]}"#, "RAGGED", "/instances/1".to_owned(), 23),
        (r#"{"instances": [[1, null]]}"#, "DTYPE_MISMATCH", "/instances/0/1".to_owned(), 19),
        (&deep, "RAGGED", format!("/instances{}", "/0".repeat(254)), 268),
        (r#"{"instances": [[1, 2], [3, "a]}"#, "MALFORMED", "/instances/1".to_owned(), 31),
        (r#"{"instances": [[1, 2], [3, 4]}"#, "MALFORMED", "/instances".to_owned(), 29),
    ] {
        let found = details(echo(FLOAT, &[-1, 2]), body).await;
        let found = (&found[0]["reason"], &found[0]["pointer"], &found[0]["offset"]);
        assert_eq!(found, (&json!(reason), &json!(pointer), &json!(offset)), "{body}");
    }
}

#[tokio::test]
async fn bodies_of_other_methods_are_told_which_keys_belong_there() {
    let setup = serve(echo(FLOAT, &[-1, 3])).await;
    let path = |verb: &str| format!("/v1/models/{}:{verb}", name());
    for verb in ["classify", "regress"] {
        let answer = Ask::post(&path(verb), r#"{"instances": [{"a": 1}]}"#).send(&setup.sidecar.rest).await;
        assert!(answer.error().contains("key 'examples' is expected and was not found"), "{}", answer.text());
        assert!(
            answer.refused()[0]["fix"].as_str().unwrap().contains("send `examples`"),
            "{}",
            answer.text()
        );
    }
    let answer = predict(&setup, r#"{"examples": [{"a": 1}]}"#).await;
    let details = answer.refused();
    assert!(details[0]["text"].as_str().unwrap().contains("`examples` are for :classify"), "{details:?}");
    let answer = predict(&setup, r#"{"instance": [[1, 2, 3]]}"#).await;
    let details = answer.refused();
    assert!(details[0]["text"].as_str().unwrap().contains("did you mean `instances`?"), "{details:?}");
    setup.sidecar.stop().await;
}

/// TF Serving takes the last of two, and an infinity.
#[tokio::test]
async fn features_that_tensorflow_serving_reads_silently_wrong_are_refused() {
    let repair = serve(echo(FLOAT, &[-1, 3])).await;
    let observe =
        serve_with(echo(FLOAT, &[-1, 3]), |config| policy(config, |policy| policy.mode = Mode::Observe))
            .await;
    for (body, reason, pointer, offset) in [
        (r#"{"examples": [{"a": 1}, {"a": 1, "b": 2, "a": 3}]}"#, "MALFORMED", "/examples/1/a", 46),
        (r#"{"examples": [{"a": [1.5, -1e39]}]}"#, "CAST_OUT_OF_RANGE", "/examples/0/a/1", 26),
        (r#"{"examples": [{"a": 1}], "context": {"a": 1e39}}"#, "CAST_OUT_OF_RANGE", "/context/a", 42),
        (r#"{"examples": [{"a": 1}"#, "MALFORMED", "/examples", 22),
    ] {
        for verb in ["classify", "regress"] {
            let ask = Ask::post(&format!("/v1/models/{}:{verb}", name()), body);
            let found = ask.send(&repair.sidecar.rest).await.refused();
            let found = (&found[0]["reason"], &found[0]["pointer"], &found[0]["offset"]);
            assert_eq!(found, (&json!(reason), &json!(pointer), &json!(offset)), "{body}");
            ask.send(&observe.sidecar.rest).await;
        }
    }
    assert_eq!((repair.fake.count(CLASSIFY), observe.fake.count(CLASSIFY)), (0, 3));
    for (reason, count) in [("MALFORMED", 4.0), ("CAST_OUT_OF_RANGE", 4.0)] {
        let labels = [("reason", reason), ("door", "rest")];
        assert_eq!(metric(&repair, "rejections_total", &labels).await, count);
        assert_eq!(metric(&observe, "would_reject_total", &labels).await, count);
    }
    repair.sidecar.stop().await;
    observe.sidecar.stop().await;
}

#[tokio::test]
async fn text_for_an_image_is_left_to_tf_serving_and_explained_behind_its_error() {
    let setup = serve(echo(STRING, &[-1])).await;
    // Text that could be base64 is sent as it came all the same.
    let answer = predict(&setup, r#"{"instances": ["iVBORw0KGgo="]}"#).await;
    assert_eq!((answer.status, &answer.json()["predictions"][0]), (200, &json!("iVBORw0KGgo=")));
    let refusal = "Unknown image file format. One of JPEG, PNG, GIF, BMP required.";
    setup.fake.refuse(PREDICT, 1, 3, refusal);
    let answer = predict(&setup, r#"{"instances": ["a cat"]}"#).await;
    assert_eq!((answer.status, answer.error()), (400, refusal.to_owned()));
    let meaning = answer.json()["details"][0]["text"].as_str().unwrap_or_default().to_owned();
    assert!(meaning.contains("the bytes are not an encoded image"), "{meaning}");
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn the_line_to_change_is_one_of_json_whatever_library_sent_it() {
    let setup = serve(echo(FLOAT, &[-1, 2])).await;
    for body in [r#"{"instances": [["a", 1]]}"#, r#"{"instances": [1, 2]}"#] {
        let ask = Ask::predict(&name(), body).header("user-agent", "scorer/2.3 grpc-python/1.62.1");
        ask.send(&setup.sidecar.rest).await;
    }
    let page = setup.sidecar.page("/api/fixes").await.body;
    let fixes: Vec<Value> = serde_json::from_str(&page).unwrap();
    assert!(fixes.iter().all(|fix| fix["language"] == "rest"), "{page}");
    let mut lines: Vec<&str> = fixes.iter().filter_map(|fix| fix["fix"].as_str()).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["Send numbers (float).", r#"[[x1, x2]]  (under "instances" or "inputs")"#]);
    setup.sidecar.stop().await;
}
