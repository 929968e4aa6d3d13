//! Failures of TensorFlow Serving: it is absent, dies, closes connections, or answers only in part.
use tfs_sidecar::config::UpstreamConcurrency;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::support::client::{Client, Reply, Request};
use crate::support::dense;
use crate::support::fake_tfs::{Act, FakeTfs, Options};
use crate::support::requests::PREDICT;
use crate::support::sidecar::{self, Setup, TestSidecar, until, watch};

/// Retries until the upstream is reached again, and waits for a new connection after each refusal.
async fn recovered(fake: &FakeTfs, client: &Client) -> Reply {
    loop {
        let seen = fake.connections().accepted;
        let reply = client.predict(&dense::conforming()).await;
        if reply.code != 14 {
            return reply;
        }
        fake.until_connections("another connection to the upstream", |all| all.accepted > seen).await;
    }
}

#[tokio::test]
async fn the_sidecar_starts_without_an_upstream_and_becomes_ready_with_it() {
    let mut fake = FakeTfs::absent(Options::default(), [dense::model()]);
    let sidecar = TestSidecar::start(sidecar::config(fake.addr(), [dense::MODEL.to_owned()]));
    assert_eq!(sidecar.page("/livez").await.status, 200);
    assert_eq!(sidecar.page("/readyz").await.status, 503);
    let client = sidecar.client().await;
    let mut health = watch(&client, "").await;
    until(&mut health, ServingStatus::NotServing).await;
    let reply = client.predict(&dense::conforming()).await;
    assert_eq!((reply.code, reply.reason().as_str()), (14, "UPSTREAM_UNAVAILABLE"), "{}", reply.text);

    fake.restart();
    until(&mut health, ServingStatus::Serving).await;
    assert_eq!(sidecar.page("/readyz").await.status, 200);
    assert_eq!(recovered(&fake, &client).await.code, 0);
    sidecar.stop().await;
}

#[tokio::test]
async fn an_upstream_that_dies_and_returns_is_used_again() {
    let mut setup = Setup::new([dense::model()]).await;
    setup.client.predict(&dense::conforming()).await.ok();
    for _ in 0..3 {
        setup.fake.stop();
        let reply = setup.client.predict(&dense::conforming()).await;
        assert_eq!((reply.code, reply.reason().as_str()), (14, "UPSTREAM_UNAVAILABLE"), "{}", reply.text);
        setup.fake.restart();
        assert_eq!(recovered(&setup.fake, &setup.client).await.code, 0);
    }
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_call_that_loses_every_connection_is_unavailable() {
    let setup = Setup::new([dense::model()]).await;
    // More often than the sidecar retries.
    setup.fake.script(PREDICT, 5, Act::Close);
    let reply = setup.client.predict(&dense::conforming()).await;
    assert_eq!(reply.code, 14, "{}", reply.text);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_partial_answer_is_an_error() {
    let setup = Setup::new([dense::model()]).await;
    setup.fake.script(PREDICT, 1, Act::Break);
    // A reset stream or a gRPC error, but never OK.
    if let Ok(reply) = setup.client.try_call(Request::predict(&dense::conforming())).await {
        assert!(reply.code > 0, "{reply:?}");
    }
    setup.client.predict(&dense::conforming()).await.ok();
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn goaway_loses_no_request() {
    let setup = Setup::new([dense::model()]).await;
    let before = setup.fake.connections().accepted;
    for _ in 0..5 {
        setup.fake.script(PREDICT, 1, Act::GoAway);
        setup.client.predict(&dense::conforming()).await.ok();
        setup.client.predict(&dense::conforming()).await.ok();
    }
    assert!(setup.fake.connections().accepted > before);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn without_a_limit_the_overload_error_of_the_server_reaches_the_client() {
    let options = Options { max_threads: Some(1), ..Default::default() };
    let fake = FakeTfs::start_with(options, [dense::model()]);
    // Metadata polls would take the only thread.
    let long = std::time::Duration::from_secs(3600);
    let setup = Setup::before(fake, vec![dense::MODEL.into()], |config| {
        config.poll_interval = long;
        config.upstream_concurrency = UpstreamConcurrency::Off;
    })
    .await;
    let gate = setup.fake.hold(PREDICT, 1);
    let held = setup.client.stream(Request::predict(&dense::conforming())).await;
    setup.fake.called(PREDICT, 1).await;
    let reply = setup.client.predict(&dense::conforming()).await;
    assert_eq!(reply.code, 8);
    assert!(reply.text.starts_with("Server Threadpool Exhausted [tfs-sidecar: "), "{}", reply.text);
    gate.open();
    held.finish().await.unwrap().ok();
    setup.sidecar.stop().await;
}
