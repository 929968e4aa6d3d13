//! Answers that are NaN, or the same for different requests.
use prost::Message as _;
use tfs_sidecar::proto::tensorflow::serving::PredictResponse;

use super::{Profiled, scaled};
use crate::support::client::Reply;
use crate::support::fake_tfs::Act;
use crate::support::random::Random;
use crate::support::requests::{PREDICT, floats, spec};

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

/// Larger than a frame of HTTP/2, so that it comes in several pieces.
#[tokio::test]
async fn an_answer_in_many_pieces_is_looked_at_and_passed_on_as_it_is_up_to_a_mebibyte() {
    let setup = Profiled::new("pieces", "profile_check: {answers: 1}").await;
    let mut random = Random::new(12);
    for (values, found) in [(40_000, 1), (262_000, 1), (263_000, 0)] {
        let mut large = vec![0.5; values];
        // Values at equal distances are looked at.
        large[values / 2..].fill(f32::NAN);
        let outputs = [("y".to_owned(), floats(&[values as i64], &large))].into();
        let message = PredictResponse { model_spec: Some(spec(setup.model)), outputs }.encode_to_vec();
        setup.fake.script(PREDICT, 1, Act::Message(message.clone().into()));
        let reply = setup.send("a", &[scaled(&mut random)]).await.ok();
        assert!(reply.message == message, "{values} values are passed on");
        assert_eq!(warnings(&reply).len(), found, "{values} values");
    }
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
