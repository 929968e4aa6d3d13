//! Declared transforms through the running sidecar: over gRPC and REST, in shared runs, in each
//! mode; and models under another name.
use prost::Message as _;
use tfs_sidecar::config::load::{File, Settings, load};
use tfs_sidecar::proto::tensorflow::serving::{ClassificationRequest, PredictRequest};

use crate::batching::{enqueue, finish, name};
use crate::support::client::Request;
use crate::support::fake_tfs::model::{Model, Sig, echo};
use crate::support::requests::{FLOAT, PREDICT, Predict, UINT8, content, doubles, floats, outputs};
use crate::support::rest::Ask;
use crate::support::sidecar::{Setup, free};

const CLASSIFY: &str = "/tensorflow.serving.PredictionService/Classify";

/// A model that answers with its input.
fn model() -> Model {
    let signature = Sig::new("serving_default").input("x", FLOAT, &[-1, 2]).output("y", FLOAT, &[-1, 2]);
    Model::new(&name()).computing(1, [signature], std::sync::Arc::new(echo))
}

/// A sidecar whose model has these keys for its signature, and these at the top.
async fn serve(signature: &str, top: &str) -> Setup {
    let name = name();
    let text = format!("models: {{{name}: {{signatures: {{serving_default: {{{signature}}}}}}}}}\n{top}\n");
    let read = load(&Settings::default(), Some(File { name: "test", text: &text }));
    let read = read.unwrap_or_else(|problems| panic!("{problems}"));
    Setup::with([model()], |config| {
        config.rest_listen = Some(free());
        (config.models, config.rename_model) = (read.models, read.rename_model);
    })
    .await
}

fn sent(setup: &Setup) -> Vec<Vec<f32>> {
    let calls = setup.fake.calls_of(PREDICT);
    let values = calls.iter().map(|call| {
        let request = PredictRequest::decode(&call.message[..]).unwrap();
        let content = request.inputs["x"].tensor_content.clone();
        content.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    });
    values.collect()
}

const PIXELS: &str = "inputs: {x: {transform: [{scale: {factor: 0.0039215686274509803}}]}}";

async fn metric(setup: &Setup, metric: &str, rule: &str) -> f64 {
    let (metrics, name) = (setup.sidecar.metrics().await, name());
    metrics.sum(&format!("tfs_sidecar_{metric}"), &[("model", name.as_str()), ("rule", rule)])
}

