//! What a right request is answered, and what its headers say.
use std::collections::HashMap;

use prost::Message as _;
use serde_json::{Value, json};
use tfs_sidecar::proto::tensorflow::serving::PredictRequest;

use super::*;
use crate::support::client::Request;
use crate::support::dense::{self, CASE, INPUT, OUTPUT};
use crate::support::requests::{CLASSIFY, METADATA, PREDICT, Predict, REGRESS, STATUS, floats, outputs};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn numbers(json: &Value) -> Vec<f32> {
    json.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

#[tokio::test]
async fn rows_and_columns_are_answered_as_by_grpc() {
    let setup = serve(dense::model_named(&name())).await;
    let tensor = floats(&[1, 128], &CASE.input_tensor);
    let grpc = Request::predict(&Predict::new(&name()).input(INPUT, tensor.clone()).bytes());
    let reply = setup.client.call(grpc).await.ok();
    let expected = outputs(&reply.message)[OUTPUT].float_val.clone();
    let row = serde_json::to_string(&CASE.input_tensor).unwrap();
    for (body, pointer) in [
        (format!(r#"{{"instances": [{row}]}}"#), "/predictions/0"),
        (format!(r#"{{"instances": [{{"{INPUT}": {row}}}]}}"#), "/predictions/0"),
        (format!(r#"{{"inputs": [{row}]}}"#), "/outputs/0"),
        (format!(r#"{{"inputs": {{"{INPUT}": [{row}]}}}}"#), "/outputs/0"),
        (format!(r#"{{"signature_name": "serving_default", "inputs": [{row}]}}"#), "/outputs/0"),
    ] {
        let answer = predict(&setup, &body).await.ok();
        assert_eq!(answer.repairs(), [""; 0], "{body}");
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(numbers(answer.json().pointer(pointer).unwrap()), expected);
    }
    for call in setup.fake.calls_of(PREDICT) {
        let sent = PredictRequest::decode(&call.message[..]).unwrap().inputs;
        assert_eq!(sent, HashMap::from([(INPUT.to_owned(), tensor.clone())]));
    }
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn the_version_that_answered_is_in_a_header() {
    let setup = serve(dense::model_named(&name())).await;
    let row = serde_json::to_string(&CASE.input_tensor).unwrap();
    for (version, number) in [
        ("", "2"),
        ("/versions/1", "1"),
        ("/versions/2", "2"),
        ("/labels/stable", "1"),
        ("/labels/canary", "2"),
    ] {
        let path = format!("/v1/models/{}{version}:predict", name());
        let answer = Ask::post(&path, format!(r#"{{"instances": [{row}]}}"#)).send(&setup.sidecar.rest).await;
        assert_eq!(answer.ok().header("tfs-sidecar-model-version"), number, "{version}");
    }
    for (version, status) in [("/versions/7", 404), ("/labels/none", 400)] {
        let path = format!("/v1/models/{}{version}:predict", name());
        let answer = Ask::post(&path, format!(r#"{{"instances": [{row}]}}"#)).send(&setup.sidecar.rest).await;
        assert_eq!(answer.status, status, "{version}: {}", answer.text());
        assert_eq!(answer.header("tfs-sidecar-model-version"), "");
    }
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn status_metadata_and_the_description_are_served() {
    let setup = serve(echo(FLOAT, &[-1, 3])).await;
    let get = async |path: &str| Ask::get(path).send(&setup.sidecar.rest).await.ok().json();
    let (polls, reads) = (setup.fake.count(STATUS), setup.fake.count(METADATA));
    let status = get(&format!("/v1/models/{}", name())).await;
    assert_eq!(status["model_version_status"][0]["state"], "AVAILABLE");
    let metadata = get(&format!("/v1/models/{}/versions/1/metadata", name())).await;
    assert_eq!(metadata["model_spec"], json!({"name": name(), "signature_name": "", "version": "1"}));
    let signature = &metadata["metadata"]["signature_def"]["signature_def"]["serving_default"];
    assert_eq!(signature["inputs"]["x"]["dtype"], "DT_FLOAT");
    assert!(setup.fake.count(STATUS) > polls && setup.fake.count(METADATA) > reads, "TF Serving answers");
    let description = get("/v1/openapi.json").await;
    assert!(description["openapi"].as_str().unwrap().starts_with("3.1"));
    let path = format!("/v1/models/{}:predict", name());
    assert!(description["paths"][&path]["post"].is_object(), "{description}");
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn examples_are_sent_to_classify_and_regress() {
    let setup = serve(echo(FLOAT, &[-1, 3])).await;
    for (verb, path) in [("classify", CLASSIFY), ("regress", REGRESS)] {
        let path_of = format!("/v1/models/{}:{verb}", name());
        let answer = Ask::post(&path_of, r#"{"examples": [{"age": 3.5, "name": "a"}]}"#)
            .send(&setup.sidecar.rest)
            .await;
        assert_eq!(setup.fake.count(path), 1, "{verb}: {}", answer.text());
    }
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_request_id_is_echoed_the_trace_goes_on_and_the_user_agent_names_the_client() {
    let setup = serve(echo(FLOAT, &[-1, 3])).await;
    for (body, status) in [(r#"{"instances": [1, 2, 3]}"#, 200), (r#"{"instances": [[1, 2]]}"#, 400)] {
        let request = Ask::predict(&name(), body)
            .header("x-request-id", "order-17")
            .header("traceparent", TRACEPARENT)
            .header("tracestate", "a=b")
            .header("user-agent", "python-requests/2.31.0");
        let answer = request.send(&setup.sidecar.rest).await;
        assert_eq!((answer.status, answer.header("x-request-id").as_str()), (status, "order-17"));
    }
    let sent = setup.fake.only(PREDICT).headers;
    for (name, value) in [("x-request-id", "order-17"), ("traceparent", TRACEPARENT), ("tracestate", "a=b")] {
        assert_eq!(sent[name], value);
    }
    let client = ("client", "python-requests/2.31");
    let door = ("door", "rest");
    assert_eq!(metric(&setup, "repairs_total", &[client, door, ("rule", "add_batch_dim")]).await, 1.0);
    assert_eq!(metric(&setup, "rejections_total", &[client, door]).await, 1.0);
    assert_eq!(metric(&setup, "requests_total", &[door]).await, 2.0);
    assert_eq!(metric(&setup, "requests_total", &[("door", "grpc")]).await, 0.0);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn urls_that_are_none_of_the_api_are_answered_with_the_right_one() {
    let setup = serve(echo(FLOAT, &[-1, 3])).await;
    let model = name();
    for (method, path, meant) in [
        ("POST", format!("/v1/models/{model}"), format!("POST /v1/models/{model}:predict")),
        ("POST", format!("/v1/models/{model}:Predict"), format!("POST /v1/models/{model}:predict")),
        ("GET", format!("/v1/models/{model}:predict"), format!("POST /v1/models/{model}:predict")),
        ("POST", format!("/v1/models/{model}:explain"), format!("POST /v1/models/{model}:predict")),
        ("POST", format!("/v1/models/{model}:predict/"), format!("POST /v1/models/{model}:predict")),
        ("GET", format!("/v1/models/{model}/"), format!("GET /v1/models/{model}")),
    ] {
        let answer = Ask::of(method, &path).send(&setup.sidecar.rest).await;
        assert_eq!((answer.status, answer.error()), (400, format!("Malformed request: {method} {path}")));
        assert!(answer.text().contains(&format!("did you mean {meant}?")), "{}", answer.text());
    }
    let answer = Ask::predict("no_such_model", r#"{"instances": [1]}"#).send(&setup.sidecar.rest).await;
    assert_eq!(answer.status, 404, "{}", answer.text());
    setup.sidecar.stop().await;
}
