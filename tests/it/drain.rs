//! Shutting down: what is in flight is finished, what is new is turned away, and nothing waits for
//! ever.
use std::time::Duration;

use tonic_health::pb::health_check_response::ServingStatus;

use crate::support::admin;
use crate::support::client::{Client, Request};
use crate::support::dense::{self, CASE, INPUT, OUTPUT};
use crate::support::fake_tfs::{Call, End};
use crate::support::requests::{PREDICT, Predict, floats, outputs};
use crate::support::sidecar::{Setup, until, watch};
use crate::support::within;

fn flat() -> Request {
    Request::predict(&Predict::new(dense::MODEL).input(INPUT, floats(&[128], &CASE.input_tensor)).bytes())
}

#[tokio::test]
async fn requests_in_flight_are_finished_and_new_ones_turned_away() {
    let Setup { fake, sidecar, client } = Setup::new([dense::model()]).await;
    let grpc = sidecar.grpc.clone();
    let gate = fake.hold(PREDICT, 1);
    let held = client.stream(flat()).await;
    fake.called(PREDICT, 1).await;
    let mut health = watch(&client, "").await;

    // It answers when nothing is in flight any more.
    let door = sidecar.admin.clone();
    let drained = tokio::spawn(async move { admin::post(&door, "/drain").await });
    until(&mut health, ServingStatus::NotServing).await;
    assert_eq!(sidecar.page("/readyz").await.status, 503);
    assert_eq!(sidecar.page("/livez").await.status, 200);
    // On an open connection the answer is UNAVAILABLE, or the stream is refused by HTTP/2; a new
    // connection may find nobody.
    match client.try_call(flat()).await {
        Ok(reply) => assert_eq!(reply.code, 14, "{}", reply.text),
        Err(error) => assert!(error.is_go_away() || error.is_reset() || error.is_io(), "{error}"),
    }
    if let Ok(client) = Client::try_connect(&grpc).await
        && let Ok(reply) = client.try_call(flat()).await
    {
        assert_eq!(reply.code, 14, "{}", reply.text);
    }
    assert_eq!(fake.count(PREDICT), 1);
    assert!(!drained.is_finished(), "a request is in flight");

    gate.open();
    let reply = held.finish().await.unwrap().ok();
    dense::assert_case(&outputs(&reply.message)[OUTPUT].float_val);
    drop(health);
    let page = drained.await.unwrap();
    assert_eq!(page.status, 200, "{page:?}");
    sidecar.stop().await;
    assert!(Client::try_connect(&grpc).await.is_err());
}

#[tokio::test]
async fn a_drain_ends_although_a_request_does_not() {
    let setup =
        Setup::with([dense::model()], |config| config.drain_timeout = Duration::from_millis(200)).await;
    let _gate = setup.fake.hold(PREDICT, 1);
    let held = setup.client.stream(flat()).await;
    setup.fake.called(PREDICT, 1).await;
    within("the end of the drain", setup.sidecar.stop()).await;
    // The caller is told, one way or the other, and so is the server.
    if let Ok(reply) = held.finish().await {
        assert!(reply.code > 0, "{reply:?}");
    }
    let ended = |calls: &[Call]| calls.iter().any(|call| call.path == PREDICT && call.end != End::Open);
    setup.fake.until("the end of the call at the upstream", ended).await;
}

#[tokio::test]
async fn an_idle_sidecar_ends_at_once() {
    let setup =
        Setup::with([dense::model()], |config| config.drain_timeout = Duration::from_secs(3600)).await;
    setup.sidecar.stop().await;
    setup.client.closed().await;
}
