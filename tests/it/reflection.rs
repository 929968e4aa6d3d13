//! Server reflection, which the sidecar answers itself.
use crate::support::client::Request;
use crate::support::dense;
use crate::support::requests::field;
use crate::support::sidecar::Setup;

const REFLECTION: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

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
        // The details of a refusal, for tools that print them.
        for detail in ["google.rpc.Status", "google.rpc.BadRequest", "google.rpc.ErrorInfo"] {
            stream.message(&field(4, detail.as_bytes())).await;
            let file = stream.next().await.unwrap().expect("a file descriptor");
            assert!(contains(&file, detail.rsplit('.').next().unwrap()), "{path}: {detail}");
            assert!(contains(&file, "google.rpc"), "{path}: {detail}");
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
