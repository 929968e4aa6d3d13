//! A profile of good traffic, made by a running sidecar.
use serde_json::Value;
use tfs_sidecar::profile::Profile;

use super::{Folder, INPUT, Profiled, scaled};
use crate::support::client::Request;
use crate::support::random::Random;
use crate::support::requests::{Predict, floats};

const MODEL: &str = "learned";

#[tokio::test]
async fn a_profile_is_made_of_the_requests_of_one_model_and_says_what_they_look_like() {
    let setup = Profiled::start(Folder::new(), MODEL, "mode: repair").await;
    let mut random = Random::new(8);
    let post = async |path: &str| setup.sidecar.post(path).await;
    assert_eq!(post("/profile/learned").await.status, 404);
    assert_eq!(post("/profile/learn?model=other&requests=5").await.status, 400);
    assert_eq!(post(&format!("/profile/learn?model={MODEL}&requests=100")).await.status, 200);
    let busy = post(&format!("/profile/learn?model={MODEL}&requests=100")).await;
    assert!(busy.status == 400 && busy.body.contains("/profile/forget"), "{}", busy.body);
    // A request that is refused is no good one.
    let wrong = Predict::new(MODEL).input(INPUT, floats(&[1, 3], &[1e9; 3])).bytes();
    assert_eq!(setup.client.call(Request::predict(&wrong)).await.code, 3);
    let mut all = Vec::new();
    for _ in 0..120 {
        let rows = [scaled(&mut random), scaled(&mut random)];
        setup.send("good", &rows).await.ok();
        all.extend(rows);
    }
    let learned: Value = serde_json::from_str(&post("/profile/learned").await.body).unwrap();
    assert_eq!(
        (&learned["requests"], &learned["rows"], &learned["done"]),
        (&100.into(), &200.into(), &true.into())
    );
    let profile = Profile::from_yaml(learned["profile"].as_str().unwrap()).unwrap();
    assert_eq!(
        (profile.model.as_deref(), profile.signature.as_deref()),
        (Some(MODEL), Some("serving_default"))
    );
    let input = &profile.inputs[INPUT];
    assert_eq!(input.features.len(), 10);
    for (at, feature) in input.features.iter().enumerate() {
        let values = all[..200].iter().map(|row| f64::from(row[at] as f32));
        let largest = values.clone().reduce(f64::max).unwrap();
        assert_eq!((feature.count, feature.max), (200, largest));
        let mean = values.sum::<f64>() / 200.0;
        assert!((feature.mean - mean).abs() < 1e-9, "{} {mean}", feature.mean);
    }
    assert_eq!(post("/profile/forget").await.status, 200);
    assert_eq!(post("/profile/learned").await.status, 404);
    setup.stop().await;
}
