//! Limits on connections: their number, the time for a handshake, their age, on both listeners.
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::admin::{self, Metrics};
use crate::support::client::{Client, Request};
use crate::support::dense;
use crate::support::fake_tfs::FakeTfs;
use crate::support::process::Process;
use crate::support::raw::{PING, Raw};
use crate::support::requests::PREDICT;
use crate::support::sidecar::{Setup, TestSidecar};
use crate::support::within;

/// Waits until the other side closes the connection, or resets it because it left bytes unread.
async fn closes(mut socket: TcpStream) {
    within("the end of the connection", socket.read_to_end(&mut Vec::new())).await.ok();
}

/// Connects as soon as an earlier connection has ended.
async fn connected(sidecar: &TestSidecar) -> Client {
    within("a connection", async {
        loop {
            let Ok(client) = Client::try_connect(&sidecar.grpc).await else { continue };
            if client.try_call(Request::predict(&dense::conforming())).await.is_ok() {
                return client;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_connection_above_the_limit_is_closed_at_once() {
    let setup = Setup::with([dense::model()], |config| config.limits.max_connections = 2).await;
    let second = connected(&setup.sidecar).await;
    closes(TcpStream::connect(&setup.sidecar.grpc).await.unwrap()).await;
    setup.client.predict(&dense::conforming()).await.ok();
    let metrics = setup.sidecar.metrics().await;
    assert!(metrics.sum("tfs_sidecar_connections_refused_total", &[("limit", "all")]) >= 1.0);
    drop(second);
    connected(&setup.sidecar).await;
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_client_that_says_nothing_is_disconnected() {
    let setup = Setup::with([dense::model()], |config| {
        config.limits.handshake_timeout = Duration::from_millis(200);
    })
    .await;
    closes(TcpStream::connect(&setup.sidecar.grpc).await.unwrap()).await;
    let mut slow = TcpStream::connect(&setup.sidecar.grpc).await.unwrap();
    slow.write_all(b"PRI * HTTP/2").await.unwrap();
    closes(slow).await;
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn an_old_or_idle_connection_ends_and_its_requests_finish() {
    let setup = Setup::with([dense::model()], |config| {
        config.limits.max_connection_age = Duration::from_millis(300);
    })
    .await;
    let gate = setup.fake.hold(PREDICT, 1);
    let client = setup.sidecar.client().await;
    let held = client.stream(Request::predict(&dense::conforming())).await;
    setup.fake.called(PREDICT, 1).await;
    setup.client.closed().await;
    gate.open();
    held.finish().await.unwrap().ok();
    client.closed().await;
    setup.sidecar.stop().await;

    let setup = Setup::with([dense::model()], |config| {
        config.limits.connection_idle_timeout = Duration::from_millis(100);
    })
    .await;
    setup.client.closed().await;
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn slow_clients_of_the_admin_listener_do_not_keep_others_out() {
    let setup = Setup::with([dense::model()], |config| {
        config.limits.handshake_timeout = Duration::from_millis(500);
    })
    .await;
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut socket = TcpStream::connect(&setup.sidecar.admin).await.unwrap();
        socket.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n").await.unwrap();
        slow.push(socket);
        if slow.len() % 50 == 0 {
            assert_eq!(setup.sidecar.page("/livez").await.status, 200);
        }
    }
    assert_eq!(setup.sidecar.page("/metrics").await.status, 200);
    // The others are given up after a time.
    for socket in slow {
        closes(socket).await;
    }
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn descriptors_are_left_for_the_admin_listener_and_the_upstream() {
    let mut fake = FakeTfs::start([dense::model()]);
    let program = Process::with_descriptors(fake.addr(), "models: {mlp: {}}", Some(160));
    program.ready().await;
    let client = Client::connect(&program.grpc).await;
    client.predict(&dense::conforming()).await.ok();
    let mut many = Vec::new();
    for _ in 0..300 {
        many.push(TcpStream::connect(&program.grpc).await.unwrap());
    }
    let refused = || async {
        Metrics::read(&program.admin).await.sum("tfs_sidecar_connections_refused_total", &[("limit", "all")])
    };
    within("refused connections", async { while refused().await < 100.0 {} }).await;
    // A new connection to TF Serving needs a descriptor too.
    fake.stop();
    fake.restart();
    within("readiness", async { while admin::get(&program.admin, "/readyz").await.status != 200 {} }).await;
    within("an answer", async { while client.predict(&dense::conforming()).await.code != 0 {} }).await;
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_disconnected() {
    let setup = Setup::with([dense::model()], |config| {
        config.limits.keepalive_interval = Duration::from_millis(20);
        config.limits.keepalive_timeout = Duration::from_millis(50);
    })
    .await;
    let mut raw = Raw::connect(&setup.sidecar.grpc).await;
    for _ in 0..3 {
        let ping = raw.next(&[PING]).await.expect("the connection stays while PINGs are answered");
        raw.ack_ping(&ping.payload).await;
    }
    let unanswered = raw.next(&[PING]).await;
    assert!(unanswered.is_some());
    assert_eq!(raw.next(&[PING]).await, None);
    // A client that answers is not disturbed.
    setup.client.predict(&dense::conforming()).await.ok();
    setup.sidecar.stop().await;
}
