//! What an operator changes for some time: `/mode`, `/log`, and signals.
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Reloadable;
use crate::support::admin::{self, Page};
use crate::support::client::{Client, Request};
use crate::support::dense;
use crate::support::fake_tfs::FakeTfs;
use crate::support::process::Process;
use crate::support::within;

fn body(page: &Page) -> Value {
    serde_json::from_str(&page.body).unwrap_or_else(|_| panic!("{page:?}"))
}

async fn code(client: &Client) -> i32 {
    client.predict(&dense::flat()).await.code
}

#[tokio::test]
async fn a_mode_is_overridden_until_it_is_taken_back_even_over_a_reload() {
    let name = dense::MODEL;
    let live = Reloadable::new([dense::model()], "models: {mlp: {mode: strict}}\n").await;
    let client = live.sidecar.client().await;
    assert_eq!(code(&client).await, 3);
    let addr = live.sidecar.admin.clone();
    let mode = async |query: &str| admin::post(&addr, &format!("/mode?{query}")).await;

    let page = mode("model=mlp&mode=repair&for=30m").await;
    assert_eq!((page.status, &body(&page)["overrides"][0]["model"]), (200, &name.into()), "{page:?}");
    assert_eq!(code(&client).await, 0);
    let left = body(&page)["overrides"][0]["seconds_left"].as_u64().unwrap();
    assert!((1700..=1800).contains(&left), "{left}");
    assert_eq!(live.status().await["mode_overrides"][0]["mode"], "repair");
    let shown = [("model", name), ("mode", "repair")];
    let metrics = live.sidecar.metrics().await;
    assert_eq!(metrics.sum("tfs_sidecar_mode_override", &shown), 1.0);
    assert!(metrics.sum("tfs_sidecar_mode_overrides_total", &shown) >= 1.0);
    let models: Value = body(&live.sidecar.page("/api/models").await);
    assert_eq!(models[0]["mode"], "repair");

    // A client's own wish still only makes it stricter.
    let stricter = Request::predict(&dense::flat()).metadata("tfs-sidecar-mode", "strict");
    assert_eq!(client.call(stricter).await.code, 3);

    live.configure("models: {mlp: {mode: strict, small_ints: allow}}\n");
    live.until_configured("small_ints: allow").await;
    assert_eq!(code(&client).await, 0, "a reload does not end it");

    let page = mode("model=mlp&mode=configured").await;
    assert_eq!((page.status, body(&page)), (200, json!({"overrides": []})));
    assert_eq!(code(&client).await, 3);
    assert_eq!(live.sidecar.metrics().await.sum("tfs_sidecar_mode_override", &shown), 0.0);

    // Without a model, all of them.
    assert_eq!(mode("mode=observe").await.status, 200);
    assert_eq!(body(&live.sidecar.page("/mode").await)["overrides"][0]["model"], Value::Null);
    assert!(client.predict(&dense::flat()).await.text.contains("[128,64]"), "TensorFlow's own text");
    live.sidecar.stop().await;
}

#[tokio::test]
async fn a_mode_that_cannot_be_set_is_refused_with_the_reason() {
    let live = Reloadable::new([dense::model()], "models: {mlp: {mode: strict}}\n").await;
    for (query, reason) in [
        ("model=mlp&mode=loose", "expected one of `off`, `observe`, `repair`, `strict`, or `configured`"),
        ("model=nlp&mode=observe", "model 'nlp' is neither configured nor known"),
        ("mode=observe&for=25h", "at most 24 hours"),
        ("mode=observe&for=soon", "expected a time with its unit"),
        ("mode=observe&fro=1h", "unknown field `fro`"),
        ("model=mlp", "missing field `mode`"),
    ] {
        let page = admin::post(&live.sidecar.admin, &format!("/mode?{query}")).await;
        assert_eq!(page.status, 400, "{query}: {page:?}");
        assert!(page.body.contains(reason), "{query}: {page:?}");
    }
    assert_eq!(code(&live.sidecar.client().await).await, 3);
    live.sidecar.stop().await;
}

#[tokio::test]
async fn modes_and_filters_are_shown_to_everyone_and_changed_from_no_other_site() {
    let live = Reloadable::new([dense::model()], "models: {mlp: {mode: strict}}\n").await;
    for path in ["/mode?mode=off", "/log?filter=info"] {
        assert_eq!(live.sidecar.page(path).await.status, 200, "a GET only shows");
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\norigin: https://evil.example\r\nconnection: close\r\n\r\n",
            live.sidecar.admin
        );
        let mut socket = TcpStream::connect(&live.sidecar.admin).await.unwrap();
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        within("an answer", socket.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    }
    assert_eq!(code(&live.sidecar.client().await).await, 3);
    live.sidecar.stop().await;
}

#[tokio::test]
async fn the_log_filter_is_changed_while_the_process_runs() {
    let fake = FakeTfs::start([dense::model()]);
    let process = Process::start(fake.addr(), "log: info\nreload_interval: 20ms");
    process.ready().await;
    let client = Client::connect(&process.grpc).await;
    let fail = || Request::new("/tensorflow.serving.PredictionService/Predict", &[0xff]);
    client.call(fail()).await;
    assert!(!process.log().contains("request failed"), "{}", process.log());

    let wrong = admin::post(&process.admin, "/log?filter=inof").await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.body.contains("expected a log filter"), "{}", wrong.body);
    let page = admin::post(&process.admin, "/log?filter=tfs_sidecar%3Ddebug&for=1h").await;
    assert_eq!((page.status, &body(&page)["filter"]), (200, &"tfs_sidecar=debug".into()), "{page:?}");
    assert!(body(&page)["until"].is_string());
    client.call(fail()).await;
    process.logged("request failed").await;

    // The file changes what it returns to.
    process.configure("log: warn\nreload_interval: 20ms");
    process.logged("configuration reloaded").await;
    let page = admin::post(&process.admin, "/log?filter=configured").await;
    assert_eq!(body(&page), json!({"filter": "warn", "configured": "warn", "until": null}));
    let shown = admin::get(&process.admin, "/log").await;
    assert_eq!((shown.status, body(&shown)["filter"].clone()), (200, "warn".into()));
}

#[tokio::test]
async fn signals_reload_drain_and_stop() {
    let fake = FakeTfs::start([dense::model()]);
    let yaml = |mode: &str, delay: &str| {
        format!("defaults: {{mode: {mode}}}\nreload_interval: 0s\ndrain_delay: {delay}")
    };
    let process = Process::start(fake.addr(), &yaml("strict", "0s"));
    process.ready().await;
    let client = Client::connect(&process.grpc).await;
    assert_eq!(code(&client).await, 3);
    process.configure(&yaml("repair", "1h"));
    process.signal("HUP");
    process.logged("configuration reloaded").await;
    assert_eq!(code(&client).await, 0);

    // Not ready, but served until the delay is over, which is an hour.
    process.signal("TERM");
    process.logged("requests are still accepted").await;
    assert_eq!(admin::get(&process.admin, "/readyz").await.status, 503);
    assert_eq!(code(&client).await, 0);
    assert_eq!(code(&Client::connect(&process.grpc).await).await, 0, "a new connection");
    process.signal("TERM");
    assert_eq!(process.exit_code().await, Some(130));

    let process = Process::start(fake.addr(), &yaml("strict", "0s"));
    process.ready().await;
    process.signal("INT");
    assert_eq!(process.exit_code().await, Some(0));
}
