//! What cannot be repaired is refused here, with every problem at once; modes and dry runs decide
//! how far that goes.
use prost::bytes::Bytes;
use tfs_sidecar::proto::tensorflow::TensorProto;
use tfs_sidecar::repair::policy::{Mode, Unrepairable};

use crate::support::client::Reply;
use crate::support::client::Request;
use crate::support::dense::{self, CASE, INPUT};
use crate::support::fake_tfs::model::{Model, Sig};
use crate::support::requests::{
    CLASSIFY, DOUBLE, FLOAT, INT64, PREDICT, Predict, STRING, content, doubles, field, float_list, floats,
    int64s, outputs, strings,
};
use crate::support::sidecar::{Setup, policy};

const MODE: &str = "tfs-sidecar-mode";
const DRY_RUN: &str = "tfs-sidecar-dry-run";

fn row(len: usize) -> Vec<f32> {
    vec![0.5; len]
}

fn mlp(tensor: TensorProto) -> Bytes {
    Predict::new(dense::MODEL).input(INPUT, tensor).bytes()
}

fn assert_one_line(reply: &Reply) {
    assert!(reply.text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{:?}", reply.text);
}

/// The ways to be wrong with a `[-1,128]` float input, and the reason that each is refused for.
fn wrong_tensors() -> Vec<(&'static str, TensorProto, &'static str)> {
    let unknown_rank = {
        let mut tensor = floats(&[1, 128], &row(128));
        let shape = tensor.tensor_shape.as_mut().unwrap();
        shape.dim.clear();
        shape.unknown_rank = true;
        tensor
    };
    let mut foreign = content(FLOAT, &[1, 128], Bytes::new());
    foreign.string_val = vec![Bytes::from_static(b"0.5"); 128];
    vec![
        ("127 values in a vector", floats(&[127], &row(127)), "RANK_TOO_LOW"),
        ("a scalar", floats(&[], &row(1)), "RANK_TOO_LOW"),
        ("127 columns", floats(&[1, 127], &row(127)), "DIM_MISMATCH"),
        ("transposed", floats(&[128, 3], &row(384)), "DIM_MISMATCH"),
        ("a small image", floats(&[1, 8, 16, 1], &row(128)), "RANK_TOO_HIGH"),
        ("text", strings(&[1, 128], &[&b"a"[..]; 128]), "DTYPE_MISMATCH"),
        (
            "a double beyond float",
            content(DOUBLE, &[1, 128], 1e300_f64.to_le_bytes().repeat(128)),
            "CAST_OUT_OF_RANGE",
        ),
        ("an integer that float rounds", int64s(&[1, 128], &[16_777_217; 128]), "CAST_INEXACT"),
        ("one value short", content(FLOAT, &[1, 128], vec![0; 508]), "CONTENT_SIZE"),
        ("twice the bytes", content(FLOAT, &[1, 128], vec![0; 1024]), "CONTENT_SIZE"),
        ("no values", content(FLOAT, &[1, 128], Bytes::new()), "VALUE_COUNT"),
        ("a short list", float_list(&[1, 128], &row(3)), "VALUE_COUNT"),
        ("a long list", float_list(&[1, 128], &row(129)), "VALUE_COUNT"),
        ("values in a foreign field", foreign, "VALUE_FIELD"),
        ("unknown rank", unknown_rank, "SHAPE_NOT_CONCRETE"),
        ("a negative dimension", floats(&[-2, 128], &row(128)), "SHAPE_NOT_CONCRETE"),
    ]
}

#[tokio::test]
async fn each_wrong_tensor_is_refused_with_its_reason_and_details() {
    let setup = Setup::new([dense::model()]).await;
    for (what, tensor, reason) in wrong_tensors() {
        let reply = setup.client.predict(&mlp(tensor)).await;
        assert_eq!(reply.code, 3, "{what}: {}", reply.text);
        let (bad, info) = reply.problems();
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            (reason, "tfs-sidecar"),
            "{what}: {}",
            reply.text
        );
        assert!(reply.text.contains(reason), "{what}: {}", reply.text);
        assert!(
            reply.text.starts_with("model 'mlp' signature 'serving_default': input 'input_tensor': "),
            "{}",
            reply.text
        );
        assert!(
            bad.field_violations.iter().any(|violation| violation.field.contains(INPUT)),
            "{what}: {bad:?}"
        );
        assert_one_line(&reply);
        assert!(reply.messages.is_empty());
    }
    assert_eq!(setup.fake.count(PREDICT), 0, "nothing that is refused is forwarded");
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_refusal_shows_the_shapes_and_the_fix() {
    let sig = Sig::new("serving_default").input("text", FLOAT, &[-1, 100]).output("y", FLOAT, &[-1, 1]);
    let setup = Setup::new([Model::new("m").version(1, [sig])]).await;
    let reply = setup.client.predict(&Predict::new("m").input("text", floats(&[99], &row(99))).bytes()).await;
    for part in ["model 'm' signature 'serving_default'", "input 'text'", "[99]", "[-1,100]", "RANK_TOO_LOW"]
    {
        assert!(reply.text.contains(part), "{part} in {}", reply.text);
    }
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn all_problems_are_reported_at_once() {
    let sig = Sig::new("serving_default")
        .input("ids", INT64, &[-1, 3])
        .input("text", STRING, &[-1])
        .input("weights", FLOAT, &[-1, 2])
        .output("y", FLOAT, &[-1]);
    let setup = Setup::new([Model::new("m").version(1, [sig])]).await;
    let request = Predict::new("m")
        .input("ids", int64s(&[2, 4], &[0; 8]))
        .input("text", floats(&[2], &row(2)))
        .input("weights", content(FLOAT, &[2, 2], vec![0; 3]));
    let reply = setup.client.predict(&request.bytes()).await;
    let (bad, _) = reply.problems();
    for (input, reason) in [("ids", "DIM_MISMATCH"), ("text", "DTYPE_MISMATCH"), ("weights", "CONTENT_SIZE")]
    {
        assert!(bad.field_violations.iter().any(|violation| violation.field.contains(input)), "{bad:?}");
        assert!(reply.text.contains(&format!("'{input}'")) && reply.text.contains(reason), "{}", reply.text);
    }
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn rows_that_do_not_agree_are_refused() {
    let sig = Sig::new("serving_default").input("ids", INT64, &[-1]).input("vals", FLOAT, &[-1]).output(
        "y",
        FLOAT,
        &[-1],
    );
    let setup = Setup::new([Model::new("m").version(1, [sig])]).await;
    let request =
        Predict::new("m").input("ids", int64s(&[43], &[0; 43])).input("vals", floats(&[58], &row(58)));
    let reply = setup.client.predict(&request.bytes()).await;
    assert_eq!(reply.reason(), "BATCH_MISMATCH");
    assert!(reply.text.contains("43") && reply.text.contains("58"), "{}", reply.text);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn names_are_explained_by_the_signature() {
    let sig = Sig::new("serving_default").input("item", INT64, &[-1]).input("user", INT64, &[-1]).output(
        "y",
        FLOAT,
        &[-1],
    );
    let setup = Setup::new([Model::new("m").version(1, [sig])]).await;
    let ids = || int64s(&[1], &[7]);
    let unknown = Predict::new("m").input("itm", ids()).input("user", ids());
    let reply = setup.client.predict(&unknown.bytes()).await;
    assert_eq!(reply.reason(), "NAME_UNKNOWN");
    assert!(reply.text.contains("item") && reply.text.contains("itm"), "{}", reply.text);
    let extra = Predict::new("m").input("item", ids()).input("user", ids()).input("other", ids());
    assert_eq!(setup.client.predict(&extra.bytes()).await.reason(), "INPUT_EXTRA");
    let output = Predict::new("m").input("item", ids()).input("user", ids()).output("z");
    assert_eq!(setup.client.predict(&output.bytes()).await.reason(), "OUTPUT_UNKNOWN");
    // Only missing: the signature may have a default that its metadata does not show, so the server
    // decides.
    let missing = Predict::new("m").input("item", ids());
    let reply = setup.client.predict(&missing.bytes()).await;
    assert_eq!(reply.code, 3);
    assert!(reply.text.starts_with("input size does not match signature: 1!=2"), "{}", reply.text);
    assert_eq!(setup.fake.only(PREDICT).message, missing.bytes());
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn models_and_signatures_that_do_not_exist() {
    let setup = Setup::new([dense::model()]).await;
    let ok = || floats(&[1, 128], &row(128));
    let reply = setup.client.predict(&Predict::new("nope").input("x", ok()).bytes()).await;
    assert_eq!(reply.code, 5);
    assert!(reply.text.starts_with("Servable not found for request: Latest(nope)"), "{}", reply.text);
    let reply = setup.client.predict(&Predict::new(dense::MODEL).version(9).input(INPUT, ok()).bytes()).await;
    assert_eq!(reply.code, 5);
    assert!(reply.text.starts_with("Servable not found for request: Specific(mlp, 9)"), "{}", reply.text);
    let reply =
        setup.client.predict(&Predict::new(dense::MODEL).label("nope").input(INPUT, ok()).bytes()).await;
    assert_eq!(reply.code, 3);
    assert!(reply.text.starts_with("Unrecognized servable version label: nope"), "{}", reply.text);
    let reply =
        setup.client.predict(&Predict::new(dense::MODEL).signature("nope").input(INPUT, ok()).bytes()).await;
    assert_eq!((reply.code, reply.reason().as_str()), (9, "SIGNATURE_UNKNOWN"));
    assert!(reply.text.contains("serving_default"), "{}", reply.text);
    // Classify has another code for it than Predict.
    let spec = [field(1, b"mlp"), field(3, b"nope")].concat();
    let classify = [field(1, &spec), field(2, &field(1, &field(1, b"")))].concat();
    let reply = setup.client.call(Request::new(CLASSIFY, &classify)).await;
    assert_eq!(reply.code, 3, "{}", reply.text);
    let reply = setup.client.predict(&field(2, b"")).await;
    assert_eq!(reply.code, 3, "no model spec: {}", reply.text);
    assert_eq!(setup.fake.count(PREDICT), 0);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn the_only_signature_is_meant_when_none_is_named() {
    let sig = Sig::new("score").input("x", FLOAT, &[-1, 2]).output("y", FLOAT, &[-1, 2]);
    let setup = Setup::new([Model::new("m").version(1, [sig])]).await;
    let reply =
        setup.client.predict(&Predict::new("m").input("x", floats(&[1, 2], &row(2))).bytes()).await.ok();
    let repairs = reply.repairs();
    assert!(repairs.len() == 1 && repairs[0].starts_with(";only_signature;"), "{repairs:?}");
    assert!(repairs[0].ends_with("->score"), "{repairs:?}");
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn off_and_observe_change_nothing() {
    for mode in [Mode::Off, Mode::Observe] {
        let name = format!("refusals_{mode}");
        let setup =
            Setup::with([dense::model_named(&name)], |config| policy(config, |policy| policy.mode = mode))
                .await;
        let flat = Predict::new(&name).input(INPUT, floats(&[128], &CASE.input_tensor)).bytes();
        let hopeless = Predict::new(&name).input(INPUT, floats(&[1, 127], &row(127))).bytes();
        for message in [&flat, &hopeless] {
            let reply = setup.client.predict(message).await;
            assert_eq!(reply.code, 3);
            assert!(reply.text.contains("[128,64]"), "TensorFlow's own text: {}", reply.text);
            assert_eq!(setup.fake.calls_of(PREDICT).pop().unwrap().message, message);
        }
        let metrics = setup.sidecar.metrics().await;
        let observed = if mode == Mode::Observe { 1.0 } else { 0.0 };
        let model = ("model", name.as_str());
        assert_eq!(
            metrics.sum("tfs_sidecar_would_repair_total", &[model, ("rule", "add_batch_dim")]),
            observed
        );
        assert_eq!(
            metrics.sum("tfs_sidecar_would_reject_total", &[model, ("reason", "DIM_MISMATCH")]),
            observed
        );
        assert_eq!(metrics.sum("tfs_sidecar_repairs_total", &[model]), 0.0);
        assert_eq!(metrics.sum("tfs_sidecar_rejections_total", &[model]), 0.0);
        if mode == Mode::Observe {
            assert_eq!(metrics.sum("tfs_sidecar_requests_total", &[model, ("outcome", "passed")]), 2.0);
        }
        setup.sidecar.stop().await;
    }
}

#[tokio::test]
async fn strict_refuses_what_repair_would_mend() {
    let setup =
        Setup::with([dense::model()], |config| policy(config, |policy| policy.mode = Mode::Strict)).await;
    let reply = setup.client.predict(&mlp(doubles(&[1, 128], &CASE.input_tensor))).await;
    assert_eq!((reply.code, reply.reason().as_str()), (3, "DTYPE_MISMATCH"));
    let reply = setup.client.predict(&mlp(floats(&[128], &CASE.input_tensor))).await;
    assert_eq!((reply.code, reply.reason().as_str()), (3, "RANK_TOO_LOW"));
    assert_eq!(setup.fake.count(PREDICT), 0);
    setup.client.predict(&mlp(floats(&[1, 128], &CASE.input_tensor))).await.ok();
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn what_cannot_be_repaired_may_be_forwarded() {
    let setup = Setup::with([dense::model()], |config| {
        policy(config, |policy| policy.unrepairable = Unrepairable::Forward);
    })
    .await;
    let message = mlp(floats(&[1, 127], &row(127)));
    let reply = setup.client.predict(&message).await;
    assert_eq!(reply.code, 3);
    assert!(reply.text.starts_with("Matrix size-incompatible: In[0]: [1,127]"), "{}", reply.text);
    assert_eq!(setup.fake.only(PREDICT).message, message);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_request_may_ask_for_more_strictness_but_not_for_less() {
    let setup = Setup::new([dense::model()]).await;
    let flat = mlp(floats(&[128], &CASE.input_tensor));
    let reply = setup.client.call(Request::predict(&flat).metadata(MODE, "strict")).await;
    assert_eq!((reply.code, reply.reason().as_str()), (3, "RANK_TOO_LOW"));
    let reply = setup.client.call(Request::predict(&flat).metadata(MODE, "nonsense")).await;
    assert_eq!((reply.code, reply.reason().as_str()), (3, "MALFORMED"));
    for lower in ["off", "observe"] {
        let reply = setup.client.call(Request::predict(&flat).metadata(MODE, lower)).await.ok();
        assert_eq!(reply.repairs().len(), 1, "{lower}");
    }
    setup.sidecar.stop().await;

    let setup =
        Setup::with([dense::model()], |config| policy(config, |policy| policy.mode = Mode::Observe)).await;
    let reply = setup.client.call(Request::predict(&flat).metadata(MODE, "repair")).await.ok();
    dense::assert_case(&outputs(&reply.message)[dense::OUTPUT].float_val);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_dry_run_runs_nothing() {
    let setup = Setup::new([dense::model()]).await;
    let flat = mlp(doubles(&[128], &CASE.input_tensor));
    let reply = setup.client.call(Request::predict(&flat).metadata(DRY_RUN, "1")).await.ok();
    assert!(outputs(&reply.message).is_empty());
    assert_eq!(reply.messages.len(), 1);
    assert_eq!(reply.initial(DRY_RUN), ["1"]);
    assert_eq!(reply.repairs().len(), 2);
    let hopeless = mlp(floats(&[1, 127], &row(127)));
    let reply = setup.client.call(Request::predict(&hopeless).metadata(DRY_RUN, "1")).await;
    assert_eq!((reply.code, reply.reason().as_str()), (3, "DIM_MISMATCH"));
    assert!([reply.initial(DRY_RUN), reply.trailer(DRY_RUN)].concat().contains(&"1".to_owned()));
    assert_eq!(setup.fake.count(PREDICT), 0);
    setup.sidecar.stop().await;
}
