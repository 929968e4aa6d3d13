//! A changed configuration is applied at once, for whole requests, or refused whole.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use prost::bytes::Bytes;
use tokio::task::JoinSet;

use super::Reloadable;
use crate::support::admin::Metrics;
use crate::support::client::{Client, Request};
use crate::support::dense::{self, CASE, INPUT};
use crate::support::fake_tfs::FakeTfs;
use crate::support::framing::frame;
use crate::support::process::Process;
use crate::support::requests::{PREDICT, Predict, doubles, float_list};

/// A request is repaired in two places by one, and refused by the other for its rank. With a part
/// of each, it would be repaired in one place or refused for its values.
const GENEROUS: &str = "models: {mlp: {round_f64: allow}}\nserver_batching: off\n";
const NARROW: &str = "models: {mlp: {round_f64: refuse, rules: {add_batch_dim: off}}}\nserver_batching: on\n";

/// Its values are float64, and it lacks the batch dimension.
fn wrong_twice() -> Bytes {
    Predict::new(dense::MODEL).input(INPUT, doubles(&[128], &CASE.input_tensor)).bytes()
}

fn strict(text: &str) -> String {
    format!("models: {{mlp: {{mode: {text}}}}}\n")
}

async fn code(client: &Client) -> i32 {
    client.predict(&dense::flat()).await.code
}

#[tokio::test]
async fn reloads_under_load_lose_no_request_and_judge_each_by_one_configuration() {
    const SWAPS: usize = 20;
    const REQUESTS: usize = 2_000;
    let live = Reloadable::new([dense::model()], GENEROUS).await;
    let (done, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        let (client, done, sent) = (live.sidecar.client().await, Arc::clone(&done), Arc::clone(&sent));
        clients.spawn(async move {
            let (mut repaired, mut refused) = (0, 0);
            while !done.load(Ordering::Relaxed) {
                client.predict(&dense::conforming()).await.ok();
                let reply = client.predict(&wrong_twice()).await;
                sent.fetch_add(2, Ordering::Relaxed);
                match reply.code {
                    0 => {
                        assert_eq!(reply.repairs().len(), 2, "{:?}", reply.repairs());
                        repaired += 1;
                    }
                    3 => {
                        assert_eq!(reply.reason(), "RANK_TOO_LOW", "{}", reply.text);
                        refused += 1;
                    }
                    code => panic!("code {code}: {}", reply.text),
                }
            }
            (repaired, refused)
        });
    }
    let mut swap = 0;
    while swap < SWAPS || sent.load(Ordering::Relaxed) < REQUESTS {
        assert!(clients.try_join_next().is_none(), "a client has failed");
        swap += 1;
        let (yaml, shown) = match swap % 2 {
            0 => (GENEROUS, "server_batching: \"off\""),
            _ => (NARROW, "server_batching: \"on\""),
        };
        // By turns as kubelet does and as an editor does.
        if swap % 4 < 2 {
            let content = format!("{}{yaml}", live.common);
            std::fs::remove_file(live.folder.path("config.yaml")).unwrap();
            live.folder.replace_map(swap, &[("config.yaml", content.as_bytes())]);
        } else {
            live.configure(yaml);
        }
        live.until_configured(shown).await;
    }
    done.store(true, Ordering::Relaxed);
    let (repaired, refused) =
        clients.join_all().await.into_iter().fold((0, 0), |sum, each| (sum.0 + each.0, sum.1 + each.1));
    assert!(repaired > 0 && refused > 0, "{repaired} repaired, {refused} refused");
    assert_eq!(live.status().await["config"]["problem"], serde_json::Value::Null);
    live.sidecar.stop().await;
}

#[tokio::test]
async fn a_broken_file_is_refused_whole_and_the_configuration_before_stays_in_use() {
    let live = Reloadable::new([dense::model()], &strict("strict")).await;
    let client = live.sidecar.client().await;
    assert_eq!(code(&client).await, 3);
    live.configure("models: {mlp: {mode: repair}}\nworkers: 0\nlimits: {max_streams: many}\n");
    let status = live.until("the problems", |status| !status["problem"].is_null()).await;
    let problems: Vec<&str> = status["problem"].as_str().unwrap().lines().collect();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].contains("config.yaml:8:10: `workers`"), "{problems:?}");
    assert!(problems[1].contains("`limits.max_streams`"), "{problems:?}");
    assert_eq!(code(&client).await, 3, "the mode of the broken file is not used");
    assert_eq!(live.sidecar.metrics().await.sum("tfs_sidecar_config_refused", &[]), 1.0);

    live.configure(&strict("repair"));
    live.until("no problem", |status| status["problem"].is_null()).await;
    assert_eq!(code(&client).await, 0);
    let metrics = live.sidecar.metrics().await;
    for result in ["applied", "refused"] {
        assert!(metrics.sum("tfs_sidecar_config_reloads_total", &[("result", result)]) >= 1.0, "{result}");
    }
    live.sidecar.stop().await;
}

