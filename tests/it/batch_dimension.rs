//! The batch dimension: a vector of 128 numbers in every shape that clients send, with and without
//! float64, gets the same answer.
use tfs_sidecar::proto::tensorflow::TensorProto;

use crate::support::dense::{self, CASE, INPUT, OUTPUT};
use crate::support::requests::{PREDICT, Predict, doubles, floats, outputs};
use crate::support::sidecar::Setup;

type Build = fn(&[i64], &[f32]) -> TensorProto;

const CAST: &str = "input_tensor;cast_round;double->float lossy";
const ADD: &str = "input_tensor;add_batch_dim;[128]->[1,128]";
const COLUMN: &str = "input_tensor;column_vector;[128,1]->[1,128]";

#[tokio::test]
async fn every_shape_and_dtype_gets_the_same_ten_probabilities() {
    let cases: [(&str, Build, &[i64], &[&str]); 6] = [
        ("batch_rows_f", floats, &[1, 128], &[]),
        ("batch_flat_f", floats, &[128], &[ADD]),
        ("batch_column_f", floats, &[128, 1], &[COLUMN]),
        ("batch_rows_d", doubles, &[1, 128], &[CAST]),
        ("batch_flat_d", doubles, &[128], &[CAST, ADD]),
        ("batch_column_d", doubles, &[128, 1], &[CAST, COLUMN]),
    ];
    // One model per case, because the process has one set of metrics.
    let setup = Setup::new(cases.map(|(model, ..)| dense::model_named(model))).await;
    for (model, build, dims, repairs) in cases {
        let request = Predict::new(model).input(INPUT, build(dims, &CASE.input_tensor)).bytes();
        let reply = setup.client.predict(&request).await.ok();
        dense::assert_case(&outputs(&reply.message)[OUTPUT].float_val);
        assert_eq!(reply.repairs(), repairs, "{model}");
        let count = if repairs.is_empty() { vec![] } else { vec![repairs.len().to_string()] };
        assert_eq!(reply.initial("tfs-sidecar-repairs"), count, "{model}");
        assert_counted(&setup, model, repairs).await;
    }
    assert_eq!(setup.fake.count(PREDICT), cases.len());
    setup.sidecar.stop().await;
}

async fn assert_counted(setup: &Setup, model: &str, repairs: &[&str]) {
    let metrics = setup.sidecar.metrics().await;
    let outcome = if repairs.is_empty() { "conforming" } else { "repaired" };
    let labels = [("model", model), ("signature", "serving_default"), ("outcome", outcome), ("code", "OK")];
    assert_eq!(metrics.sum("tfs_sidecar_requests_total", &labels), 1.0, "{model}\n{}", metrics.text());
    for repair in repairs {
        let rule = repair.split(';').nth(1).unwrap();
        let labels = [("model", model), ("input", INPUT), ("rule", rule)];
        assert_eq!(metrics.sum("tfs_sidecar_repairs_total", &labels), 1.0, "{repair}\n{}", metrics.text());
    }
    assert_eq!(metrics.sum("tfs_sidecar_repairs_total", &[("model", model)]), repairs.len() as f64);
}

#[tokio::test]
async fn a_batch_with_an_extra_axis_keeps_its_rows() {
    let setup = Setup::new([dense::model_named("batch_of_three")]).await;
    let zeros = [0.0; 128];
    let rows = [&CASE.input_tensor[..], &zeros, &CASE.input_tensor].concat();
    let request = Predict::new("batch_of_three").input(INPUT, floats(&[3, 1, 128], &rows)).bytes();
    let reply = setup.client.predict(&request).await.ok();
    assert_eq!(reply.repairs(), ["input_tensor;drop_unit_dims;[3,1,128]->[3,128]"]);
    let answer = &outputs(&reply.message)[OUTPUT];
    assert_eq!(dense::dims(answer), [3, 10]);
    dense::assert_case(&answer.float_val[..10]);
    assert!(!dense::is_case(&answer.float_val[10..20]));
    dense::assert_case(&answer.float_val[20..]);
    setup.sidecar.stop().await;
}
