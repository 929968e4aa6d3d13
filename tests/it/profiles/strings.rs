//! Strings that the training data does not have, and a profile of strings learned from traffic.
use std::path::Path;
use std::process::{Output, Stdio};

use tfs_sidecar::profile::By;
use tfs_sidecar::profile::Profile;
use tfs_sidecar::profile::describe::TensorStats;
use tfs_sidecar::tensor::DataType;

use super::{Folder, INPUT, Profiled};
use crate::support::client::{Reply, Request};
use crate::support::fake_tfs::model::{Model, Sig};
use crate::support::requests::{PREDICT, Predict, STRING, strings};

const WARNING: &str = "tfs-sidecar-warning";

fn model(name: &str) -> Model {
    let signature = Sig::new("serving_default").input(INPUT, STRING, &[-1]);
    Model::new(name).version(1, [signature.output("y", STRING, &[-1])])
}

/// 300 strings: two countries.
fn profile() -> Profile {
    let mut stats = TensorStats::new(DataType::STRING, By::Whole, 1);
    for at in 0..300 {
        stats.add_text(if at % 3 == 0 { b"de" } else { b"fr" });
    }
    Profile { rows: 300, inputs: [(INPUT.to_owned(), stats.profile())].into(), ..Profile::default() }
}

async fn start(name: &'static str, policy: &str) -> Profiled {
    let folder = Folder::new();
    let path = folder.write("profile.yaml", &profile().to_yaml());
    let policy = format!("profile: {}, {policy}", path.display());
    Profiled::serve(folder, model(name), name, &policy).await
}

async fn send(setup: &Profiled, texts: &[&str]) -> Reply {
    let texts: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
    let message = Predict::new(setup.model).input(INPUT, strings(&[texts.len() as i64], &texts)).bytes();
    setup.client.call(Request::predict(&message).metadata("x-client", "a")).await
}

#[tokio::test]
async fn a_string_that_training_never_had_is_named_and_shown_to_its_client_only() {
    let setup = start("countries", "profile_check: warn").await;
    assert_eq!(send(&setup, &["de", "fr"]).await.ok().initial(WARNING), [""; 0]);
    let reply = send(&setup, &["de", "secretland", ""]).await.ok();
    let found = reply.initial(WARNING);
    let has = |kind: &str| found.iter().filter(|text| text.contains(kind)).count();
    assert_eq!((has("(UNKNOWN_CATEGORY)"), has("(EMPTY_TEXT)"), found.len()), (1, 1, 2), "{found:?}");
    assert!(!found.concat().contains("secretland"), "{found:?}");
    for kind in ["UNKNOWN_CATEGORY", "EMPTY_TEXT"] {
        assert_eq!(setup.counted(kind, "a").await, 1.0, "{kind}");
    }
    setup.stop().await;

    let setup = start("refused_countries", "profile_check: refuse").await;
    let reply = send(&setup, &["secretland"]).await;
    assert_eq!((reply.code, reply.reason().as_str()), (3, "UNKNOWN_CATEGORY"), "{}", reply.text);
    let (bad, _) = reply.problems();
    assert!(bad.field_violations[0].description.contains("secretland"), "{bad:?}");
    assert_eq!(setup.fake.count(PREDICT), 0);
    for path in ["/api/findings", "/api/repairs", "/api/fixes", "/metrics"] {
        let page = setup.sidecar.page(path).await.body;
        assert!(!page.contains("secretland"), "{path} shows a value: {page}");
    }
    setup.stop().await;
}

/// Runs `profile learn` while requests come.
async fn learn(setup: &Profiled, model: &str, out: &Path, arguments: &[&str]) -> Output {
    let mut learn = std::process::Command::new(env!("CARGO_BIN_EXE_tfs-sidecar"))
        .args(["profile", "learn", "--admin", &setup.sidecar.admin, "--model", model, "--requests", "40"])
        .arg("--out")
        .arg(out)
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let long = "x".repeat(1000);
    // Requests come until the command has seen enough.
    while learn.try_wait().unwrap().is_none() {
        send(setup, &["secretland", "de", &long]).await.ok();
    }
    learn.wait_with_output().unwrap()
}

/// What `profile learn` writes.
async fn learned(name: &'static str, arguments: &[&str]) -> Profile {
    let setup = Profiled::serve(Folder::new(), model(name), name, "mode: repair").await;
    let out = setup.folder.write("learned.yaml", "");
    let done = learn(&setup, name, &out, arguments).await;
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.success() && said.contains("learned from 40 requests with 120 rows"), "{said}");
    assert_eq!(setup.sidecar.post("/profile/learned").await.status, 404, "the sidecar has forgotten it");
    let text = std::fs::read_to_string(&out).unwrap();
    setup.stop().await;
    Profile::from_yaml(&text).unwrap()
}

#[tokio::test]
async fn profile_learn_writes_what_a_sidecar_saw_and_strings_only_if_they_are_asked_for() {
    let plain = learned("learned_lengths", &[]).await;
    let text = plain.inputs[INPUT].text.clone().unwrap();
    assert_eq!((text.count, text.length.min, text.length.max, text.complete), (120, 2.0, 1000.0, false));
    assert!(text.values.is_empty() && !plain.to_yaml().contains("secretland"));
    let words = learned("learned_words", &["--strings"]).await.inputs[INPUT].text.clone().unwrap();
    let third = 0.333_333_333;
    assert_eq!(words.values, [("de".to_owned(), third), ("secretland".to_owned(), third)]);
    assert_eq!((words.length.max, words.complete), (1000.0, false));
}

#[tokio::test]
async fn a_profile_that_cannot_be_written_is_not_lost() {
    let name = "learned_unwritten";
    let setup = Profiled::serve(Folder::new(), model(name), name, "mode: repair").await;
    let done = learn(&setup, name, Path::new("/no/such/folder/learned.yaml"), &[]).await;
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(!done.status.success() && said.contains("POST /profile/learned"), "{said}");
    let kept = setup.sidecar.post("/profile/learned").await;
    assert!(kept.status == 200 && kept.body.contains("profile: 1"), "{}", kept.body);
    setup.stop().await;
}
