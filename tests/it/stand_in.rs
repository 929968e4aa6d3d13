//! The stand-in itself: what it says must be what TensorFlow Serving said when the golden records were made.
use base64::Engine as _;
use prost::Message as _;
use tfs_sidecar::proto::tensorflow::serving::PredictResponse;

use crate::support::client::{Client, Request};
use crate::support::requests::{PREDICT, Predict, float_list, floats, metadata_request, outputs};
use crate::support::{dense, fake_tfs::FakeTfs};

#[derive(serde::Deserialize)]
struct Golden {
    id: String,
    method: String,
    request_b64: String,
    code: i32,
    message: Option<String>,
    response_b64: Option<String>,
}

/// Records whose text depends on things that the stand-in does not have (pseudo-signatures, resource tensors).
const BEYOND: &[&str] = &["mlp.sig.init", "mlp.sig.initnoin", "mlp.dtype.resource"];

#[tokio::test]
async fn answers_the_golden_requests_as_tensorflow_serving_did() {
    let fake = FakeTfs::start([dense::model()]);
    let client = Client::connect(fake.addr()).await;
    let base64 = base64::engine::general_purpose::STANDARD;
    let mut compared = 0;
    for line in include_str!("../fixtures/golden/tfs_golden.jsonl").lines() {
        let golden: Golden = serde_json::from_str(line).unwrap();
        if golden.method != PREDICT || !golden.id.starts_with("mlp.") || BEYOND.contains(&golden.id.as_str()) {
            continue;
        }
        let request = base64.decode(&golden.request_b64).unwrap();
        let reply = client.predict(&request).await;
        assert_eq!((reply.code, reply.text), (golden.code, golden.message.unwrap_or_default()), "{}", golden.id);
        if let Some(response) = golden.response_b64 {
            let wanted = PredictResponse::decode(&base64.decode(response).unwrap()[..]).unwrap();
            let found = PredictResponse::decode(reply.message).unwrap();
            assert_eq!(found.model_spec, wanted.model_spec, "{}", golden.id);
            assert_eq!(
                found.outputs[dense::OUTPUT].tensor_shape,
                wanted.outputs[dense::OUTPUT].tensor_shape,
                "{}",
                golden.id
            );
        }
        compared += 1;
    }
    assert!(compared > 80, "only {compared} records compared");
}

#[tokio::test]
async fn computes_the_dense_model() {
    let fake = FakeTfs::start([dense::model()]);
    let client = Client::connect(fake.addr()).await;
    let row = &dense::CASE.input_tensor;
    for tensor in [floats(&[1, 128], row), float_list(&[1, 128], row)] {
        let reply = client.predict(&Predict::new(dense::MODEL).input(dense::INPUT, tensor).bytes()).await.ok();
        dense::assert_case(&outputs(&reply.message)[dense::OUTPUT].float_val);
    }
    let three = [&row[..], row, row].concat();
    let request = Predict::new(dense::MODEL).input(dense::INPUT, floats(&[3, 128], &three)).bytes();
    let probs = outputs(&client.predict(&request).await.ok().message)[dense::OUTPUT].float_val.clone();
    for row in probs.chunks(10) {
        dense::assert_case(row);
    }
}

#[tokio::test]
async fn holds_restarts_and_records() {
    let mut fake = FakeTfs::start([dense::model()]);
    let path = "/tensorflow.serving.PredictionService/GetModelMetadata";
    let gate = fake.hold(path, 1);
    let client = Client::connect(fake.addr()).await;
    let stream = client.stream(Request::new(path, &metadata_request("mlp"))).await;
    fake.called(path, 1).await;
    gate.open();
    assert_eq!(stream.finish().await.unwrap().code, 0);

    let addr = fake.addr().to_owned();
    fake.stop();
    client.closed().await;
    assert!(Client::try_connect(&addr).await.is_err());
    fake.restart();
    let client = Client::connect(&addr).await;
    assert_eq!(client.call(Request::new(path, &metadata_request("nope"))).await.code, 5);
    assert_eq!(fake.count(path), 2);
}
