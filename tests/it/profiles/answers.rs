//! Answers that are NaN, or the same for different requests.
use std::sync::Arc;

use prost::Message as _;
use tfs_sidecar::profile::describe::TensorStats;
use tfs_sidecar::profile::{By, Profile};
use tfs_sidecar::proto::tensorflow::SignatureDef;
use tfs_sidecar::proto::tensorflow::serving::{PredictRequest, PredictResponse};
use tfs_sidecar::tensor::DataType;

use super::{FEATURES, Folder, INPUT, Profiled, profile, scaled};
use crate::support::client::Reply;
use crate::support::dense;
use crate::support::fake_tfs::model::{Model, Outputs, Refusal, Sig, echo};
use crate::support::fake_tfs::{Act, Gate};
use crate::support::random::Random;
use crate::support::requests::{FLOAT, PREDICT, floats, outputs, spec};

fn answer(model: &str, value: f32) -> Act {
    let outputs = [("y".to_owned(), floats(&[1], &[value]))].into();
    Act::Message(PredictResponse { model_spec: Some(spec(model)), outputs }.encode_to_vec().into())
}

fn warnings(reply: &Reply) -> Vec<String> {
    reply.initial("tfs-sidecar-warning")
}

async fn counted(setup: &Profiled, kind: &str) -> f64 {
    let labels = [("model", setup.model), ("input", "y"), ("kind", kind)];
    setup.sidecar.metrics().await.sum("tfs_sidecar_preprocessing_findings_total", &labels)
}

#[tokio::test]
async fn an_answer_that_is_nan_is_found_and_passed_on() {
    let setup = Profiled::new("nan", "profile_check: {answers: 1}").await;
    let mut random = Random::new(9);
    setup.fake.script(PREDICT, 1, answer(setup.model, 0.5));
    assert_eq!(warnings(&setup.send("a", &[scaled(&mut random)]).await.ok()), [""; 0]);
    setup.fake.script(PREDICT, 1, answer(setup.model, f32::NAN));
    let reply = setup.send("a", &[scaled(&mut random)]).await.ok();
    assert_eq!(warnings(&reply), ["output `y` is NaN or infinite (ANSWER_NOT_FINITE)"]);
    assert_eq!(counted(&setup, "ANSWER_NOT_FINITE").await, 1.0);
    assert_eq!(setup.findings().await["findings"][0]["kind"], "ANSWER_NOT_FINITE");
    setup.stop().await;
}

/// A model that answers with so many values, the second half of which is NaN. Values at equal
/// distances are looked at.
async fn start(name: &'static str, values: usize) -> Profiled {
    let mut large = vec![0.5; values];
    large[values / 2..].fill(f32::NAN);
    let answer = floats(&[values as i64], &large);
    let compute = move |_: &PredictRequest, _: &SignatureDef| -> Result<Outputs, Refusal> {
        Ok([("y".to_owned(), answer.clone())].into())
    };
    let folder = Folder::new();
    let path = folder.write("profile.yaml", &profile().to_yaml());
    let signature = Sig::new("serving_default").input(INPUT, FLOAT, &[-1, FEATURES as i64]);
    let model = Model::new(name).computing(1, [signature.output("y", FLOAT, &[-1])], Arc::new(compute));
    let policy = format!("profile: {}, profile_check: {{answers: 1}}", path.display());
    Profiled::serve(folder, model, name, &policy).await
}

#[tokio::test]
async fn an_answer_in_pieces_is_looked_at_and_passed_on_as_it_is_up_to_a_mebibyte() {
    let mut random = Random::new(12);
    for (name, values, found) in [("small", 4000, 1), ("large", 262_000, 1), ("too_large", 263_000, 0)] {
        let setup = start(name, values).await;
        for act in [None, Some(Gate::new())] {
            if let Some(gate) = act {
                gate.open();
                setup.fake.script(PREDICT, 1, Act::Halves(gate));
            }
            let reply = setup.send("a", &[scaled(&mut random)]).await.ok();
            let answer = outputs(&reply.message)["y"].clone();
            assert_eq!(
                dense::floats(&answer, values).iter().filter(|value| value.is_nan()).count(),
                values / 2
            );
            assert_eq!(warnings(&reply).len(), found, "{name}");
        }
        setup.stop().await;
    }
}

