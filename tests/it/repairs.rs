//! Every rule with the configuration that switches it on: its example, and some through a running
//! sidecar.
use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message as _;
use prost::bytes::Bytes;
use tfs_sidecar::config::load::{File, Settings, load};
use tfs_sidecar::proto::tensorflow::serving::{PredictRequest, model_spec};
use tfs_sidecar::proto::tensorflow::{SignatureDef, TensorProto};
use tfs_sidecar::repair::{
    Action, ModelPolicy, Outcome, REPAIRS, Repair, Stage, Switch, Tier, Verdict, apply, notation,
};
use tfs_sidecar::wire::{PredictView, Rope};

use crate::support::client::Request;
use crate::support::engine;
use crate::support::fake_tfs::model::{Model, Sig};
use crate::support::fake_tfs::{Act, FakeTfs, Gate};
use crate::support::requests::{FLOAT, PREDICT, Predict, floats, outputs};
use crate::support::sidecar::Setup;

/// The policy of a rule's example.
fn policy(rule: &Repair) -> ModelPolicy {
    let keys = match (rule.switch, rule.example.policy) {
        (_, "") | (Switch::Top(_), _) => String::new(),
        (Switch::On | Switch::Rules(_), rules) if rule.name == "split_oversize" => {
            format!("rules: {{{rules}}}, batching: {{max_rows: 4}}")
        }
        (Switch::On | Switch::Rules(_), rules) => format!("rules: {{{rules}}}"),
        (_, keys) => keys.to_owned(),
    };
    engine::policy(&keys).unwrap_or_else(|problems| panic!("{}: {problems}", rule.name))
}

fn tensors(message: &Rope) -> BTreeMap<String, TensorProto> {
    PredictRequest::decode(message.to_bytes()).unwrap().inputs.into_iter().collect()
}

fn decide(rule: &Repair, policy: &ModelPolicy, message: &Rope) -> Verdict {
    let signatures = notation::signature(rule.example.signature).unwrap();
    engine::decide(message, &signatures, policy).unwrap()
}

#[test]
fn the_example_of_every_rule_is_true_under_its_configuration() {
    // Rules for JSON have their own test.
    let is_here = |rule: &&&Repair| cfg!(feature = "image") || rule.name != "decode_image";
    for rule in REPAIRS.iter().filter(|rule| !rule.is_for_text()).filter(is_here) {
        if matches!(rule.switch, Switch::Top(_)) {
            // A test of the pipeline has it.
            continue;
        }
        let policy = policy(rule);
        let message = notation::request("m", rule.example.request).unwrap();
        let verdict = decide(rule, &policy, &message);
        assert_eq!(verdict.problems, [], "{}", rule.name);
        assert_eq!(verdict.action, Action::Apply, "{}", rule.name);
        assert!(
            verdict.plan.steps.iter().any(|step| step.rule == *rule),
            "{}: {:?}",
            rule.name,
            verdict.plan.steps
        );
        let view = PredictView::scan(&message).unwrap();
        let after = apply(&message, &view, &verdict.plan).unwrap();
        if rule.tier == Tier::Three {
            // What is declared is made each time, so that the values are compared instead.
            let expected = notation::request("m", rule.example.becomes).unwrap();
            assert_eq!(tensors(&after), tensors(&expected), "{}", rule.name);
        } else if rule.stage != Stage::Rows {
            let again = decide(rule, &policy, &after);
            assert_eq!((again.plan.steps.len(), again.outcome), (0, Outcome::Conforming), "{}", rule.name);
            let expected = notation::request("m", rule.example.becomes).unwrap();
            let after = PredictView::scan(&after).unwrap();
            let expected = PredictView::scan(&expected).unwrap();
            assert_eq!(
                after.model_spec.effective_signature(),
                expected.model_spec.effective_signature(),
                "{}",
                rule.name
            );
            assert_eq!(after.inputs.len(), expected.inputs.len(), "{}", rule.name);
            for input in &expected.inputs {
                let got = &after
                    .input(&input.key)
                    .unwrap_or_else(|| panic!("{}: no {}", rule.name, input.key))
                    .tensor;
                assert_eq!(
                    (got.dtype, &got.shape),
                    (input.tensor.dtype, &input.tensor.shape),
                    "{}",
                    rule.name
                );
            }
        }
        if rule.tier != Tier::One {
            let off = decide(rule, &ModelPolicy::default(), &message);
            assert!(!off.plan.steps.iter().any(|step| step.rule == *rule), "{} is on by default", rule.name);
        }
    }
}

