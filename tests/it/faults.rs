//! What goes wrong around a request: no upstream, a dying one, deadlines, callers that leave, bytes
//! from strangers.
use prost::Message as _;
use prost::bytes::Bytes;
use tfs_sidecar::config::UpstreamConcurrency;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::support::client::{Client, Reply, Request};
use crate::support::dense::{self, CASE, INPUT};
use crate::support::fake_tfs::{Act, Call, End, FakeTfs, Options};
use crate::support::requests::{FLOAT, PREDICT, Predict, content, field, floats, number_field, varint};
use crate::support::sidecar::{self, Setup, TestSidecar, until, watch};

fn good() -> Bytes {
    Predict::new(dense::MODEL).input(INPUT, floats(&[1, 128], &CASE.input_tensor)).bytes()
}

/// Asks until the upstream is reached again; each refusal is followed by a wait for another
/// connection to be accepted.
async fn healed(fake: &FakeTfs, client: &Client) -> Reply {
    loop {
        let seen = fake.connections().accepted;
        let reply = client.predict(&good()).await;
        if reply.code != 14 {
            return reply;
        }
        fake.until_connections("another connection to the upstream", |all| all.accepted > seen).await;
    }
}

#[tokio::test]
async fn starts_without_an_upstream_and_heals() {
    let mut fake = FakeTfs::absent(Options::default(), [dense::model()]);
    let sidecar = TestSidecar::start(sidecar::config(fake.addr(), [dense::MODEL.to_owned()]));
    assert_eq!(sidecar.page("/livez").await.status, 200);
    assert_eq!(sidecar.page("/readyz").await.status, 503);
    let client = sidecar.client().await;
    let mut health = watch(&client, "").await;
    until(&mut health, ServingStatus::NotServing).await;
    let reply = client.predict(&good()).await;
    assert_eq!((reply.code, reply.reason().as_str()), (14, "UPSTREAM_UNAVAILABLE"), "{}", reply.text);

    fake.restart();
    until(&mut health, ServingStatus::Serving).await;
    assert_eq!(sidecar.page("/readyz").await.status, 200);
    assert_eq!(healed(&fake, &client).await.code, 0);
    sidecar.stop().await;
}