/// In a process of its own, because the sidecars of other tests share their metrics.
#[tokio::test]
async fn before_the_first_reload_the_metrics_say_that_nothing_is_refused() {
    let fake = FakeTfs::start([dense::model()]);
    let process = Process::start(fake.addr(), "");
    let text = Metrics::read(&process.admin).await.text().to_owned();
    assert!(text.contains("\ntfs_sidecar_config_refused 0\n"), "{text}");
}

#[tokio::test]
async fn a_file_that_is_gone_is_a_problem_until_it_is_back() {
    let live = Reloadable::new([dense::model()], &strict("strict")).await;
    let content = std::fs::read(live.folder.path("config.yaml")).unwrap();
    std::fs::remove_file(live.folder.path("config.yaml")).unwrap();
    let status = live.until("the problem", |status| !status["problem"].is_null()).await;
    assert!(status["problem"].as_str().unwrap().contains("No such file"), "{status}");
    assert_eq!(code(&live.sidecar.client().await).await, 3);
    live.folder.replace("config.yaml", &content);
    live.until("no problem", |status| status["problem"].is_null()).await;
    live.sidecar.stop().await;
}

#[tokio::test]
async fn keys_that_need_a_restart_are_named_and_the_others_applied() {
    let live = Reloadable::new([dense::model()], &strict("strict")).await;
    let client = live.sidecar.client().await;
    live.configure(&format!("{}workers: 7\nmax_clients: 9\nlog_format: json\n", strict("repair")));
    let status = live.until("the keys", |status| status["needs_restart"] != serde_json::json!([])).await;
    assert_eq!(status["needs_restart"], serde_json::json!(["workers", "max_clients", "log_format"]));
    assert_eq!(status["problem"], serde_json::Value::Null);
    assert_eq!(code(&client).await, 0);
    assert!(!live.sidecar.page("/api/config").await.body.contains("workers: 7"), "it is not in use");

    live.configure(&strict("repair"));
    live.until("no keys", |status| status["needs_restart"] == serde_json::json!([])).await;
    live.sidecar.stop().await;
}

#[tokio::test]
async fn models_and_limits_follow_the_file() {
    let other = "reload_other";
    let models = || [dense::model(), dense::model_named(other)];
    let live = Reloadable::new(models(), &strict("repair")).await;
    let client = live.sidecar.client().await;
    let models = || async { live.sidecar.page("/api/models").await.body };
    assert!(!models().await.contains(other));
    live.configure("models: {mlp: , reload_other: {mode: strict}}\nlimits: {max_message_bytes: 600}\n");
    live.until_configured("max_message_bytes: 600").await;
    // It is read at once, and readiness waits for it.
    live.sidecar.ready().await;
    assert!(models().await.contains(other));
    let flat = Predict::new(other).input(INPUT, float_list(&[128], &[0.5])).bytes();
    assert_eq!(client.predict(&flat).await.code, 3);
    let large = client.call(Request::predict(&wrong_twice())).await;
    assert_eq!((large.code, large.reason().as_str()), (8, "TOO_LARGE"), "{}", large.text);
    assert_eq!(code(&client).await, 0, "smaller than the limit");
    live.sidecar.stop().await;
}

#[tokio::test]
async fn a_request_to_reload_reads_a_file_that_is_not_watched() {
    let yaml = |mode: &str| format!("reload_interval: 0s\n{}", strict(mode));
    let live = Reloadable::new([dense::model()], &yaml("strict")).await;
    live.configure(&format!("{}limits: {{max_streams: 77}}\n", yaml("repair")));
    live.sidecar.reload();
    live.until_configured("max_streams: 77").await;
    assert_eq!(code(&live.sidecar.client().await).await, 0);
    live.sidecar.stop().await;
}

#[tokio::test]
async fn a_request_that_has_begun_is_judged_by_the_configuration_that_it_began_with() {
    let live = Reloadable::new([dense::model()], GENEROUS).await;
    let client = live.sidecar.client().await;
    let body = frame(&wrong_twice(), false);
    let (first, rest) = body.split_at(100);
    let mut begun = client.stream(Request::raw(PREDICT, first.to_vec()).unfinished()).await;
    // Its answer shows that the headers before it were read.
    client.predict(&wrong_twice()).await.ok();
    live.configure(NARROW);
    live.until_configured("server_batching: \"on\"").await;
    assert_eq!(client.predict(&wrong_twice()).await.code, 3);
    assert!(begun.piece(rest));
    begun.close();
    let reply = begun.finish().await.unwrap().ok();
    assert_eq!(reply.repairs().len(), 2, "{:?}", reply.repairs());
    live.sidecar.stop().await;
}
