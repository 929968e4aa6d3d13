//! The adaptive concurrency limit against a TF Serving with few threads: requests wait in order,
//! are sent again, or are refused at once.
use std::sync::Arc;
use std::time::Duration;

use prost::bytes::Bytes;
use tfs_sidecar::config::{Config, UpstreamConcurrency};

use crate::support::client::{Client, Request};
use crate::support::dense;
use crate::support::fake_tfs::{Act, FakeTfs, Load, Options};
use crate::support::requests::{CLASSIFY, PREDICT, Predict, STATUS, floats, status_request};
use crate::support::sidecar::{HEALTH_CHECK, Setup};
use crate::support::within;

const EXHAUSTED: &str = "Server Threadpool Exhausted";
const NO_ROOM: &str = "The batch scheduling queue to which this task was submitted is full; currently 2 batches enqueued and max_enqueued_batches is 2";

/// A stand-in with so many threads, which metadata polls leave alone.
async fn setup(threads: usize, change: impl FnOnce(&mut Config)) -> Setup {
    let options = Options { max_threads: Some(threads), ..Default::default() };
    let fake = FakeTfs::start_with(options, [dense::model()]);
    Setup::before(fake, vec![dense::MODEL.into()], |config| {
        config.poll_interval = Duration::from_secs(3600);
        change(config);
    })
    .await
}

fn fixed(limit: usize) -> impl FnOnce(&mut Config) {
    move |config| config.upstream_concurrency = UpstreamConcurrency::Fixed(limit)
}

/// What clients see of a server in so long: answers, and refusals because no thread was free.
async fn answers(clients: &[Arc<Client>], streams: usize, span: Duration) -> (usize, usize) {
    let request = dense::conforming();
    let end = tokio::time::Instant::now() + span;
    let mut tasks = tokio::task::JoinSet::new();
    for stream in 0..streams {
        let (client, request) = (Arc::clone(&clients[stream % clients.len()]), request.clone());
        tasks.spawn(async move {
            let mut seen = (0, 0);
            while tokio::time::Instant::now() < end {
                match client.predict(&request).await.code {
                    0 => seen.0 += 1,
                    8 => seen.1 += 1,
                    code => panic!("unexpected code {code}"),
                }
            }
            seen
        });
    }
    tasks.join_all().await.into_iter().fold((0, 0), |all, seen| (all.0 + seen.0, all.1 + seen.1))
}

