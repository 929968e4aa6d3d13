//! Draining: requests in flight are finished, new ones are refused, and the drain ends in time.
use std::time::Duration;

use tonic_health::pb::health_check_response::ServingStatus;

use crate::support::admin;
use crate::support::client::{Client, Request};
use crate::support::dense::{self, OUTPUT};
use crate::support::fake_tfs::{Call, End};
use crate::support::requests::{PREDICT, outputs};
use crate::support::sidecar::{Setup, until, watch};
use crate::support::within;

fn flat() -> Request {
    Request::predict(&dense::flat())
}

#[tokio::test]
async fn requests_in_flight_are_finished_and_new_ones_refused() {
    let Setup { fake, sidecar, client } = Setup::new([dense::model()]).await;
    let grpc = sidecar.grpc.clone();
    let gate = fake.hold(PREDICT, 1);
    let held = client.stream(flat()).await;
    fake.called(PREDICT, 1).await;
    let mut health = watch(&client, "").await;

    // It answers once no request is in flight.
    let addr = sidecar.admin.clone();
    let drained = tokio::spawn(async move { admin::post(&addr, "/drain").await });
    until(&mut health, ServingStatus::NotServing).await;
    assert_eq!(sidecar.page("/readyz").await.status, 503);
    assert_eq!(sidecar.page("/livez").await.status, 200);
    // On an open connection, the answer is UNAVAILABLE or HTTP/2 refuses the stream. A new
    // connection may be refused.
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
async fn a_drain_ends_at_its_timeout_even_if_a_request_is_still_running() {
    let setup =
        Setup::with([dense::model()], |config| config.drain_timeout = Duration::from_millis(200)).await;
    let _gate = setup.fake.hold(PREDICT, 1);
    let held = setup.client.stream(flat()).await;
    setup.fake.called(PREDICT, 1).await;
    within("the end of the drain", setup.sidecar.stop()).await;
    // The client gets an error or a reset, and the server sees the end of the call.
    if let Ok(reply) = held.finish().await {
        assert!(reply.code > 0, "{reply:?}");
    }
    let ended = |calls: &[Call]| calls.iter().any(|call| call.path == PREDICT && call.end != End::Open);
    setup.fake.until("the end of the call at the upstream", ended).await;
}

#[tokio::test]
async fn an_idle_sidecar_stops_at_once() {
    let setup =
        Setup::with([dense::model()], |config| config.drain_timeout = Duration::from_secs(3600)).await;
    setup.sidecar.stop().await;
    setup.client.closed().await;
}
