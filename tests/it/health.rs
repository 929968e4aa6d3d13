//! What orchestrators and tools ask: gRPC health, reflection, the HTTP probes.
use prost::Message as _;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::support::client::{Reply, Request};
use crate::support::dense;
use crate::support::fake_tfs::{FakeTfs, Options};
use crate::support::requests::field;
use crate::support::sidecar::{HEALTH_CHECK, Setup, TestSidecar, config, until, watch};

const REFLECTION: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

async fn check(client: &crate::support::client::Client, service: &str) -> Reply {
    let message = HealthCheckRequest { service: service.to_owned() }.encode_to_vec();
    client.call(Request::new(HEALTH_CHECK, &message)).await
}

fn status(reply: Reply) -> i32 {
    HealthCheckResponse::decode(reply.ok().message).unwrap().status
}

#[tokio::test]
async fn health_knows_the_services_and_the_models() {
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
async fn readiness_waits_for_every_declared_model() {
    let mut fake = FakeTfs::absent(Options::default(), [dense::model()]);
    let sidecar = TestSidecar::start(config(fake.addr(), ["mlp".to_owned(), "late".to_owned()]));
    let client = sidecar.client().await;
    assert_eq!(status(check(&client, "").await), i32::from(ServingStatus::NotServing));
    fake.restart();
    let mut one = watch(&client, "mlp").await;
    until(&mut one, ServingStatus::Serving).await;
    assert_eq!(sidecar.page("/readyz").await.status, 503, "`late` is not there");
    assert_eq!(status(check(&client, "").await), i32::from(ServingStatus::NotServing));
    let mut all = watch(&client, "").await;
    fake.serve(dense::model_named("late"));
    until(&mut all, ServingStatus::Serving).await;
    assert_eq!(sidecar.page("/readyz").await.status, 200);
    assert_eq!(sidecar.page("/livez").await.status, 200);
    sidecar.stop().await;
}

#[tokio::test]
async fn reflection_describes_the_services() {
    let setup = Setup::new([dense::model()]).await;
    let list = field(7, b"*");
    let symbol = field(4, b"tensorflow.serving.PredictionService");
    for path in REFLECTION {
        let mut stream = setup.client.stream(Request::raw(path, Vec::new()).unfinished()).await;
        stream.message(&list).await;
        let names = stream.next().await.unwrap().expect("a list of services");
        for service in [
            "tensorflow.serving.PredictionService",
            "tensorflow.serving.ModelService",
            "grpc.health.v1.Health",
        ] {
            assert!(contains(&names, service), "{path}: {service}");
        }
        stream.message(&symbol).await;
        let file = stream.next().await.unwrap().expect("a file descriptor");
        for name in ["prediction_service.proto", "GetModelMetadata", "MultiInference"] {
            assert!(contains(&file, name), "{path}: {name}");
        }
        stream.close();
        assert_eq!(stream.finish().await.unwrap().code, 0);
    }
    assert_eq!(setup.fake.calls().iter().filter(|call| call.path.contains("reflection")).count(), 0);
    setup.sidecar.stop().await;
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
