//! Draining: requests in flight are finished, new ones are refused, and the drain ends in time.
use std::net::SocketAddr;
use std::task::Poll;
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
use crate::support::requests::{PREDICT, STATUS, outputs};
use crate::support::sidecar::{Setup, TestSidecar, until, watch};
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

/// A sidecar with an address for the hook, of which no client is connected.
async fn with_hook() -> (FakeTfs, TestSidecar) {
    let free = ListenAddr::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
    let setup = Setup::with([dense::model()], |config| config.drain_listen = Some(free)).await;
    (setup.fake, setup.sidecar)
}

/// Waits until readiness lacks exactly this. It begins with the given texts.
async fn until_missing(admin: &str, wanted: &[&str]) {
    within(&format!("{wanted:?} in /readyz"), async {
        loop {
            let page: serde_json::Value =
                serde_json::from_str(&admin::get(admin, "/readyz").await.body).unwrap();
            let missing = page["missing"].as_array().unwrap();
            let is_wanted =
                |(line, text): (&serde_json::Value, &&str)| line.as_str().unwrap().starts_with(*text);
            if missing.len() == wanted.len() && missing.iter().zip(wanted).all(is_wanted) {
                return;
            }
        }
    })
    .await;
}

const DRAINING: &str = "draining";
const GONE: &str = "no connection to TF Serving";

/// As when its container is restarted. The sidecar drains and notices.
async fn restart(fake: &mut FakeTfs, admin: &str) {
    fake.stop();
    until_missing(admin, &[DRAINING, GONE]).await;
    fake.restart();
}

/// Waits for two polls of the control thread, which would have taken a drain back by then.
async fn polled(fake: &FakeTfs) {
    let polls = fake.count(STATUS);
    fake.called(STATUS, polls + 2).await;
}

#[tokio::test]
async fn a_drain_by_the_hook_is_taken_back_when_only_tf_serving_was_restarted() {
    let (mut fake, sidecar) = with_hook().await;
    assert_eq!(admin::get(&sidecar.drain, "/drain").await.status, 200);
    until_missing(&sidecar.admin, &[DRAINING]).await;
    restart(&mut fake, &sidecar.admin).await;
    until_missing(&sidecar.admin, &[]).await;
    // A worker may connect to TF Serving a moment after the control thread.
    let client = sidecar.client().await;
    within("an answer", async { while client.call(flat()).await.code != 0 {} }).await;
    drop(client);
    // The next one is a drain like the first.
    assert_eq!(admin::get(&sidecar.drain, "/drain").await.status, 200);
    restart(&mut fake, &sidecar.admin).await;
    until_missing(&sidecar.admin, &[]).await;
    sidecar.stop().await;
}

/// As after a failed liveness probe of a TF Serving that hangs, to which no connection is left.
#[tokio::test]
async fn a_drain_by_the_hook_is_taken_back_if_tf_serving_was_lost_before() {
    let (mut fake, sidecar) = with_hook().await;
    fake.stop();
    until_missing(&sidecar.admin, &[GONE]).await;
    assert_eq!(admin::get(&sidecar.drain, "/drain").await.status, 200);
    restart(&mut fake, &sidecar.admin).await;
    until_missing(&sidecar.admin, &[]).await;
    sidecar.stop().await;
}

#[tokio::test]
async fn a_drain_by_an_operator_stays_when_tf_serving_is_restarted() {
    let (mut fake, sidecar) = with_hook().await;
    assert_eq!(admin::post(&sidecar.admin, "/drain").await.status, 200);
    assert_eq!(admin::get(&sidecar.drain, "/drain").await.status, 200, "a hook changes nothing");
    restart(&mut fake, &sidecar.admin).await;
    until_missing(&sidecar.admin, &[DRAINING]).await;
    polled(&fake).await;
    until_missing(&sidecar.admin, &[DRAINING]).await;
    assert_eq!(admin::post(&sidecar.admin, "/undrain").await.status, 200);
    until_missing(&sidecar.admin, &[]).await;
    sidecar.stop().await;
}

#[tokio::test]
async fn a_drain_by_the_hook_stays_while_tf_serving_runs() {
    let (fake, sidecar) = with_hook().await;
    assert_eq!(admin::get(&sidecar.drain, "/drain").await.status, 200);
    // New connections to the same process are no restart.
    let before = fake.connections().accepted;
    fake.goaway();
    fake.until_connections("new connections", |now| now.accepted >= before + 2).await;
    polled(&fake).await;
    until_missing(&sidecar.admin, &[DRAINING]).await;
    sidecar.stop().await;
}

#[tokio::test]
async fn the_end_of_the_process_is_not_taken_back_when_tf_serving_is_restarted() {
    let free = ListenAddr::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
    let Setup { mut fake, sidecar, .. } = Setup::with([dense::model()], |config| {
        config.drain_listen = Some(free);
        config.drain_delay = Duration::from_secs(3600);
    })
    .await;
    let (admin, drain) = (sidecar.admin.clone(), sidecar.drain.clone());
    let hook = tokio::spawn(async move { admin::get(&drain, "/drain").await });
    until_missing(&admin, &[DRAINING]).await;
    let mut ending = std::pin::pin!(sidecar.stop());
    assert!(std::future::poll_fn(|cx| Poll::Ready(ending.as_mut().poll(cx))).await.is_pending());
    assert_eq!(admin::post(&admin, "/undrain").await.status, 409);
    restart(&mut fake, &admin).await;
    until_missing(&admin, &[DRAINING]).await;
    polled(&fake).await;
    until_missing(&admin, &[DRAINING]).await;
    hook.abort();
}
