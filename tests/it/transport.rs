//! Sockets, stream limits, large messages and backpressure.
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use prost::bytes::Bytes;
use tfs_sidecar::config::ListenAddr;
use tokio::task::JoinSet;

use crate::support::client::{Client, Request};
use crate::support::dense::{self, CASE, INPUT};
use crate::support::fake_tfs::{FakeTfs, Options};
use crate::support::requests::{PREDICT, Predict, doubles, floats};
use crate::support::sidecar::{Setup, TestSidecar, config};

const ECHO: &str = "/test.Echo/Echo";

#[tokio::test]
async fn clients_may_connect_over_a_unix_socket() {
    let path = std::env::temp_dir().join(format!("tfs-sidecar-path-{}.sock", std::process::id()));
    let listen = path.clone();
    let fake = FakeTfs::start([dense::model()]);
    let mut settings = config(fake.addr(), [dense::MODEL.to_owned()]);
    settings.listen = ListenAddr::Unix(listen);
    settings.listen_socket_mode = 0o660;
    let sidecar = TestSidecar::start(settings);
    sidecar.ready().await;
    let client = Client::connect(&format!("unix://{}", path.display())).await;
    client.predict(&dense::conforming()).await.ok();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    drop(client);
    sidecar.stop().await;
    assert!(!path.exists(), "the listener removes the file of its socket");
}

#[tokio::test]
async fn the_upstream_may_listen_on_a_unix_socket() {
    let directory = std::env::temp_dir().join(format!("tfs-sidecar-it-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let options = Options { unix: Some(directory.join("tfs.sock")), ..Default::default() };
    let fake = FakeTfs::start_with(options, [dense::model()]);
    let setup = Setup::before(fake, vec![dense::MODEL.into()], |_| {}).await;
    setup.client.predict(&dense::conforming()).await.ok();
    setup.sidecar.stop().await;
    drop(setup.fake);
    std::fs::remove_dir_all(&directory).unwrap();
}

#[tokio::test]
async fn calls_wait_while_the_server_allows_only_one_stream_at_a_time() {
    let options = Options { max_concurrent_streams: Some(1), ..Default::default() };
    let fake = FakeTfs::start_with(options, [dense::model()]);
    let setup =
        Setup::before(fake, vec![dense::MODEL.into()], |config| config.upstream_connections = 2).await;
    let mut calls = JoinSet::new();
    for _ in 0..4 {
        let client = std::sync::Arc::new(setup.sidecar.client().await);
        for _ in 0..16 {
            let client = client.clone();
            calls.spawn(async move { client.predict(&dense::conforming()).await.ok().message });
        }
    }
    let answers = calls.join_all().await;
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert_eq!(setup.fake.count(PREDICT), 64);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_large_message_is_repaired_without_losing_a_value() {
    const ROWS: usize = 600;
    let setup = Setup::new([dense::model()]).await;
    let values: Vec<f32> = CASE.input_tensor.iter().copied().cycle().take(ROWS * 128).collect();
    let shape = [ROWS as i64, 128];
    let conforming = Predict::new(dense::MODEL).input(INPUT, floats(&shape, &values)).bytes();
    let wide = Predict::new(dense::MODEL).input(INPUT, doubles(&shape, &values)).bytes();
    setup.client.call(Request::predict(&conforming).chunks(10_000)).await.ok();
    let reply = setup.client.call(Request::predict(&wide).chunks(10_000)).await.ok();
    assert_eq!(reply.repairs(), [format!("{INPUT};cast_round;double->float lossy")]);
    let calls = setup.fake.calls_of(PREDICT);
    assert_eq!(calls[1].message, calls[0].message);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_only_its_own_stream() {
    /// Far more than all flow-control windows together.
    const MANY: usize = 256 << 20;
    let options = Options { echoes: vec![ECHO.into()], ..Default::default() };
    let fake = FakeTfs::start_with(options, [dense::model()]);
    let setup = Setup::before(fake, vec![dense::MODEL.into()], |_| {}).await;
    let mut stuck = setup.client.stream(Request::raw(ECHO, Bytes::new())).await;
    let message = vec![7; 1 << 20];
    let mut sent = 0;
    // The client reads nothing, so at some point no more is accepted.
    while sent < MANY {
        match tokio::time::timeout(Duration::from_millis(400), stuck.message(&message)).await {
            Ok(()) => sent += message.len(),
            Err(_) => break,
        }
    }
    assert!(sent < 96 << 20, "{sent} bytes were accepted from a client that reads none");
    let other = setup.sidecar.client().await;
    for _ in 0..10 {
        other.predict(&dense::conforming()).await.ok();
    }
    // Once it reads, it gets everything.
    for _ in 0..sent / message.len() {
        assert_eq!(stuck.next().await.unwrap().unwrap().len(), message.len());
    }
    stuck.cancel();
    setup.sidecar.stop().await;
}
