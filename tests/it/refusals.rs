//! Requests that no repair makes conform are refused with all their problems, and never forwarded.
use prost::bytes::Bytes;
use tfs_sidecar::proto::tensorflow::TensorProto;

use crate::support::client::Reply;
use crate::support::dense::{self, INPUT};
use crate::support::fake_tfs::model::{Model, Sig};
use crate::support::requests::{
    DOUBLE, FLOAT, INT64, PREDICT, Predict, STRING, content, float_list, floats, int64s, strings,
};
use crate::support::sidecar::Setup;

fn row(len: usize) -> Vec<f32> {
    vec![0.5; len]
}

fn mlp(tensor: TensorProto) -> Bytes {
    Predict::new(dense::MODEL).input(INPUT, tensor).bytes()
}

fn assert_one_line(reply: &Reply) {
    assert!(reply.text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{:?}", reply.text);
}

/// Tensors that do not conform to a `[-1,128]` float input, and the reason for each refusal.
fn wrong_tensors() -> Vec<(&'static str, TensorProto, &'static str)> {
    let unknown_rank = {
        let mut tensor = floats(&[1, 128], &row(128));
        let shape = tensor.tensor_shape.as_mut().unwrap();
        shape.dim.clear();
        shape.unknown_rank = true;
        tensor
    };
    let mut other_field = content(FLOAT, &[1, 128], Bytes::new());
    other_field.string_val = vec![Bytes::from_static(b"0.5"); 128];
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
        ("values in the field of another dtype", other_field, "VALUE_FIELD"),
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
    assert_eq!(setup.fake.count(PREDICT), 0, "no refused request is forwarded");
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_refusal_names_the_input_and_both_shapes() {
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