fn applied(rule: &str, signature: &str, request: &str, policy: &str) -> PredictRequest {
    let signatures = notation::signature(signature).unwrap();
    let message = notation::request("m", request).unwrap();
    let view = PredictView::scan(&message).unwrap();
    let verdict = engine::decide(&message, &signatures, &engine::policy(policy).unwrap()).unwrap();
    assert!(verdict.plan.steps.iter().any(|step| step.rule.name == rule), "{rule}: {:?}", verdict.problems);
    PredictRequest::decode(apply(&message, &view, &verdict.plan).unwrap().to_bytes()).unwrap()
}

fn ints(tensor: &TensorProto) -> Vec<i32> {
    tensor.tensor_content.chunks_exact(4).map(|value| i32::from_le_bytes(value.try_into().unwrap())).collect()
}

#[test]
fn short_rows_are_padded_and_masked() {
    let policy = "inputs: {ids: {pad: {value: 7, mask: mask}}}";
    let after = applied("pad_ragged", "ids:int32[-1,3] mask:int32[-1,3]", "ids:int64[2,2]{1,2,3,4}", policy);
    assert_eq!(ints(&after.inputs["ids"]), [1, 2, 7, 3, 4, 7]);
    assert_eq!(ints(&after.inputs["mask"]), [1, 1, 0, 1, 1, 0]);
}

#[test]
fn defaults_have_the_declared_dtype_and_the_rows_of_the_request() {
    let policy = "inputs: {rate: {default: 0.5}, on: {default: true, scalar: true}, name: {default: x}}";
    let signature = "x:float[-1,2] rate:half[-1,1] on:bool name:string[]";
    let after = applied("input_defaults", signature, "x:float[3,2]", policy);
    let rate = &after.inputs["rate"];
    let dims: Vec<i64> = rate.tensor_shape.as_ref().unwrap().dim.iter().map(|dim| dim.size).collect();
    assert_eq!((dims, rate.half_val.as_slice()), (vec![3, 1], [0x3800].as_slice()));
    assert_eq!(after.inputs["on"].bool_val, [true]);
    assert_eq!(after.inputs["name"].string_val, [Bytes::from_static(b"x")]);
}

/// A model that doubles each value, with a fixed batch unless `rows` is -1.
fn doubling(name: &str, rows: i64) -> Model {
    let signature = Sig::new("serving_default").input("x", FLOAT, &[rows, 1]).output("y", FLOAT, &[rows, 1]);
    let compute = move |request: &PredictRequest, _: &SignatureDef| {
        let x = &request.inputs["x"];
        let sent: Vec<f32> = x
            .tensor_content
            .chunks_exact(4)
            .map(|value| f32::from_le_bytes(value.try_into().unwrap()))
            .chain(x.float_val.iter().copied())
            .collect();
        if rows > 0 {
            assert_eq!(sent.len(), rows as usize, "the model takes only its fixed batch");
        }
        let doubled: Vec<f32> = sent.iter().map(|value| value * 2.0).collect();
        Ok([("y".to_owned(), floats(&[doubled.len() as i64, 1], &doubled))].into())
    };
    Model::new(name).computing(1, [signature], Arc::new(compute))
}

async fn doubled(rules: &str, rows: i64, values: &[f32]) -> (Vec<f32>, usize, Vec<String>) {
    let name = "calls";
    let fake = FakeTfs::start([doubling(name, rows)]);
    let text = format!("models: {{{name}: {{signatures: {{serving_default: {{{rules}}}}}}}}}");
    let parsed = load(&Settings::default(), Some(File { name: "test", text: &text })).unwrap();
    let setup = Setup::before(fake, vec![name.to_owned()], |config| config.models = parsed.models).await;
    let request = Predict::new(name).input("x", floats(&[values.len() as i64, 1], values)).bytes();
    let reply = setup.client.predict(&request).await.ok();
    let answer = &outputs(&reply.message)["y"];
    let values = answer
        .tensor_content
        .chunks_exact(4)
        .map(|value| f32::from_le_bytes(value.try_into().unwrap()))
        .collect();
    (values, setup.fake.calls_of(PREDICT).len(), reply.repairs())
}