/// As a real server was measured, only slower, so that unoptimised programs keep up.
#[tokio::test]
async fn clients_get_more_answers_than_from_the_server_itself_and_no_refusal() {
    let load = Load { threads: 8, slower: 30.0 };
    let options = Options { load: Some(load), ..Default::default() };
    let setup = Setup::before(FakeTfs::start_with(options, [dense::model()]), vec![], |config| {
        config.poll_interval = Duration::from_secs(3600);
        config.workers = 2;
    })
    .await;
    setup.client.predict(&dense::conforming()).await.ok();
    let direct = Arc::new(Client::connect(setup.fake.addr()).await);
    let sidecar = [Arc::new(setup.sidecar.client().await), Arc::new(setup.sidecar.client().await)];
    let span = Duration::from_secs(2);
    let (alone, refused) = answers(&[direct], 64, span).await;
    assert!(
        refused > alone / 2,
        "the server refuses clients that call it directly: {refused} beside {alone}"
    );
    let (_, learning) = answers(&sidecar, 64, Duration::from_secs(3)).await;
    let (answered, refused) = answers(&sidecar, 64, span).await;
    println!("{alone} answers directly, {answered} through the sidecar");
    assert_eq!((learning, refused), (0, 0), "no client sees a refusal");
    assert!(answered >= alone, "{answered} answers, {alone} directly");
    let status = setup.sidecar.page("/api/status").await;
    assert!(status.body.contains("--grpc_max_threads=128"), "{}", status.body);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn an_overloaded_model_does_not_keep_another_from_a_full_queue() {
    let fake = FakeTfs::start([dense::model(), dense::model_named("slow")]);
    let setup = Setup::before(fake, vec![dense::MODEL.into(), "slow".into()], |config| {
        fixed(1)(config);
        config.limits.max_queued_requests = 4;
    })
    .await;
    let gate = setup.fake.hold(PREDICT, 1);
    let request =
        Predict::new("slow").input(dense::INPUT, floats(&[1, 128], &dense::CASE.input_tensor)).bytes();
    let held = setup.client.stream(Request::predict(&request)).await;
    setup.fake.called(PREDICT, 1).await;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..5 {
        waiting.spawn(setup.client.stream(Request::predict(&request)).await.finish());
    }
    let full = within("a refusal", waiting.join_next()).await.unwrap().unwrap().unwrap();
    assert_eq!((full.code, full.reason().as_str()), (8, "QUEUE_FULL"), "{}", full.text);
    // The other model has a place: the newest request of the first one is refused instead.
    let other = setup.client.stream(Request::predict(&dense::conforming())).await;
    let displaced = within("a refusal", waiting.join_next()).await.unwrap().unwrap().unwrap();
    assert_eq!((displaced.code, displaced.reason().as_str()), (8, "QUEUE_FULL"), "{}", displaced.text);
    gate.open();
    other.finish().await.unwrap().ok();
    held.finish().await.unwrap().ok();
    for reply in waiting.join_all().await {
        reply.unwrap().ok();
    }
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn status_calls_take_permits_until_they_are_answered() {
    let setup = setup(8, fixed(1)).await;
    let gate = setup.fake.hold(STATUS, 1);
    let before = setup.fake.count(STATUS);
    let status = setup.client.stream(Request::new(STATUS, &status_request(dense::MODEL))).await;
    setup.fake.called(STATUS, before + 1).await;
    let late = setup.client.call(Request::predict(&dense::conforming()).timeout("50m")).await;
    assert_eq!(late.code, 4, "{}", late.text);
    assert_eq!(setup.fake.count(PREDICT), 0);
    gate.open();
    status.finish().await.unwrap().ok();
    setup.client.predict(&dense::conforming()).await.ok();
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn workers_share_one_limit() {
    let setup = setup(4, |config| config.workers = 2).await;
    let second = setup.sidecar.client().await;
    let mut streams = Vec::new();
    let gate = setup.fake.hold(PREDICT, 4);
    for _ in 0..32 {
        for client in [&setup.client, &second] {
            streams.push(client.stream(Request::predict(&dense::conforming())).await);
        }
    }
    setup.fake.called(PREDICT, 4).await;
    gate.open();
    for stream in streams {
        stream.finish().await.unwrap().ok();
    }
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn waiting_requests_are_sent_in_order_of_arrival() {
    let setup = setup(8, fixed(1)).await;
    let gate = setup.fake.hold(PREDICT, 1);
    let mut streams = Vec::new();
    for number in 0..20 {
        let request = Request::predict(&dense::conforming()).metadata("x-number", &number.to_string());
        streams.push(setup.client.stream(request).await);
    }
    setup.fake.called(PREDICT, 1).await;
    gate.open();
    for stream in streams {
        stream.finish().await.unwrap().ok();
    }
    let calls = setup.fake.calls_of(PREDICT);
    let order: Vec<usize> =
        calls.iter().map(|call| call.headers["x-number"].to_str().unwrap().parse().unwrap()).collect();
    assert_eq!(order, (0..20).collect::<Vec<_>>());
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_request_cancelled_while_waiting_never_reaches_the_server() {
    let setup = setup(8, fixed(1)).await;
    let gate = setup.fake.hold(PREDICT, 1);
    let held = setup.client.stream(Request::predict(&dense::conforming())).await;
    setup.fake.called(PREDICT, 1).await;
    let cancelled =
        setup.client.stream(Request::predict(&dense::conforming()).metadata("x-cancelled", "yes")).await;
    let other = setup.client.stream(Request::predict(&dense::conforming())).await;
    cancelled.cancel();
    // A later request on the same connection is read after the cancellation.
    setup.client.call(Request::new(HEALTH_CHECK, b"")).await.ok();
    gate.open();
    held.finish().await.unwrap().ok();
    other.finish().await.unwrap().ok();
    assert!(setup.fake.calls_of(PREDICT).iter().all(|call| !call.headers.contains_key("x-cancelled")));
    assert_eq!(setup.fake.count(PREDICT), 2);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn the_queue_observes_deadlines_and_its_limit() {
    let setup = setup(8, |config| {
        fixed(1)(config);
        config.limits.max_queued_requests = 1;
    })
    .await;
    let gate = setup.fake.hold(PREDICT, 1);
    let held = setup.client.stream(Request::predict(&dense::conforming())).await;
    setup.fake.called(PREDICT, 1).await;

    let late = setup.client.call(Request::predict(&dense::conforming()).timeout("50m")).await;
    assert_eq!((late.code, late.reason().as_str()), (4, "DEADLINE"), "{}", late.text);
    assert!(late.text.contains("waiting in the queue for the upstream"), "{}", late.text);

    // One of them waits; the queue is full for the other.
    let mut two = tokio::task::JoinSet::new();
    for _ in 0..2 {
        two.spawn(setup.client.stream(Request::predict(&dense::conforming())).await.finish());
    }
    let full = within("a refusal", two.join_next()).await.unwrap().unwrap().unwrap();
    assert_eq!((full.code, full.reason().as_str()), (8, "QUEUE_FULL"), "{}", full.text);
    // The headers are enough: it is refused before its message is read.
    let full = setup.client.call(Request::raw(PREDICT, Bytes::new()).unfinished()).await;
    assert_eq!((full.code, full.reason().as_str()), (8, "QUEUE_FULL"), "{}", full.text);
    assert!(full.text.contains("limits.max_queued_requests"), "{}", full.text);
    let details = full.details().unwrap();
    assert!(String::from_utf8_lossy(&details).contains("google.rpc.RetryInfo"));

    gate.open();
    held.finish().await.unwrap().ok();
    two.join_next().await.unwrap().unwrap().unwrap().ok();
    assert_eq!(setup.fake.count(PREDICT), 2);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answer_holds_no_permit() {
    let setup = setup(8, fixed(1)).await;
    // Its answer is never read.
    let _idle = setup.client.stream(Request::predict(&dense::conforming())).await;
    for _ in 0..3 {
        setup.client.predict(&dense::conforming()).await.ok();
    }
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_server_without_threads_is_tried_until_the_deadline() {
    let setup = setup(8, |_| {}).await;
    setup.fake.refuse(PREDICT, 1_000_000, 8, EXHAUSTED);
    let reply = setup.client.call(Request::predict(&dense::conforming()).timeout("500m")).await;
    assert_eq!((reply.code, reply.reason().as_str()), (4, "DEADLINE"), "{}", reply.text);
    let tried = setup.fake.count(PREDICT);
    assert!((5..500).contains(&tried), "{tried}");
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_request_is_answered_after_many_refusals() {
    let setup = setup(8, |_| {}).await;
    setup.fake.refuse(PREDICT, 40, 8, EXHAUSTED);
    setup.client.predict(&dense::conforming()).await.ok();
    assert_eq!(setup.fake.count(PREDICT), 41);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn other_resource_exhausted_and_unavailable_answers_are_relayed() {
    let setup = setup(8, |_| {}).await;
    for (code, text) in [(8, "Run() timeout exceeded while waiting in batching queue"), (14, "no model")] {
        setup.fake.refuse(PREDICT, 1, code, text);
        let reply = setup.client.predict(&dense::conforming()).await;
        assert!(reply.code == code && reply.text.starts_with(text), "{}", reply.text);
    }
    assert_eq!(setup.fake.count(PREDICT), 2);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_full_batching_queue_is_retried_within_the_budget() {
    let setup = setup(8, |_| {}).await;
    setup.fake.refuse(PREDICT, 2, 14, NO_ROOM);
    setup.client.predict(&dense::conforming()).await.ok();
    assert_eq!(setup.fake.count(PREDICT), 3);
    setup.fake.refuse(PREDICT, 1000, 14, NO_ROOM);
    let reply = setup.client.predict(&dense::conforming()).await;
    assert!(reply.code == 14 && reply.text.starts_with(NO_ROOM), "{}", reply.text);
    assert!(setup.fake.count(PREDICT) <= 13, "{}", setup.fake.count(PREDICT));
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_call_that_may_have_run_is_not_sent_again() {
    let setup = setup(8, |_| {}).await;
    setup.fake.script(PREDICT, 1, Act::Close);
    let reply = setup.client.predict(&dense::conforming()).await;
    assert_eq!((reply.code, reply.reason().as_str()), (14, "UPSTREAM_UNAVAILABLE"), "{}", reply.text);
    assert!(reply.text.contains("ended while the request was running"), "{}", reply.text);
    assert!(reply.text.contains("it was not sent again"), "{}", reply.text);
    assert_eq!(setup.fake.count(PREDICT), 1);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_lost_call_is_retried_once_if_the_operator_allows_it() {
    let setup = setup(8, |config| config.retry_lost = true).await;
    setup.fake.script(PREDICT, 1, Act::Close);
    setup.client.predict(&dense::conforming()).await.ok();
    assert_eq!(setup.fake.count(PREDICT), 2);
    // A reset is an answer, and a partial answer is not retried.
    setup.fake.script(PREDICT, 1, Act::Reset(h2::Reason::INTERNAL_ERROR));
    assert_eq!(setup.client.predict(&dense::conforming()).await.code, 13);
    setup.fake.script(PREDICT, 1, Act::Break);
    assert!(
        !matches!(setup.client.try_call(Request::predict(&dense::conforming())).await, Ok(reply) if reply.code == 0)
    );
    assert_eq!(setup.fake.count(PREDICT), 4);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn slow_calls_do_not_block_requests_that_the_server_could_run() {
    let setup = setup(1000, |_| {}).await;
    let gate = setup.fake.hold(PREDICT, 60);
    let mut held = Vec::new();
    for _ in 0..60 {
        held.push(setup.client.stream(Request::predict(&dense::conforming())).await);
    }
    // Nothing is answered, and still all of them reach the server.
    setup.fake.called(PREDICT, 60).await;
    gate.open();
    for stream in held {
        stream.finish().await.unwrap().ok();
    }
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn classify_waits_in_the_same_queue_as_predict() {
    let setup = setup(8, fixed(1)).await;
    let gate = setup.fake.hold(PREDICT, 1);
    let held = setup.client.stream(Request::predict(&dense::conforming())).await;
    setup.fake.called(PREDICT, 1).await;
    let reply = setup
        .client
        .call(Request::new(CLASSIFY, b"\n\x05\n\x03mlp").timeout("50m").metadata("tfs-sidecar-mode", "off"))
        .await;
    assert_ne!(reply.code, 0, "{}", reply.text);
    assert_eq!(setup.fake.count(CLASSIFY), 0);
    gate.open();
    held.finish().await.unwrap().ok();
    setup.sidecar.stop().await;
}
