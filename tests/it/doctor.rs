//! `doctor` against a running server, and the probes of the running sidecar.
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::dense;
use crate::support::fake_tfs::model::Model;
use crate::support::fake_tfs::{End, FakeTfs};
use crate::support::requests::{PREDICT, STATUS};
use crate::support::sidecar::{TestSidecar, config};
use crate::support::within;

/// Starts `doctor --json` for a model of a server.
fn doctor(fake: &FakeTfs, model: &str, options: &[&str]) -> std::process::Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tfs-sidecar"));
    command.args(["doctor", "--json", "--upstream", fake.addr(), "--model", model]).args(options);
    command.env_clear().stdout(Stdio::piped()).spawn().unwrap()
}

/// Waits for its end, and returns the level and text of each finding.
async fn findings(child: std::process::Child) -> Vec<(String, String)> {
    let ended = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    let answer: Value = serde_json::from_slice(&ended.stdout).unwrap();
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let all = answer["findings"].as_array().unwrap();
    all.iter().map(|finding| (text(finding, "level"), text(finding, "what"))).collect()
}

fn level(findings: &[(String, String)], what: &str) -> Option<String> {
    findings.iter().find(|(_, found)| found == what).map(|(level, _)| level.clone())
}

#[tokio::test]
async fn doctor_waits_for_a_version_that_is_loading() {
    let fake = FakeTfs::start([Model::new("doctor_loads").loading(7)]);
    let child = doctor(&fake, "doctor_loads", &["--timeout", "60s"]);
    fake.called(STATUS, 2).await;
    fake.serve(Model::new("doctor_loads").version(7, [dense::signature()]));
    assert_eq!(level(&findings(child).await, "version 7 is AVAILABLE"), Some("ok".into()));
}

#[tokio::test]
async fn doctor_says_that_a_version_does_not_end_loading() {
    let fake = FakeTfs::start([Model::new("doctor_hangs").loading(7)]);
    let found = findings(doctor(&fake, "doctor_hangs", &["--timeout", "1s"])).await;
    assert_eq!(level(&found, "version 7 was loading for the 1 s of this check"), Some("warn".into()));
}

#[tokio::test]
async fn doctor_looks_labels_up_that_clients_ask_for() {
    let model = Model::new("doctor_labels").version(3, [dense::signature()]);
    let fake = FakeTfs::start([model.version(4, [dense::signature()]).label("stable", 3).label("eu", 4)]);
    let found = findings(doctor(&fake, "doctor_labels", &["--label", "eu", "--label", "us"])).await;
    assert_eq!(level(&found, "label `stable` is version 3"), Some("ok".into()));
    assert_eq!(level(&found, "label `eu` is version 4"), Some("ok".into()));
    assert_eq!(level(&found, "label `us` is no version that is served"), Some("fail".into()));
    assert!(!found.iter().any(|(_, what)| what.contains("canary")), "{found:?}");
}

async fn readyz(sidecar: &TestSidecar) -> (u16, String) {
    let page = sidecar.page("/readyz").await;
    (page.status, page.body)
}

/// Waits until `/readyz` has this status and this text.
async fn ready(sidecar: &TestSidecar, status: u16, text: &str) {
    within(&format!("{status} with `{text}`"), async {
        loop {
            let (found, body) = readyz(sidecar).await;
            if found == status && body.contains(text) {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_slow_probe_does_not_hold_the_refresh_of_models() {
    let (slow, other) = ("probe_slow", "probe_other");
    let version = |name: &str, number| Model::new(name).version(number, [dense::signature()]);
    let fake = FakeTfs::start([version(slow, 1), version(other, 1)]);
    let gate = fake.hold(PREDICT, 1);
    let mut config = config(fake.addr(), [slow.to_owned(), other.to_owned()]);
    config.models.get_mut(slow).unwrap().defaults.probe = true;
    let sidecar = TestSidecar::start(config);
    fake.called(PREDICT, 1).await;
    ready(&sidecar, 503, "version 1 of model 'probe_slow' has not answered its probe yet").await;
    let probing = [("model", slow), ("version", "1"), ("kind", "probing")];
    assert_eq!(sidecar.metrics().await.sum("tfs_sidecar_model_problem", &probing), 1.0);

    // A version of another model, while the probe is not answered.
    fake.serve(version(other, 2));
    within("version 2 of the other model", async {
        loop {
            let models: Value = serde_json::from_str(&sidecar.page("/api/models").await.body).unwrap();
            let model = models.as_array().unwrap().iter().find(|model| model["name"] == other).unwrap();
            if model["versions"][0]["version"] == 2 {
                return;
            }
        }
    })
    .await;
    assert_eq!(fake.only(PREDICT).end, End::Open, "the probe still waits");

    gate.open();
    ready(&sidecar, 200, "").await;
    assert_eq!(sidecar.metrics().await.sum("tfs_sidecar_model_problem", &probing), 0.0);

    // The next version is probed while the sidecar stays ready, and then keeps it unready.
    let gate = fake.hold(PREDICT, 1);
    fake.serve(version(slow, 2));
    fake.called(PREDICT, 2).await;
    let polls = fake.count(STATUS);
    fake.called(STATUS, polls + 4).await;
    assert_eq!(readyz(&sidecar).await.0, 200);
    gate.open();
    fake.refuse(PREDICT, usize::MAX, 9, "Could not find variable w.");
    fake.serve(version(slow, 3));
    ready(&sidecar, 503, "version 3 of model 'probe_slow' does not answer a request of zeros").await;
    sidecar.stop().await;
}