#[tokio::test]
async fn an_upstream_that_dies_and_returns_is_used_again() {
    let mut setup = Setup::new([dense::model()]).await;
    setup.client.predict(&good()).await.ok();
    for _ in 0..3 {
        setup.fake.stop();
        let reply = setup.client.predict(&good()).await;
        assert_eq!((reply.code, reply.reason().as_str()), (14, "UPSTREAM_UNAVAILABLE"), "{}", reply.text);
        setup.fake.restart();
        assert_eq!(healed(&setup.fake, &setup.client).await.code, 0);
    }
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_connection_that_ends_under_a_call_is_unavailable() {
    let setup = Setup::new([dense::model()]).await;
    // As often as a careful client may retry, and more.
    setup.fake.script(PREDICT, 5, Act::Close);
    let reply = setup.client.predict(&good()).await;
    assert_eq!(reply.code, 14, "{}", reply.text);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_broken_answer_is_an_error_not_an_answer() {
    let setup = Setup::new([dense::model()]).await;
    setup.fake.script(PREDICT, 1, Act::Break);
    // A broken stream or a gRPC error: never OK with half a message.
    if let Ok(reply) = setup.client.try_call(Request::predict(&good())).await {
        assert!(reply.code > 0, "{reply:?}");
    }
    setup.client.predict(&good()).await.ok();
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn goaway_loses_no_request() {
    let setup = Setup::new([dense::model()]).await;
    let before = setup.fake.connections().accepted;
    for _ in 0..5 {
        setup.fake.script(PREDICT, 1, Act::GoAway);
        setup.client.predict(&good()).await.ok();
        setup.client.predict(&good()).await.ok();
    }
    assert!(setup.fake.connections().accepted > before);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn an_exhausted_server_says_so_itself() {
    let options = Options { max_threads: Some(1), ..Default::default() };
    let fake = FakeTfs::start_with(options, [dense::model()]);
    // Polls would take the only thread.
    let long = std::time::Duration::from_secs(3600);
    let setup = Setup::before(fake, vec![dense::MODEL.into()], |config| {
        config.poll_interval = long;
        config.upstream_concurrency = UpstreamConcurrency::Off;
    })
    .await;
    let gate = setup.fake.hold(PREDICT, 1);
    let held = setup.client.stream(Request::predict(&good())).await;
    setup.fake.called(PREDICT, 1).await;
    let reply = setup.client.predict(&good()).await;
    assert_eq!(reply.code, 8);
    assert!(reply.text.starts_with("Server Threadpool Exhausted [tfs-sidecar: "), "{}", reply.text);
    gate.open();
    held.finish().await.unwrap().ok();
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_deadline_ends_the_call_on_both_sides() {
    let setup = Setup::new([dense::model()]).await;
    let gate = setup.fake.hold(PREDICT, 1);
    let reply = setup.client.call(Request::predict(&good()).timeout("200m")).await;
    assert_eq!(reply.code, 4, "{}", reply.text);
    let ended = |calls: &[Call]| calls.iter().any(|call| call.path == PREDICT && call.end != End::Open);
    setup.fake.until("the end of the call at the upstream", ended).await;
    let call = setup.fake.only(PREDICT);
    assert!(matches!(call.end, End::Cancelled(_)), "{:?}", call.end);
    let passed = milliseconds(call.headers["grpc-timeout"].to_str().unwrap());
    assert!(passed <= 200.0, "{passed} ms of 200");
    gate.open();
    setup.sidecar.stop().await;
}

fn milliseconds(timeout: &str) -> f64 {
    let (number, unit) = timeout.split_at(timeout.len() - 1);
    let factor = match unit {
        "H" => 3.6e6,
        "M" => 6e4,
        "S" => 1e3,
        "m" => 1.0,
        "u" => 1e-3,
        "n" => 1e-6,
        _ => panic!("the unit of {timeout}"),
    };
    number.parse::<f64>().unwrap() * factor
}

#[tokio::test]
async fn a_deadline_that_is_over_never_reaches_the_server() {
    let setup = Setup::new([dense::model()]).await;
    for timeout in ["0m", "1n"] {
        let reply = setup.client.call(Request::predict(&good()).timeout(timeout)).await;
        assert_eq!(reply.code, 4, "{timeout}: {}", reply.text);
    }
    assert_eq!(setup.fake.count(PREDICT), 0);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_caller_that_leaves_is_noticed_upstream() {
    let setup = Setup::new([dense::model()]).await;
    let gate = setup.fake.hold(PREDICT, 2);
    let flat = Predict::new(dense::MODEL).input(INPUT, floats(&[128], &CASE.input_tensor)).bytes();
    for (at, message) in [good(), flat].iter().enumerate() {
        let stream = setup.client.stream(Request::predict(message)).await;
        setup.fake.called(PREDICT, at + 1).await;
        stream.cancel();
        let cancelled = |calls: &[Call]| {
            calls
                .iter()
                .filter(|call| call.path == PREDICT && call.end == End::Cancelled(Some(h2::Reason::CANCEL)))
                .count()
        };
        setup.fake.until("RST_STREAM at the upstream", |calls| cancelled(calls) == at + 1).await;
    }
    gate.open();
    setup.client.predict(&good()).await.ok();
    setup.sidecar.stop().await;
}

/// Bodies and messages that no client means.
fn hostile() -> Vec<(&'static str, Bytes)> {
    let framed = |message: &[u8]| {
        let mut body = vec![0];
        body.extend((message.len() as u32).to_be_bytes());
        body.extend(message);
        Bytes::from(body)
    };
    let good = good();
    let entry = |tensor: &[u8]| {
        [field(1, &field(1, b"mlp")), field(2, &[field(1, INPUT.as_bytes()), field(2, tensor)].concat())]
            .concat()
    };
    let mut nested = Vec::new();
    for _ in 0..10_000 {
        nested = field(2, &nested);
    }
    let mut long = vec![0x0a];
    varint(u64::MAX, &mut long);
    let huge = content(FLOAT, &[1 << 31, 1 << 31], Bytes::new()).encode_to_vec();
    let overflow = content(FLOAT, &[1 << 62, 1 << 62, 0], Bytes::new()).encode_to_vec();
    vec![
        ("noise", framed(&(0..=255).rev().collect::<Vec<u8>>())),
        ("a message cut short", framed(&good[..good.len() - 7])),
        ("a length beyond 64 bits of sense", framed(&long)),
        ("a varint that does not end", framed(&[0xff; 40])),
        ("deep nesting", framed(&nested)),
        ("groups that do not end", framed(&[0x0b; 10_000])),
        ("field number 0", framed(&number_field(0, 1))),
        (
            "a name that is no UTF-8",
            framed(&[field(1, &field(1, &[0xff, 0xfe])), good[..].to_vec()].concat()),
        ),
        ("2^31 x 2^31 floats", framed(&entry(&huge))),
        ("a product that overflows before a zero", framed(&entry(&overflow))),
        ("dtype 77", framed(&entry(&content(77, &[1, 128], Bytes::new()).encode_to_vec()))),
        ("300 axes", framed(&entry(&floats(&[1; 300], &[0.0]).encode_to_vec()))),
    ]
}

#[tokio::test]
async fn bytes_from_strangers_are_refused_and_survived() {
    let setup = Setup::new([dense::model()]).await;
    for (what, body) in hostile() {
        for chunk in [usize::MAX, 3] {
            let reply = setup.client.call(Request::raw(PREDICT, body.clone()).chunks(chunk)).await;
            assert_eq!(reply.code, 3, "{what}: {}", reply.text);
            assert!(reply.text.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{what}: {:?}", reply.text);
            setup.client.predict(&good()).await.ok();
        }
    }
    let good_calls = hostile().len() * 2;
    assert_eq!(setup.fake.count(PREDICT), good_calls, "nothing hostile is forwarded");
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn bodies_that_are_no_grpc_message_are_survived() {
    let setup = Setup::new([dense::model()]).await;
    let whole = [&[0, 0, 0, 0, good().len() as u8][..], &good()].concat();
    for (what, body) in [
        ("no body", Bytes::new()),
        ("half a prefix", Bytes::from_static(&[0, 0, 0])),
        ("a message that never comes", Bytes::from_static(&[0, 0, 0, 0, 9])),
        ("more than the prefix says", Bytes::from(whole)),
        ("compressed, but by what", Bytes::from_static(&[1, 0, 0, 0, 2, 8, 1])),
        ("a prefix of four gigabytes", Bytes::from_static(&[0, 255, 255, 255, 255, 1])),
        ("a flag that does not exist", Bytes::from_static(&[9, 0, 0, 0, 1, 8])),
    ] {
        if let Ok(reply) = setup.client.try_call(Request::raw(PREDICT, body)).await {
            assert!(reply.code > 0, "{what}: {reply:?}");
        }
        setup.client.predict(&good()).await.ok();
    }
    setup.sidecar.stop().await;
}
