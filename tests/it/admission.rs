//! Clients that announce much, send slowly or do not read: they take little, not for long, and stop
//! nobody else.
use std::time::Duration;

use prost::bytes::Bytes;
use tfs_sidecar::config::{Limits, UpstreamConcurrency};
use tokio::task::JoinSet;

use crate::support::client::{Client, Reply, Request, Stream};
use crate::support::dense;
use crate::support::fake_tfs::{Call, End, FakeTfs, Options};
use crate::support::requests::PREDICT;
use crate::support::sidecar::{HEALTH_WATCH, Setup, watch};
use crate::support::within;

const ECHO: &str = "/test.Echo/Echo";
/// The prefix of a message of nearly 64 KiB.
const ANNOUNCEMENT: [u8; 5] = [0, 0, 0, 0xff, 0xc0];

async fn with_limits(change: impl FnOnce(&mut Limits)) -> Setup {
    Setup::with([dense::model()], |config| {
        config.upstream_concurrency = UpstreamConcurrency::Off;
        change(&mut config.limits);
    })
    .await
}

/// Before a fake server that echoes the messages of [`ECHO`].
async fn echoing(change: impl FnOnce(&mut Limits)) -> Setup {
    let options = Options { echoes: vec![ECHO.into()], ..Default::default() };
    let fake = FakeTfs::start_with(options, [dense::model()]);
    Setup::before(fake, vec![dense::MODEL.into()], |config| change(&mut config.limits)).await
}

/// Predicts with a deadline that an honest client would set.
async fn predicts(client: &Client) {
    client.call(Request::predict(&dense::conforming()).timeout("5S")).await.ok();
}

async fn ended(stream: Stream) -> Reply {
    stream.finish().await.expect("the stream ends with a status")
}