#[tokio::test]
async fn a_request_is_transformed_over_grpc_and_rest_alike() {
    let setup = serve(PIXELS, "").await;
    let request = Predict::new(&name()).input("x", content(UINT8, &[1, 2], vec![255, 51])).bytes();
    let reply = setup.client.predict(&request).await.ok();
    assert_eq!(reply.repairs(), ["x;cast_widen;uint8->float", "x;scale;x->x*0.00392156862745098"]);
    assert!(reply.initial("tfs-sidecar-warning").is_empty(), "the values are scaled");
    let answer = Ask::predict(&name(), r#"{"instances": [[255, 51]]}"#).send(&setup.sidecar.rest).await.ok();
    assert_eq!(answer.repairs(), ["x;scale;x->x*0.00392156862745098"]);
    assert_eq!(answer.json()["predictions"][0][0], 1.0);
    assert_eq!(sent(&setup), [[1.0, 0.2], [1.0, 0.2]]);
    assert_eq!(metric(&setup, "repairs_total", "scale").await, 2.0);
    let page = setup.sidecar.page("/api/repairs").await.body;
    assert!(page.contains("x;scale;"), "{page}");
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_dry_run_shows_the_transform_and_observe_counts_it() {
    let setup = serve(PIXELS, "").await;
    let request = Predict::new(&name()).input("x", floats(&[1, 2], &[255.0, 51.0])).bytes();
    let dry = Request::predict(&request).metadata("tfs-sidecar-dry-run", "1");
    let reply = setup.client.call(dry).await.ok();
    assert_eq!(reply.repairs(), ["x;scale;x->x*0.00392156862745098"]);
    assert_eq!((setup.fake.count(PREDICT), metric(&setup, "would_repair_total", "scale").await), (0, 1.0));
    setup.sidecar.stop().await;

    let setup = serve(&format!("mode: observe, {PIXELS}"), "").await;
    let reply = setup.client.predict(&request).await.ok();
    assert_eq!((reply.repairs(), setup.fake.only(PREDICT).message), (Vec::new(), request));
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn strict_transforms_what_conforms_and_refuses_what_does_not() {
    let setup = serve(&format!("mode: strict, {PIXELS}"), "").await;
    let request = |tensor| Predict::new(&name()).input("x", tensor).bytes();
    let reply = setup.client.predict(&request(floats(&[1, 2], &[255.0, 51.0]))).await.ok();
    assert_eq!((reply.repairs().len(), sent(&setup)), (1, vec![vec![1.0, 0.2]]));
    let reply = setup.client.predict(&request(doubles(&[1, 2], &[255.0, 51.0]))).await;
    assert_eq!((reply.code, reply.reason().as_str()), (3, "DTYPE_MISMATCH"));
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn transformed_requests_share_runs() {
    let keys = format!("{PIXELS}, batching: {{enabled: on, probation: 0, verify_sample: 0}}");
    let setup = serve(&keys, "").await;
    let gate = setup.fake.hold(PREDICT, 1);
    let request = |first: f32| Predict::new(&name()).input("x", floats(&[1, 2], &[first, 0.0])).bytes();
    let busy = setup.client.stream(Request::predict(&request(255.0))).await;
    setup.fake.called(PREDICT, 1).await;
    let requests = [51.0, 102.0].map(|first| Request::predict(&request(first))).into();
    let streams = enqueue(&setup, &setup.client, requests, 1).await;
    gate.open();
    busy.finish().await.unwrap().ok();
    for (reply, expected) in finish(streams).await.into_iter().zip([0.2, 0.4]) {
        let reply = reply.ok();
        assert_eq!(reply.initial("tfs-sidecar-batch"), ["rows=1/2"]);
        assert_eq!(reply.repairs().len(), 1);
        let y = &outputs(&reply.message)["y"];
        assert_eq!(y.tensor_content[..4], f32::to_le_bytes(expected));
    }
    assert_eq!(sent(&setup), [vec![1.0, 0.0], vec![0.2, 0.0, 0.4, 0.0]]);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_model_is_asked_for_under_its_old_name() {
    let new = name();
    let setup = serve(PIXELS, &format!("rename_model: {{old_{new}: {new}, other: old_{new}x}}")).await;
    let old = format!("old_{new}");
    let request = Predict::new(&old).version(1).input("x", doubles(&[2], &[255.0, 0.0])).bytes();
    let reply = setup.client.predict(&request).await.ok();
    assert_eq!(reply.repairs()[0], format!(";rename_model;{old}->{new}"));
    assert_eq!(reply.repairs().len(), 4, "{:?}", reply.repairs());
    let answer = Ask::predict(&old, r#"{"instances": [[255, 0]]}"#).send(&setup.sidecar.rest).await.ok();
    assert_eq!(answer.repairs()[0], format!(";rename_model;{old}->{new}"));
    for call in setup.fake.calls_of(PREDICT) {
        let spec = PredictRequest::decode(&call.message[..]).unwrap().model_spec.unwrap();
        assert_eq!(spec.name, new);
    }
    let spec =
        PredictRequest::decode(&setup.fake.calls_of(PREDICT)[0].message[..]).unwrap().model_spec.unwrap();
    assert!(spec.version_choice.is_some(), "the rest of the spec stays");
    assert_eq!(metric(&setup, "repairs_total", "rename_model").await, 2.0);
    // Its own name needs no step, and a name that leads to nothing is the server's to refuse.
    let request = Predict::new(&new).input("x", floats(&[1, 2], &[255.0, 0.0])).bytes();
    assert_eq!(setup.client.predict(&request).await.ok().repairs().len(), 1);
    let request = Predict::new("other").input("x", floats(&[1, 2], &[255.0, 0.0])).bytes();
    assert_eq!(setup.client.predict(&request).await.code, 5);
    // Classify, which the fake server does not have.
    let examples = ClassificationRequest {
        model_spec: Some(crate::support::requests::spec(&old)),
        input: Some(tfs_sidecar::proto::tensorflow::serving::Input {
            kind: Some(tfs_sidecar::proto::tensorflow::serving::input::Kind::ExampleList(
                tfs_sidecar::proto::tensorflow::serving::ExampleList { examples: vec![<_>::default()] },
            )),
        }),
    };
    setup.client.call(Request::new(CLASSIFY, &examples.encode_to_vec())).await;
    let classified = ClassificationRequest::decode(&setup.fake.only(CLASSIFY).message[..]).unwrap();
    assert_eq!(classified.model_spec.unwrap().name, new);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn observe_counts_another_name_and_leaves_it() {
    let new = name();
    let setup = serve("mode: observe", &format!("rename_model: {{was_{new}: {new}}}")).await;
    let request = Predict::new(&format!("was_{new}")).input("x", floats(&[1, 2], &[1.0, 0.0])).bytes();
    setup.client.predict(&request).await;
    assert_eq!(setup.fake.only(PREDICT).message, request);
    assert_eq!(metric(&setup, "would_repair_total", "rename_model").await, 1.0);
    setup.sidecar.stop().await;
}

#[test]
fn one_name_leads_to_one_other() {
    for text in ["rename_model: {a: b, b: c}", "rename_model: {a: a}", "rename_model: {a: b, b: a}"] {
        let problems = load(&Settings::default(), Some(File { name: "c.yaml", text })).unwrap_err();
        assert!(problems.to_string().contains("one name leads to one other"), "{problems}");
    }
}
