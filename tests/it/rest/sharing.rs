//! Requests of both listeners share runs of the model, and each gets its own rows.
use super::*;
use crate::batching::{Busy, carried, finish, firsts, on, queued, rows};
use crate::support::client::Request;
use crate::support::requests::PREDICT;
use crate::support::rest::Http;

#[tokio::test]
async fn requests_of_both_listeners_share_a_run() {
    let setup = serve_with(crate::batching::model(), on).await;
    let busy = Busy::new(&setup).await;
    let mut http = [Http::connect(&setup.sidecar.rest).await, Http::connect(&setup.sidecar.rest).await];
    http[0].send(&Ask::predict(&name(), r#"{"instances": [[1, 1.25, 1.5]]}"#).bytes()).await;
    queued(&setup, 1).await;
    let grpc = setup.client.stream(Request::predict(&rows(&[2.0, 3.0]))).await;
    queued(&setup, 3).await;
    // Repaired.
    http[1].send(&Ask::predict(&name(), r#"{"instances": [4, 4.25, 4.5]}"#).bytes()).await;
    queued(&setup, 4).await;
    busy.end().await;
    let first = http[0].answer().await.ok();
    assert_eq!(first.json(), serde_json::json!({"predictions": [[1.0, 1.25, 1.5]]}));
    let last = http[1].answer().await.ok();
    assert_eq!(last.json(), serde_json::json!({"predictions": [[4.0, 4.25, 4.5]]}));
    assert_eq!((first.repairs().len(), last.repairs().len()), (0, 1));
    let reply = finish(vec![grpc]).await.remove(0).ok();
    assert_eq!(firsts(&reply), [2.0, 3.0]);
    assert_eq!(first.header("tfs-sidecar-batch"), "rows=1/4");
    assert_eq!(last.header("tfs-sidecar-batch"), "rows=1/4");
    assert_eq!(reply.initial("tfs-sidecar-batch"), ["rows=2/4"]);
    let calls = setup.fake.calls_of(PREDICT);
    assert_eq!(calls.iter().map(carried).collect::<Vec<_>>(), [vec![900.0], vec![1.0, 2.0, 3.0, 4.0]]);
    setup.sidecar.stop().await;
}
