//! Tests the fake server: it answers as TensorFlow Serving did in the golden records, and follows
//! scripts.
use base64::Engine as _;
use prost::Message as _;
use prost::bytes::Bytes;
use tfs_sidecar::proto::tensorflow::serving::PredictResponse;

use crate::support::client::{Client, Request};
use crate::support::dense;
use crate::support::fake_tfs::{Act, End, FakeTfs, Gate, Options};
use crate::support::requests::{PREDICT, Predict, float_list, floats, metadata_request, outputs};

#[derive(serde::Deserialize)]
struct Golden {
    id: String,
    method: String,
    request_b64: String,
    code: i32,
    message: Option<String>,
    response_b64: Option<String>,
}

/// Records whose text depends on what the fake server does not have: pseudo-signatures and resource
/// tensors.
const NOT_COVERED: &[&str] = &["mlp.sig.init", "mlp.sig.initnoin", "mlp.dtype.resource"];

#[tokio::test]
async fn it_answers_the_golden_requests_as_tensorflow_serving_did() {
    let fake = FakeTfs::start([dense::model()]);
    let client = Client::connect(fake.addr()).await;
    let base64 = base64::engine::general_purpose::STANDARD;
    let mut compared = 0;
    for line in include_str!("../fixtures/golden/tfs_golden.jsonl").lines() {
        let golden: Golden = serde_json::from_str(line).unwrap();
        if golden.method != PREDICT
            || !golden.id.starts_with("mlp.")
            || NOT_COVERED.contains(&golden.id.as_str())
        {
            continue;
        }
        let request = base64.decode(&golden.request_b64).unwrap();
        let reply = client.predict(&request).await;
        assert_eq!(
            (reply.code, reply.text),
            (golden.code, golden.message.unwrap_or_default()),
            "{}",
            golden.id
        );
        if let Some(response) = golden.response_b64 {
            let expected = PredictResponse::decode(&base64.decode(response).unwrap()[..]).unwrap();
            let found = PredictResponse::decode(reply.message).unwrap();
            assert_eq!(found.model_spec, expected.model_spec, "{}", golden.id);
            assert_eq!(
                found.outputs[dense::OUTPUT].tensor_shape,
                expected.outputs[dense::OUTPUT].tensor_shape,
                "{}",
                golden.id
            );
        }
        compared += 1;
    }
    assert!(compared > 80, "only {compared} records compared");
}

#[tokio::test]
async fn it_computes_the_dense_model() {
    let fake = FakeTfs::start([dense::model()]);
    let client = Client::connect(fake.addr()).await;
    let row = &dense::CASE.input_tensor;
    for tensor in [floats(&[1, 128], row), float_list(&[1, 128], row)] {
        let reply =
            client.predict(&Predict::new(dense::MODEL).input(dense::INPUT, tensor).bytes()).await.ok();
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
async fn it_holds_calls_back_restarts_and_records_calls() {
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

#[tokio::test]
async fn it_sees_cancellations_and_follows_scripts() {
    let fake = FakeTfs::start([dense::model()]);
    let client = Client::connect(fake.addr()).await;
    let request =
        Predict::new(dense::MODEL).input(dense::INPUT, floats(&[1, 128], &dense::CASE.input_tensor)).bytes();
    let _gate = fake.hold(PREDICT, 1);
    let stream = client.stream(Request::predict(&request)).await;
    fake.called(PREDICT, 1).await;
    stream.cancel();
    fake.until("RST_STREAM", |calls| calls[0].end == End::Cancelled(Some(h2::Reason::CANCEL))).await;

    fake.script(PREDICT, 1, Act::Break);
    assert!(client.try_call(Request::predict(&request)).await.unwrap_err().is_reset());
    fake.script(PREDICT, 1, Act::Reset(h2::Reason::REFUSED_STREAM));
    let error = client.try_call(Request::predict(&request)).await.unwrap_err();
    assert_eq!(error.reason(), Some(h2::Reason::REFUSED_STREAM));
    let gate = Gate::new();
    fake.script(PREDICT, 1, Act::Halves(gate.clone()));
    let mut halves = client.stream(Request::predict(&request)).await;
    halves.head().await.unwrap();
    gate.open();
    halves.finish().await.unwrap().ok();
    fake.script(PREDICT, 1, Act::Gzip);
    dense::assert_case(&outputs(&client.predict(&request).await.ok().message)[dense::OUTPUT].float_val);
    fake.script(PREDICT, 1, Act::Message(Bytes::from_static(b"anything")));
    assert_eq!(client.predict(&request).await.ok().message, &b"anything"[..]);
    fake.script(PREDICT, 1, Act::GoAway);
    client.predict(&request).await.ok();
    client.closed().await;
    let client = Client::connect(fake.addr()).await;
    fake.script(PREDICT, 1, Act::Close);
    assert!(client.try_call(Request::predict(&request)).await.is_err());
    fake.until_connections("no connection is left", |all| all.open == 0).await;
}

#[tokio::test]
async fn it_streams_decompresses_and_refuses_calls_without_a_free_thread() {
    let echo = "/test.Anything/Stream";
    let options = Options { echoes: vec![echo.into()], max_threads: Some(1), ..Default::default() };
    let fake = FakeTfs::start_with(options, [dense::model()]);
    let client = Client::connect(fake.addr()).await;
    let mut stream = client.stream(Request::raw(echo, Bytes::new()).unfinished()).await;
    for message in [&b"one"[..], b"", &vec![7; 1_000_000]] {
        stream.message(message).await;
        assert_eq!(stream.next().await.unwrap().unwrap(), message);
    }
    let reply = client.predict(b"").await;
    assert_eq!((reply.code, reply.text.as_str()), (8, "Server Threadpool Exhausted"));
    stream.close();
    assert_eq!(stream.finish().await.unwrap().code, 0);

    let large = Predict::new("nobody").input("x", floats(&[2_400_000], &vec![1.5; 2_400_000])).bytes();
    for request in
        [Request::predict(&large), Request::predict(&large).chunks(1000), Request::gzip(PREDICT, &large)]
    {
        fake.until("the thread is free", |calls| calls.iter().all(|call| call.end != End::Open)).await;
        assert_eq!(client.call(request).await.code, 5);
        assert!(fake.calls_of(PREDICT).pop().unwrap().message == large);
    }
}
