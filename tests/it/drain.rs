//! Draining: requests in flight are finished, new ones are refused, and the drain ends in time.
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tfs_sidecar::config::ListenAddr;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::support::admin;
use crate::support::client::{Client, Request, Stream};
use crate::support::dense::{self, OUTPUT};
use crate::support::fake_tfs::{Call, End, FakeTfs, Gate};
use crate::support::raw::{Frame, GOAWAY, PING, Raw, SETTINGS};
use crate::support::requests::{PREDICT, outputs};
use crate::support::sidecar::{Setup, until, watch};
use crate::support::within;

fn flat() -> Request {
    Request::predict(&dense::flat())
}

/// A call that TF Serving holds until the gate opens.
async fn in_flight(fake: &FakeTfs, client: &Client) -> (Gate, Stream) {
    let gate = fake.hold(PREDICT, 1);
    let held = client.stream(flat()).await;
    fake.called(PREDICT, 1).await;
    (gate, held)
}

#[tokio::test]
async fn requests_in_flight_are_finished_and_new_ones_refused() {
    let Setup { fake, sidecar, client } = Setup::new([dense::model()]).await;
    let grpc = sidecar.grpc.clone();
    let (gate, held) = in_flight(&fake, &client).await;
    let mut health = watch(&client, "").await;

    // It answers once no request is in flight.
    let addr = sidecar.admin.clone();
    let drained = tokio::spawn(async move { admin::post(&addr, "/drain").await });
    until(&mut health, ServingStatus::NotServing).await;
    assert_eq!(sidecar.page("/readyz").await.status, 503);
    assert_eq!(sidecar.page("/livez").await.status, 200);
    // An open connection serves until the client has noticed, then HTTP/2 refuses the stream. A new
    // connection may be refused.
    let error = within("the refusal of a stream", async {
        loop {
            match client.try_call(flat()).await {
                Ok(reply) => drop(reply.ok()),
                Err(error) => return error,
            }
        }
    })
    .await;
    assert!(error.is_go_away() || error.is_reset() || error.is_io(), "{error}");
    let served = fake.count(PREDICT);
    if let Ok(client) = Client::try_connect(&grpc).await
        && let Ok(reply) = client.try_call(flat()).await
    {
        assert_eq!(reply.code, 14, "{}", reply.text);
    }
    assert_eq!(fake.count(PREDICT), served);
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
async fn a_drain_that_is_taken_back_lets_clients_in_again() {
    let Setup { fake, sidecar, client } = Setup::new([dense::model()]).await;
    let (gate, held) = in_flight(&fake, &client).await;
    let mut health = watch(&client, "").await;
    let addr = sidecar.admin.clone();
    let drained = tokio::spawn(async move { admin::post(&addr, "/drain").await });
    until(&mut health, ServingStatus::NotServing).await;
    // A connection is closed, so that the client goes elsewhere.
    let mut refused = TcpStream::connect(&sidecar.grpc).await.unwrap();
    let read = within("the end of the connection", refused.read(&mut [0; 64])).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");

    assert_eq!(admin::post(&sidecar.admin, "/undrain").await.body, r#"{"draining":false}"#);
    let drained = drained.await.unwrap();
    assert_eq!((drained.status, drained.body.as_str()), (409, r#"{"in_flight":1,"undrained":true}"#));
    assert_eq!(sidecar.page("/readyz").await.status, 200);
    sidecar.ready().await;
    let reply = sidecar.client().await.call(flat()).await.ok();
    dense::assert_case(&outputs(&reply.message)[OUTPUT].float_val);
    gate.open();
    held.finish().await.unwrap().ok();
    sidecar.stop().await;
}

#[tokio::test]
async fn a_client_that_reconnects_at_once_has_time_to_find_another_address() {
    let Setup { sidecar, client, .. } = Setup::new([dense::model()]).await;
    let before = Instant::now();
    let addr = sidecar.admin.clone();
    let drained = tokio::spawn(async move { admin::post(&addr, "/drain").await });
    client.closed().await;
    let mut held = TcpStream::connect(&sidecar.grpc).await.unwrap();
    let read = within("the end of the connection", held.read(&mut [0; 64])).await;
    assert!(matches!(read, Ok(0) | Err(_)), "nothing is served: {read:?}");
    assert!(before.elapsed() >= Duration::from_secs(1), "{:?}", before.elapsed());
    assert_eq!(drained.await.unwrap().status, 200);
    sidecar.stop().await;
}

#[tokio::test]
async fn a_drain_before_the_end_of_the_process_cannot_be_taken_back() {
    let Setup { fake, sidecar, client } = Setup::new([dense::model()]).await;
    let (gate, held) = in_flight(&fake, &client).await;
    let mut health = watch(&client, "").await;
    let addr = sidecar.admin.clone();
    let stopped = tokio::spawn(sidecar.stop());
    until(&mut health, ServingStatus::NotServing).await;
    let page = admin::post(&addr, "/undrain").await;
    assert_eq!(page.status, 409);
    assert!(page.body.contains("the process is stopping"), "{}", page.body);
    drop(health);
    gate.open();
    held.finish().await.unwrap().ok();
    stopped.await.unwrap();
}

#[tokio::test]
async fn a_hook_drains_by_get_on_its_own_address_only() {
    let free = ListenAddr::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
    let setup = Setup::with([dense::model()], |config| config.drain_listen = Some(free)).await;
    drop(setup.client);
    let sidecar = setup.sidecar;
    assert_eq!(sidecar.page("/drain").await.status, 405);
    assert_eq!(admin::post(&sidecar.drain, "/drain").await.status, 405);
    assert_eq!(admin::get(&sidecar.drain, "/metrics").await.status, 404);
    assert_eq!(sidecar.page("/readyz").await.status, 200);
    assert_eq!(admin::get(&sidecar.drain, "/drain").await.status, 200);
    assert_eq!(sidecar.page("/readyz").await.status, 503);
    sidecar.stop().await;
}

#[tokio::test]
async fn an_idle_sidecar_stops_at_once() {
    let setup =
        Setup::with([dense::model()], |config| config.drain_timeout = Duration::from_secs(3600)).await;
    setup.sidecar.stop().await;
    setup.client.closed().await;
}

/// The last stream that a GOAWAY allows.
fn last_stream(goaway: &Frame) -> u32 {
    u32::from_be_bytes(goaway.payload[..4].try_into().unwrap())
}

#[tokio::test]
async fn clients_are_told_in_two_steps_so_that_no_request_on_its_way_is_lost() {
    let setup = Setup::new([dense::model()]).await;
    drop(setup.client);
    let mut raw = Raw::connect(&setup.sidecar.grpc).await;
    raw.next(&[SETTINGS]).await.unwrap();
    let addr = setup.sidecar.admin.clone();
    let drained = tokio::spawn(async move { admin::post(&addr, "/drain").await });
    let first = raw.next(&[GOAWAY]).await.unwrap();
    assert_eq!(last_stream(&first), (1 << 31) - 1, "new requests are still allowed");
    // What the client has sent before it knew of the first one arrives before its answer to this.
    let ping = raw.next(&[PING]).await.unwrap();
    raw.ack_ping(&ping.payload).await;
    assert_eq!(last_stream(&raw.next(&[GOAWAY]).await.unwrap()), 0);
    assert_eq!(drained.await.unwrap().status, 200);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn during_the_delay_the_sidecar_is_unready_and_serves_everyone() {
    let hour = Duration::from_secs(3600);
    let setup = Setup::with([dense::model()], |config| config.drain_delay = hour).await;
    let Setup { sidecar, client, .. } = setup;
    let mut health = watch(&client, "").await;
    let addr = sidecar.admin.clone();
    let drained = tokio::spawn(async move { admin::post(&addr, "/drain").await });
    until(&mut health, ServingStatus::NotServing).await;
    assert_eq!(sidecar.page("/readyz").await.status, 503);
    client.call(flat()).await.ok();
    let new = sidecar.client().await;
    new.call(flat()).await.ok();
    assert!(!drained.is_finished());
    assert_eq!(admin::post(&sidecar.admin, "/undrain").await.status, 200);
    assert_eq!(drained.await.unwrap().status, 409);
    until(&mut health, ServingStatus::Serving).await;
    new.call(flat()).await.ok();
}

#[tokio::test]
async fn what_a_client_sends_before_it_knows_of_a_drain_is_served() {
    let Setup { fake, sidecar, client } = Setup::new([dense::model()]).await;
    drop(client);
    let (client, stuck) = Client::stuck(&sidecar.grpc).await;
    client.call(flat()).await.ok();
    stuck.stop_reading();
    let addr = sidecar.admin.clone();
    let drained = tokio::spawn(async move { admin::post(&addr, "/drain").await });
    within("the drain", async { while sidecar.page("/readyz").await.status != 503 {} }).await;
    let _unread = client.stream(flat()).await;
    fake.called(PREDICT, 2).await;
    drop(client);
    assert_eq!(drained.await.unwrap().status, 200);
}