#[tokio::test]
async fn several_fixed_batches_are_several_calls_and_one_response() {
    let (answer, calls, repairs) = doubled("rules: {fan_out: on}", 2, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).await;
    assert_eq!((answer, calls), (vec![2.0, 4.0, 6.0, 8.0, 10.0, 12.0], 3));
    assert_eq!(repairs, ["x;fan_out;[6,1]->[2,1]"]);
}

#[tokio::test]
async fn missing_rows_are_padded_and_cut_from_the_response() {
    let (answer, calls, repairs) = doubled("rules: {pad_static_batch: on}", 4, &[1.0, 2.0, 3.0]).await;
    assert_eq!((answer, calls), (vec![2.0, 4.0, 6.0], 1));
    assert_eq!(repairs, ["x;pad_static_batch;[3,1]->[4,1]"]);
}

#[tokio::test]
async fn an_oversize_request_is_split_and_joined_in_order() {
    let rules = "rules: {split_oversize: on}, batching: {max_rows: 2}";
    let (answer, calls, repairs) = doubled(rules, -1, &[1.0, 2.0, 3.0, 4.0, 5.0]).await;
    assert_eq!((answer, calls), (vec![2.0, 4.0, 6.0, 8.0, 10.0], 3));
    assert_eq!(repairs, ["x;split_oversize;[5,1]->[2,1]"]);
}

#[tokio::test]
async fn every_call_of_a_split_request_has_its_own_retries() {
    let name = "calls_refused";
    let fake = FakeTfs::start([doubling(name, -1)]);
    let rules = "rules: {split_oversize: on}, batching: {max_rows: 1}";
    let text = format!("models: {{{name}: {{signatures: {{serving_default: {{{rules}}}}}}}}}");
    let parsed = load(&Settings::default(), Some(File { name: "test", text: &text })).unwrap();
    let setup = Setup::before(fake, vec![name.to_owned()], |config| config.models = parsed.models).await;
    // More refusals than one call may have, but only one for each.
    let gate = Gate::new();
    gate.open();
    for _ in 0..20 {
        let text = "Server Threadpool Exhausted".to_owned();
        setup.fake.script(PREDICT, 1, Act::Status { code: 8, text });
        setup.fake.script(PREDICT, 1, Act::Hold(gate.clone()));
    }
    let request = Predict::new(name).input("x", floats(&[20, 1], &[0.5; 20])).bytes();
    setup.client.predict(&request).await.ok();
    assert_eq!(setup.fake.calls_of(PREDICT).len(), 40);
    setup.sidecar.stop().await;
}

/// Rows of two versions do not belong into one answer.
#[tokio::test]
async fn parts_that_another_version_answered_are_run_again() {
    let name = "calls_of_versions";
    let fake = FakeTfs::start([doubling(name, -1)]);
    let rules = "rules: {split_oversize: on}, batching: {max_rows: 1}";
    let text = format!("models: {{{name}: {{signatures: {{serving_default: {{{rules}}}}}}}}}");
    let parsed = load(&Settings::default(), Some(File { name: "test", text: &text })).unwrap();
    let setup = Setup::before(fake, vec![name.to_owned()], |config| config.models = parsed.models).await;
    let open = Gate::new();
    open.open();
    setup.fake.script(PREDICT, 1, Act::Hold(open));
    let gate = setup.fake.hold(PREDICT, 1);
    let request = Predict::new(name).input("x", floats(&[3, 1], &[1.0, 2.0, 3.0])).bytes();
    let stream = setup.client.stream(Request::predict(&request)).await;
    setup.fake.called(PREDICT, 2).await;
    setup.fake.change(|models| {
        let model = models.get_mut(name).unwrap();
        let mut next = model.versions[&1].clone();
        next.compute = Arc::new(|request: &PredictRequest, _: &SignatureDef| {
            Ok([("y".to_owned(), request.inputs["x"].clone())].into())
        });
        model.versions = [(2, next)].into();
    });
    gate.open();
    let reply = stream.finish().await.unwrap().ok();
    let answer = &outputs(&reply.message)["y"].tensor_content;
    let answer: Vec<f32> =
        answer.chunks_exact(4).map(|value| f32::from_le_bytes(value.try_into().unwrap())).collect();
    assert_eq!(answer, [1.0, 2.0, 3.0], "all of version 2, which does not double");
    let calls = setup.fake.calls_of(PREDICT);
    let again = PredictRequest::decode(&calls[3].message[..]).unwrap();
    let choice = again.model_spec.unwrap().version_choice;
    assert_eq!((calls.len(), choice), (4, Some(model_spec::VersionChoice::Version(2))));
}
