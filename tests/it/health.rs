//! gRPC health and the HTTP probes, as orchestrators use them.
use prost::Message as _;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::support::client::{Client, Reply, Request};
use crate::support::dense::{self, CASE, INPUT};
use crate::support::fake_tfs::{FakeTfs, Options};
use crate::support::requests::{Predict, floats};
use crate::support::sidecar::{HEALTH_CHECK, Setup, TestSidecar, config, until, watch};

async fn check(client: &Client, service: &str) -> Reply {
    let message = HealthCheckRequest { service: service.to_owned() }.encode_to_vec();
    client.call(Request::new(HEALTH_CHECK, &message)).await
}

fn status(reply: Reply) -> i32 {
    HealthCheckResponse::decode(reply.ok().message).unwrap().status
}

#[tokio::test]
async fn health_reports_services_and_models() {
    let setup = Setup::new([dense::model()]).await;
    let services = [
        "",
        "mlp",
        "tensorflow.serving.PredictionService",
        "tensorflow.serving.ModelService",
        "PredictionService",
        "ModelService",
    ];
    for service in services {
        assert_eq!(
            status(check(&setup.client, service).await),
            i32::from(ServingStatus::Serving),
            "{service}"
        );
    }
    assert_eq!(check(&setup.client, "nope").await.code, 5);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_watch_of_an_unknown_name_says_so_and_waits_for_it() {
    let setup = Setup::new([dense::model()]).await;
    let mut late = watch(&setup.client, "late").await;
    until(&mut late, ServingStatus::ServiceUnknown).await;
    setup.fake.serve(dense::model_named("late"));
    // Its first request makes it known.
    let message = Predict::new("late").input(INPUT, floats(&[1, 128], &CASE.input_tensor)).bytes();
    setup.client.predict(&message).await.ok();
    until(&mut late, ServingStatus::Serving).await;
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn readiness_waits_for_every_declared_model() {
    let mut fake = FakeTfs::absent(Options::default(), [dense::model()]);
    let sidecar = TestSidecar::start(config(fake.addr(), ["mlp".to_owned(), "late".to_owned()]));
    let client = sidecar.client().await;
    assert_eq!(status(check(&client, "").await), i32::from(ServingStatus::NotServing));
    fake.restart();
    let mut one = watch(&client, "mlp").await;
    until(&mut one, ServingStatus::Serving).await;
    assert_eq!(sidecar.page("/readyz").await.status, 503, "`late` is missing");
    assert_eq!(status(check(&client, "").await), i32::from(ServingStatus::NotServing));
    let mut all = watch(&client, "").await;
    fake.serve(dense::model_named("late"));
    until(&mut all, ServingStatus::Serving).await;
    assert_eq!(sidecar.page("/readyz").await.status, 200);
    assert_eq!(sidecar.page("/livez").await.status, 200);
    sidecar.stop().await;
}
