//! Limits on sizes and counts, and requests that are known to block or crash TensorFlow Serving.
use prost::bytes::Bytes;

use crate::support::client::Request;
use crate::support::dense::{self, INPUT};
use crate::support::requests::{PREDICT, Predict, float_list, floats};
use crate::support::sidecar::Setup;

fn rows(count: i64) -> Bytes {
    Predict::new(dense::MODEL).input(INPUT, floats(&[count, 128], &vec![0.0; 128 * count as usize])).bytes()
}

#[tokio::test]
async fn a_message_above_the_limit_is_too_large() {
    let setup = Setup::with([dense::model()], |config| config.limits.max_message_bytes = 10_000).await;
    setup.client.predict(&dense::conforming()).await.ok();
    for chunk in [usize::MAX, 1000] {
        let reply = setup.client.call(Request::predict(&rows(64)).chunks(chunk)).await;
        assert_eq!((reply.code, reply.reason().as_str()), (8, "TOO_LARGE"), "{}", reply.text);
    }
    // The prefix announces the length, so the request is refused before its message arrives.
    let reply = setup.client.call(Request::raw(PREDICT, vec![0, 0x7f, 0xff, 0xff, 0xff]).unfinished()).await;
    assert_eq!((reply.code, reply.reason().as_str()), (8, "TOO_LARGE"), "{}", reply.text);
    setup.client.predict(&dense::conforming()).await.ok();
    assert_eq!(setup.fake.count(PREDICT), 2);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_message_that_decompresses_above_the_limit_is_too_large() {
    let setup = Setup::with([dense::model()], |config| config.limits.max_message_bytes = 10_000).await;
    // 50 MB of zeros compress to about 50 kB, above the limit; 1 MB compresses to a few kB, below
    // it.
    for count in [2_000, 100_000] {
        let reply = setup.client.call(Request::gzip(PREDICT, &rows(count))).await;
        assert_eq!((reply.code, reply.reason().as_str()), (8, "TOO_LARGE"), "{}", reply.text);
    }
    setup.client.call(Request::gzip(PREDICT, &dense::conforming())).await.ok();
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn too_many_requests_in_flight_are_refused_at_once() {
    let setup = Setup::with([dense::model()], |config| config.limits.max_inflight_requests = 2).await;
    let gate = setup.fake.hold(PREDICT, 2);
    let first = setup.client.stream(Request::predict(&dense::conforming())).await;
    let second = setup.client.stream(Request::predict(&dense::conforming())).await;
    setup.fake.called(PREDICT, 2).await;
    let reply = setup.client.predict(&dense::conforming()).await;
    assert_eq!((reply.code, reply.reason().as_str()), (8, "QUEUE_FULL"), "{}", reply.text);
    gate.open();
    for held in [first, second] {
        held.finish().await.unwrap().ok();
    }
    setup.client.predict(&dense::conforming()).await.ok();
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn bytes_in_flight_are_limited_and_released() {
    let setup = Setup::with([dense::model()], |config| config.limits.max_inflight_bytes = 1_000).await;
    let gate = setup.fake.hold(PREDICT, 1);
    let held = setup.client.stream(Request::predict(&dense::conforming())).await;
    setup.fake.called(PREDICT, 1).await;
    let reply = setup.client.predict(&dense::conforming()).await;
    assert_eq!((reply.code, reply.reason().as_str()), (8, "QUEUE_FULL"), "{}", reply.text);
    gate.open();
    held.finish().await.unwrap().ok();
    for _ in 0..5 {
        setup.client.predict(&dense::conforming()).await.ok();
    }
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_small_message_that_claims_a_large_tensor_is_refused() {
    let setup = Setup::with([dense::model()], |config| config.limits.max_elements = 1 << 10).await;
    let claim = Predict::new(dense::MODEL).input(INPUT, float_list(&[1 << 4, 128], &[0.5])).bytes();
    let reply = setup.client.predict(&claim).await;
    assert_eq!((reply.code, reply.reason().as_str()), (8, "TOO_LARGE"), "{}", reply.text);
    assert_eq!(setup.fake.count(PREDICT), 0);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn zero_rows_are_forwarded_unless_the_server_batches() {
    let empty = Predict::new(dense::MODEL).input(INPUT, floats(&[0, 128], &[])).bytes();
    let setup = Setup::new([dense::model()]).await;
    setup.client.predict(&empty).await.ok();
    setup.sidecar.stop().await;

    let setup = Setup::with([dense::model()], |config| config.server_batching = true).await;
    let reply = setup.client.predict(&empty).await;
    assert_eq!(reply.code, 3, "{}", reply.text);
    assert_eq!(setup.fake.count(PREDICT), 0);
    setup.client.predict(&dense::conforming()).await.ok();
    setup.sidecar.stop().await;
}
