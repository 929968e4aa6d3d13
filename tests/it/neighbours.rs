//! What one client, one call or a hung server may not do to the calls of others.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::client::Request;
use crate::support::fake_tfs::{FakeTfs, Options};
use crate::support::relay::Relay;
use crate::support::requests::PREDICT;
use crate::support::sidecar::{self, Setup, TestSidecar};
use crate::support::{WATCHDOG, dense, within};

const STATUS: &str = "/tensorflow.serving.ModelService/GetModelStatus";
const ENDED: &str = "tfs_sidecar_connections_ended_total";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![a, b, c, kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

#[tokio::test]
async fn metadata_that_the_server_does_not_accept_is_refused_before_it_reaches_the_server() {
    let options = Options { max_header_list_size: Some(8 << 10), ..Default::default() };
    let fake = FakeTfs::start_with(options, [dense::model()]);
    let setup = Setup::before(fake, vec![dense::MODEL.into()], |_| {}).await;
    let gate = setup.fake.hold(PREDICT, 1);
    let held = setup.sidecar.client().await;
    let held = tokio::spawn(async move { held.predict(&dense::conforming()).await });
    setup.fake.called(PREDICT, 1).await;
    for _ in 0..20 {
        let request = Request::predict(&dense::conforming()).metadata("token", &"x".repeat(9_000));
        let reply = setup.client.call(request).await;
        assert_eq!(reply.code, 8, "{reply:?}");
        assert!(reply.text.starts_with("received metadata size exceeds hard limit ("), "{}", reply.text);
        assert!(reply.text.contains(" vs. 8192)"), "{}", reply.text);
    }
    assert_eq!(setup.fake.count(PREDICT), 1, "none arrived");
    let request = Request::predict(&dense::conforming()).metadata("token", &"x".repeat(7_000));
    gate.open();
    setup.client.call(request).await.ok();
    held.await.unwrap().ok();
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_stopped_server_is_noticed_and_calls_that_wait_for_it_fail() {
    let fake = FakeTfs::start([dense::model()]);
    let relay = Relay::start(fake.addr()).await;
    let sidecar = TestSidecar::start(sidecar::config(relay.addr(), [dense::MODEL.to_owned()]));
    sidecar.ready().await;
    let client = sidecar.client().await;
    client.predict(&dense::conforming()).await.ok();

    let gate = fake.hold(PREDICT, 1);
    let waiting = tokio::spawn(async move { client.predict(&dense::conforming()).await });
    fake.called(PREDICT, 2).await;
    relay.freeze(true);
    // The call itself has no deadline.
    let reply = waiting.await.unwrap();
    assert_eq!((reply.code, reply.reason().as_str()), (14, "UPSTREAM_UNAVAILABLE"), "{}", reply.text);
    assert!(reply.text.contains("stopped answering"), "{}", reply.text);
    let page = sidecar.page("/readyz").await;
    assert_eq!(page.status, 503, "{}", page.body);
    assert!(page.body.contains("TF Serving"), "{}", page.body);

    relay.freeze(false);
    gate.open();
    sidecar.ready().await;
    sidecar.client().await.predict(&dense::conforming()).await.ok();
    sidecar.stop().await;
}

#[tokio::test]
async fn a_busy_server_that_answers_pings_keeps_its_connections() {
    let setup = Setup::new([dense::model()]).await;
    let accepted = setup.fake.connections().accepted;
    let (polls, gate) = (setup.fake.hold(STATUS, 1_000), setup.fake.hold(PREDICT, 1));
    let client = setup.sidecar.client().await;
    let waiting = tokio::spawn(async move { client.predict(&dense::conforming()).await });
    // A poll has failed: until then, the connections were checked twice.
    within("a poll that fails", async {
        while !setup.sidecar.page("/readyz").await.body.contains("does not answer") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    gate.open();
    waiting.await.unwrap().ok();
    assert_eq!(setup.fake.connections().accepted, accepted, "no connection was replaced");
    polls.open();
    setup.sidecar.stop().await;
}

/// The time of each of 60 calls.
async fn times(setup: &Setup) -> Vec<Duration> {
    let mut times = Vec::new();
    for _ in 0..60 {
        let start = Instant::now();
        setup.client.predict(&dense::conforming()).await.ok();
        times.push(start.elapsed());
    }
    times.sort();
    times
}

/// Sends `flood` as fast as it can, on a new connection whenever one is ended.
fn flood_until(stop: &AtomicBool, addr: &str, flood: &[u8]) {
    let opened = frame(1, 4, 1, &[0x83, 0x86, 0x84, 0x01, 1, b'h']);
    let piece = flood.repeat(2_000);
    let mut buffer = vec![0; 64 << 10];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        while !stop.load(Ordering::Relaxed) {
            let mut socket = TcpStream::connect(addr).await.unwrap();
            let mut sent = socket.write_all(&[PREFACE, &opened].concat()).await;
            while sent.is_ok() && !stop.load(Ordering::Relaxed) {
                // Room for the answers of the server, which it may wait for.
                socket.try_read(&mut buffer).ok();
                sent = socket.write_all(&piece).await;
            }
        }
    });
}

#[tokio::test]
async fn floods_of_frames_leave_the_calls_of_another_connection_alone() {
    let setup = Setup::with([dense::model()], |config| config.workers = 1).await;
    let floods = [
        ("PRIORITY", frame(2, 0, 1, &[0; 5])),
        ("WINDOW_UPDATE", frame(8, 0, 0, &[0, 0, 0, 1])),
        ("unknown frames", frame(0xbe, 0, 0, b"")),
        ("empty DATA", frame(0, 0, 1, b"")),
        ("PING", frame(6, 0, 0, &[0; 8])),
        ("SETTINGS", frame(4, 0, 0, b"")),
        ("RST_STREAM of idle streams", frame(3, 0, 99, &[0, 0, 0, 8])),
    ];
    for (name, flood) in floods {
        let refused = setup.sidecar.metrics().await.sum(ENDED, &[("cause", "control_frames")]);
        let stop = Arc::new(AtomicBool::new(false));
        let (running, addr) = (Arc::clone(&stop), setup.sidecar.grpc.clone());
        let flooding = std::thread::spawn(move || flood_until(&running, &addr, &flood));
        within("a flood that is refused", async {
            while setup.sidecar.metrics().await.sum(ENDED, &[("cause", "control_frames")]) <= refused {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let times = times(&setup).await;
        stop.store(true, Ordering::Relaxed);
        flooding.join().unwrap();
        let median = times[times.len() / 2];
        assert!(median < Duration::from_millis(150), "{name}: {median:?}");
    }
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn other_protocols_are_answered_with_a_word() {
    let setup = Setup::new([dense::model()]).await;
    for (sent, answer, cause) in [
        (&b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"[..], &b"HTTP/1.1 400 "[..], "http1"),
        (&[22, 3, 1, 0, 5, 1], &[21, 3, 1], "tls"),
    ] {
        let mut socket = TcpStream::connect(&setup.sidecar.grpc).await.unwrap();
        socket.write_all(sent).await.unwrap();
        let mut all = Vec::new();
        tokio::time::timeout(WATCHDOG, socket.read_to_end(&mut all)).await.unwrap().unwrap();
        assert!(all.starts_with(answer), "{}", String::from_utf8_lossy(&all));
        let count = setup.sidecar.metrics().await.sum(ENDED, &[("cause", cause)]);
        assert!(count >= 1.0, "{count} (other tests share the counter)");
    }
    setup.sidecar.stop().await;
}
