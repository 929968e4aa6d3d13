//! Messages that take long to check or much memory to repair: they neither hold up other requests
//! nor take more than the limits.
use std::time::{Duration, Instant};

use prost::bytes::Bytes;

use crate::support::client::Request;
use crate::support::dense::{self, INPUT};
use crate::support::fake_tfs::model::{Model, Sig};
use crate::support::requests::{FLOAT, PREDICT, Predict, content, floats, int64s};
use crate::support::sidecar::Setup;

const INT8: i32 = 6;

/// A model `wide` that takes floats of any number.
fn wide() -> Model {
    Model::new("wide").version(1, [Sig::new("serving_default").input("x", FLOAT, &[-1])])
}

/// `count` integers for it, a byte each, which are cast to floats.
fn bytes(count: usize) -> Bytes {
    Predict::new("wide").input("x", content(INT8, &[count as i64], vec![1; count])).bytes()
}

/// Calls with a small message, over and over, while `long` is refused. Returns how long the slowest
/// of them took, and the long one.
async fn beside(setup: &Setup, long: Request) -> (Duration, Duration) {
    let other = setup.sidecar.client().await;
    let long = async {
        let since = Instant::now();
        let reply = setup.client.call(long).await;
        assert_eq!(reply.code, 3, "{}", reply.text);
        since.elapsed()
    };
    tokio::pin!(long);
    let mut slowest = Duration::ZERO;
    loop {
        let since = Instant::now();
        let short = async { other.predict(&dense::conforming()).await.ok() };
        tokio::select! {
            took = &mut long => return (slowest, took),
            _ = short => slowest = slowest.max(since.elapsed()),
        }
    }
}

#[tokio::test]
async fn a_long_scan_does_not_hold_up_other_requests() {
    let setup = Setup::new([dense::model(), wide()]).await;
    // Fields that no request has, of two bytes each, and half a field at the end.
    let fields = [dense::conforming().to_vec(), [0x78, 1].repeat(2_000_000), vec![0x78]].concat();
    // Compressed, so that it arrives at once and the time is that of the sidecar.
    let (slowest, long) = beside(&setup, Request::gzip(PREDICT, &fields)).await;
    assert!(slowest * 3 < long, "{slowest:?} beside a request of {long:?}");
    // A packed list whose last value cannot be cast.
    let count = 1_000_000;
    let mut values = vec![1; count];
    values[count - 1] = i64::MAX;
    let list = Predict::new("wide").input("x", int64s(&[count as i64], &values)).bytes();
    let (slowest, long) = beside(&setup, Request::gzip(PREDICT, &list)).await;
    assert!(slowest * 3 < long, "{slowest:?} beside a request of {long:?}");
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_deadline_is_answered_while_the_message_is_checked() {
    let setup = Setup::new([dense::model()]).await;
    let message = [dense::conforming().to_vec(), [0x78, 1].repeat(2_000_000), vec![0x78]].concat();
    let message = Request::gzip(PREDICT, &message);
    let since = Instant::now();
    assert_eq!(setup.client.call(message.clone()).await.code, 3);
    let took = since.elapsed();
    let since = Instant::now();
    let reply = setup.client.call(message.timeout(&format!("{}m", took.as_millis() / 4))).await;
    assert_eq!(reply.code, 4, "{}", reply.text);
    assert!(since.elapsed() * 2 < took, "{:?} of {took:?}", since.elapsed());
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn tiny_frames_change_neither_the_answer_nor_what_is_forwarded() {
    let setup = Setup::new([dense::model()]).await;
    let rows = 20;
    let values: Vec<f32> = (0..rows * 128).map(|at| (at % 7) as f32).collect();
    let message = Predict::new(dense::MODEL).input(INPUT, floats(&[rows, 128], &values)).bytes();
    let whole = setup.client.predict(&message).await.ok();
    let tiny = setup.client.call(Request::predict(&message).chunks(1)).await.ok();
    assert_eq!(whole.message, tiny.message);
    let calls = setup.fake.calls_of(PREDICT);
    assert_eq!(calls[0].body, calls[1].body);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_message_that_decompresses_above_the_bytes_in_flight_is_refused_even_if_it_is_alone() {
    let limit = 8 << 20;
    let setup = Setup::with([dense::model()], |config| config.limits.max_inflight_bytes = limit).await;
    let bomb = vec![0; 40 << 20];
    let reply = setup.client.call(Request::gzip(PREDICT, &bomb)).await;
    assert_eq!((reply.code, reply.reason().as_str()), (8, "TOO_LARGE"), "{}", reply.text);
    assert!(reply.text.contains("limits.max_inflight_bytes"), "{}", reply.text);
    // It stopped at the limit, not at the end of the message.
    let size: u64 = reply.text.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
    assert!(size < limit + (2 << 20), "{}", reply.text);
    setup.client.call(Request::gzip(PREDICT, &dense::conforming())).await.ok();
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_repair_is_refused_if_its_output_exceeds_the_bytes_in_flight() {
    let setup = Setup::with([wide()], |config| config.limits.max_inflight_bytes = 8 << 20).await;
    setup.client.predict(&bytes(1 << 20)).await.ok();
    let reply = setup.client.predict(&bytes(2 << 20)).await;
    assert_eq!((reply.code, reply.reason().as_str()), (8, "TOO_LARGE"), "{}", reply.text);
    assert!(reply.text.contains("limits.max_inflight_bytes"), "{}", reply.text);
    // What was charged for a request is released with it.
    for _ in 0..10 {
        setup.client.predict(&bytes(1 << 20)).await.ok();
    }
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_repaired_message_above_the_limit_on_messages_is_not_sent() {
    let setup = Setup::with([wide()], |config| config.limits.max_message_bytes = 10_000).await;
    setup.client.predict(&bytes(2_400)).await.ok();
    let reply = setup.client.predict(&bytes(2_500)).await;
    assert_eq!((reply.code, reply.reason().as_str()), (8, "TOO_LARGE"), "{}", reply.text);
    assert!(reply.text.contains("the repaired message"), "{}", reply.text);
    assert_eq!(setup.fake.count(PREDICT), 1);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn many_inputs_of_few_bytes_are_charged_for_the_memory_that_they_take() {
    // 3 bytes in the message, and some hundred in the view of it.
    let inputs: Vec<u8> = (0..16_000_u32)
        .flat_map(|at| [&[0x12, 7, 0x0a, 5][..], format!("{at:05}").as_bytes()].concat())
        .collect();
    let message = [&[0x0a, 6, 0x0a, 4][..], b"wide", &inputs].concat();
    let setup = Setup::with([wide()], |config| config.limits.max_inflight_bytes = 2 << 20).await;
    let reply = setup.client.predict(&message).await;
    assert_eq!((reply.code, reply.reason().as_str()), (8, "TOO_LARGE"), "{}", reply.text);
    setup.sidecar.stop().await;
}