/// It is read to its end before it is passed on, so the client learns of it at once.
#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error() {
    let setup = start("broken", 4000).await;
    setup.fake.script(PREDICT, 1, Act::Break);
    let reply = setup.send("a", &[scaled(&mut Random::new(16))]).await;
    assert!(reply.code > 0 && reply.messages.is_empty(), "{reply:?}");
    setup.send("a", &[scaled(&mut Random::new(17))]).await.ok();
    setup.stop().await;
}

#[tokio::test]
async fn the_joined_answer_of_a_request_that_is_split_is_looked_at() {
    let setup =
        Profiled::new("split", "profile_check: {answers: 1}, signatures: {serving_default: {rules: {split_oversize: on}, batching: {max_rows: 1}}}")
            .await;
    let mut random = Random::new(13);
    setup.fake.script(PREDICT, 2, answer(setup.model, f32::NAN));
    let reply = setup.send("a", &[scaled(&mut random), scaled(&mut random)]).await.ok();
    assert_eq!(setup.fake.count(PREDICT), 2);
    assert!(warnings(&reply).iter().any(|text| text.contains("ANSWER_NOT_FINITE")), "{reply:?}");
    setup.stop().await;
}

#[tokio::test]
async fn one_answer_to_different_requests_is_found_and_one_to_the_same_request_is_not() {
    let setup = Profiled::new("constant", "profile_check: {answers: 1}").await;
    let mut random = Random::new(10);
    setup.fake.script(PREDICT, 400, answer(setup.model, 0.5));
    let same = scaled(&mut random);
    for _ in 0..100 {
        assert_eq!(warnings(&setup.send("health", std::slice::from_ref(&same)).await.ok()), [""; 0]);
    }
    let mut found = 0;
    for _ in 0..100 {
        found += warnings(&setup.send("a", &[scaled(&mut random)]).await.ok()).len();
    }
    assert!((1..=40).contains(&found), "{found} of the last 100 answers");
    assert_eq!(counted(&setup, "ANSWER_CONSTANT").await, found as f64);
    setup.stop().await;
}

#[tokio::test]
async fn answers_are_compared_with_their_own_profile() {
    let mut stats = TensorStats::new(DataType::FLOAT, By::Whole, 1);
    let mut random = Random::new(18);
    (0..2000).for_each(|_| stats.add(0, &scaled(&mut random)));
    let of_answers = Profile { outputs: [("y".to_owned(), stats.profile())].into(), ..profile() };
    let signature = Sig::new("serving_default").input(INPUT, FLOAT, &[-1, FEATURES as i64]);
    let name = "compared";
    let model =
        Model::new(name).computing(1, [signature.output("y", FLOAT, &[-1, FEATURES as i64])], Arc::new(echo));
    let folder = Folder::new();
    let path = folder.write("profile.yaml", &of_answers.to_yaml());
    let policy = format!("profile: {}, profile_check: {{answers: 1}}", path.display());
    let setup = Profiled::serve(folder, model, name, &policy).await;
    let drift = async || {
        let found = setup.findings().await;
        let of = found["drift"].as_array().unwrap().iter().find(|one| one["input"] == "y").cloned();
        of.map(|of| of["index"].as_f64().unwrap())
    };
    // The model answers with what it is sent. A window has 8,192 rows.
    let send = async |random: &mut Random, factor: f64| {
        for _ in 0..128 {
            let row = |random: &mut Random| scaled(random).iter().map(|value| value * factor).collect();
            let rows: Vec<Vec<f64>> = (0..64).map(|_| row(random)).collect();
            setup.send("a", &rows).await.ok();
        }
    };
    send(&mut random, 1.0).await;
    let same = drift().await.expect("enough answers");
    send(&mut random, 3.0).await;
    let other = drift().await.expect("enough answers");
    assert!(same < 0.1 && other > 0.25, "{same} {other}");
    setup.stop().await;
}

#[tokio::test]
async fn one_answer_in_64_is_looked_at_by_default() {
    let setup = Profiled::new("sampled", "mode: repair").await;
    let mut random = Random::new(11);
    setup.fake.script(PREDICT, 128, answer(setup.model, f32::INFINITY));
    for _ in 0..128 {
        setup.send("a", &[scaled(&mut random)]).await.ok();
    }
    assert_eq!(counted(&setup, "ANSWER_NOT_FINITE").await, 2.0);
    setup.stop().await;
}