#[tokio::test]
async fn an_announced_length_takes_no_memory() {
    let setup = with_limits(|limits| limits.max_inflight_bytes = 64 << 10).await;
    let greedy = setup.sidecar.client().await;
    let mut announced = Vec::new();
    for _ in 0..8 {
        let request = Request::raw(PREDICT, ANNOUNCEMENT.to_vec()).unfinished();
        announced.push(greedy.stream(request).await);
    }
    predicts(&greedy).await;
    predicts(&setup.client).await;
    drop(announced);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn requests_without_a_message_do_not_keep_others_out() {
    let setup = with_limits(|limits| limits.max_inflight_requests = 8).await;
    let greedy = setup.sidecar.client().await;
    let mut empty = Vec::new();
    for _ in 0..31 {
        empty.push(greedy.stream(Request::raw(PREDICT, Bytes::new()).unfinished()).await);
    }
    predicts(&setup.client).await;
    predicts(&greedy).await;
    // So many may wait for their client, and no more.
    empty.push(greedy.stream(Request::raw(PREDICT, Bytes::new()).unfinished()).await);
    let reply = greedy.call(Request::raw(PREDICT, Bytes::new()).unfinished()).await;
    assert_eq!((reply.code, reply.reason().as_str()), (8, "QUEUE_FULL"), "{}", reply.text);
    drop(empty);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_greedy_connection_leaves_a_share_to_others() {
    let setup = with_limits(|limits| limits.max_inflight_requests = 16).await;
    let greedy = setup.sidecar.client().await;
    let gate = setup.fake.hold(PREDICT, 16);
    let mut held = Vec::new();
    for _ in 0..16 {
        held.push(greedy.stream(Request::predict(&dense::conforming())).await);
    }
    setup.fake.called(PREDICT, 16).await;
    let reply = greedy.predict(&dense::conforming()).await;
    assert_eq!((reply.code, reply.reason().as_str()), (8, "QUEUE_FULL"), "{}", reply.text);
    predicts(&setup.client).await;

    // While another client has a request in flight, the greedy one gets only its share.
    let other_gate = setup.fake.hold(PREDICT, 1);
    let other = setup.client.stream(Request::predict(&dense::conforming())).await;
    setup.fake.called(PREDICT, 18).await;
    held.pop().expect("a held request").cancel();
    let reply = greedy.predict(&dense::conforming()).await;
    assert_eq!((reply.code, reply.reason().as_str()), (8, "QUEUE_FULL"), "{}", reply.text);
    assert!(reply.text.contains("more than its share"), "{}", reply.text);
    gate.open();
    other_gate.open();
    other.finish().await.unwrap().ok();
    for stream in held {
        stream.finish().await.unwrap().ok();
    }
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_request_that_stops_arriving_is_given_up() {
    let setup = with_limits(|limits| {
        limits.body_idle_timeout = Duration::from_millis(100);
        limits.min_body_rate = 1;
    })
    .await;
    for body in [Vec::new(), ANNOUNCEMENT.to_vec()] {
        let stalled = setup.client.stream(Request::raw(PREDICT, body).unfinished()).await;
        let reply = ended(stalled).await;
        assert_eq!(reply.code, 4, "{}", reply.text);
        assert!(reply.text.contains("limits.body_idle_timeout"), "{}", reply.text);
    }
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_request_that_arrives_too_slowly_is_given_up() {
    let setup = with_limits(|limits| {
        limits.body_idle_timeout = Duration::from_millis(200);
        limits.min_body_rate = 1 << 20;
    })
    .await;
    let mut request = setup.client.stream(Request::raw(PREDICT, ANNOUNCEMENT.to_vec()).unfinished()).await;
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    let reply = within("the end of a slow request", async {
        while request.piece(&[0; 16]) {
            pace.tick().await;
        }
        ended(request).await
    })
    .await;
    assert_eq!(reply.code, 4, "{}", reply.text);
    assert!(reply.text.contains("limits.min_body_rate"), "{}", reply.text);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_slow_request_above_the_lowest_rate_is_answered() {
    let setup = with_limits(|limits| limits.body_idle_timeout = Duration::from_millis(100)).await;
    let body = crate::support::framing::frame(&dense::conforming(), false);
    let mut request = setup.client.stream(Request::raw(PREDICT, Bytes::new()).unfinished()).await;
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    for piece in body.chunks(20) {
        pace.tick().await;
        assert!(request.piece(piece), "the peer takes it");
    }
    request.close();
    ended(request).await.ok();
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_given_up_and_stops_nobody() {
    let setup = with_limits(|limits| {
        limits.max_inflight_requests = 4;
        limits.write_idle_timeout = Duration::from_millis(500);
    })
    .await;
    let silent = Client::with_window(&setup.sidecar.grpc, 0).await;
    let mut unread = Vec::new();
    for number in 1..=12 {
        unread.push(silent.stream(Request::predict(&dense::conforming())).await);
        setup.fake.called(PREDICT, number).await;
    }
    predicts(&setup.client).await;
    for stream in unread {
        let reply = ended(stream).await;
        assert_eq!(reply.code, 4, "{}", reply.text);
        assert!(reply.text.contains("limits.write_idle_timeout"), "{}", reply.text);
    }
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn unread_answers_do_not_stop_the_others() {
    const SIZE: usize = 5 << 20;
    let setup = echoing(|_| {}).await;
    let silent = setup.sidecar.client().await;
    let message = vec![7; SIZE];
    let mut unread = Vec::new();
    for number in 1..=18 {
        unread.push(silent.stream(Request::new(ECHO, &message)).await);
        setup.fake.called(ECHO, number).await;
    }
    for _ in 0..10 {
        predicts(&setup.client).await;
    }
    let mut stream = setup.client.stream(Request::new(ECHO, &message)).await;
    assert_eq!(stream.next().await.unwrap().unwrap().len(), SIZE);
    // Those who read late get all of it.
    let mut late = JoinSet::new();
    for mut stream in unread {
        late.spawn(async move { stream.next().await.unwrap().unwrap().len() });
    }
    assert_eq!(late.join_all().await, [SIZE; 18]);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn unread_answers_do_not_fill_the_memory() {
    const SIZE: usize = 4 << 20;
    let setup = echoing(|limits| limits.max_inflight_bytes = 4 << 20).await;
    let message = vec![7; SIZE];
    let silent = Client::with_window(&setup.sidecar.grpc, 0).await;
    let mut unread = Vec::new();
    for number in 1..=12 {
        unread.push(silent.stream(Request::new(ECHO, &message)).await);
        setup.fake.called(ECHO, number).await;
    }
    // Each holds a window of 1 MiB. Four fit, and long before `write_idle_timeout` the others are
    // given up.
    let mut given_up = JoinSet::new();
    for stream in unread {
        given_up.spawn(ended(stream));
    }
    for _ in 0..8 {
        let reply = within("the end of an unread answer", given_up.join_next()).await.unwrap().unwrap();
        assert!([4, 8].contains(&reply.code), "{} {}", reply.code, reply.text);
    }
    predicts(&setup.client).await;
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_connection_that_takes_nothing_is_ended_and_stops_nobody() {
    const SIZE: usize = 3 << 20;
    let setup = echoing(|limits| {
        limits.max_streams = 8;
        limits.write_idle_timeout = Duration::from_millis(500);
    })
    .await;
    let (client, stuck) = Client::stuck(&setup.sidecar.grpc).await;
    // Afterwards it knows the sidecar's windows.
    predicts(&client).await;
    let message = vec![7; SIZE];
    let mut opened = Vec::new();
    for _ in 0..8 {
        opened.push(client.stream(Request::raw(ECHO, Bytes::new()).unfinished()).await);
    }
    setup.fake.called(ECHO, 8).await;
    stuck.stop_reading();
    for stream in &mut opened {
        stream.piece(&crate::support::framing::frame(&message, false));
    }
    predicts(&setup.client).await;
    // Its streams end, although it says nothing any more.
    let last = within("room for a stream", async {
        loop {
            let mut stream = setup.client.stream(Request::new(ECHO, &message)).await;
            if let Ok(Some(answer)) = stream.next().await {
                return answer.len();
            }
        }
    })
    .await;
    assert_eq!(last, SIZE);
    let ended = |call: &&Call| call.path == ECHO && call.end != End::Open;
    setup.fake.until("the end of the calls", |calls| calls.iter().filter(ended).count() > 8).await;
    drop((client, opened));
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn watches_take_nothing_from_predict_and_leave_a_share_to_others() {
    let setup = with_limits(|limits| {
        limits.max_inflight_requests = 2;
        limits.max_streams = 16;
    })
    .await;
    let greedy = setup.sidecar.client().await;
    let mut watches = Vec::new();
    for _ in 0..16 {
        watches.push(watch(&greedy, "").await);
    }
    let reply = greedy.call(Request::new(HEALTH_WATCH, &[])).await;
    assert_eq!((reply.code, reply.reason().as_str()), (8, "QUEUE_FULL"), "{}", reply.text);
    predicts(&greedy).await;
    drop(watch(&setup.client, "").await);
    drop(watches);
    setup.sidecar.stop().await;
}
