//! Who must change what: `/api/clients`, `/api/fixes`, `/api/history`, `/api/changes` and what the
//! page lists of refusals.
use prost::bytes::Bytes;
use serde_json::Value;
use tfs_sidecar::repair::policy::Mode;

use crate::support::client::{Client, Request};
use crate::support::dense::{self, CASE, INPUT};
use crate::support::fake_tfs::model::{Model, Sig};
use crate::support::requests::{DOUBLE, FLOAT, Predict, STATUS, content, floats};
use crate::support::sidecar::{Setup, TestSidecar, policy};

const PYTHON: &str = "scorer/2.3.1 grpc-python/1.62.1 grpc-c/39.0.0 (linux; chttp2)";
const GO: &str = "batcher/1.0 grpc-go/1.60.0";

fn right(model: &str) -> Bytes {
    Predict::new(model).input(INPUT, floats(&[1, 128], &CASE.input_tensor)).bytes()
}

/// A request that is repaired.
fn flat(model: &str) -> Bytes {
    Predict::new(model).input(INPUT, floats(&[128], &CASE.input_tensor)).bytes()
}

/// A request that is refused because of its input.
fn narrow(model: &str, width: i64) -> Bytes {
    Predict::new(model).input(INPUT, floats(&[1, width], &vec![0.0; width as usize])).bytes()
}

async fn send(client: &Client, message: &Bytes, agent: &str) -> i32 {
    client.call(Request::predict(message).metadata("user-agent", agent)).await.code
}

async fn api(sidecar: &TestSidecar, path: &str) -> Value {
    let page = sidecar.page(path).await;
    assert_eq!(page.status, 200, "{path}: {}", page.body);
    serde_json::from_str(&page.body).unwrap()
}

async fn fixes_of(sidecar: &TestSidecar, model: &str) -> Vec<Value> {
    let fixes = api(sidecar, "/api/fixes").await;
    fixes.as_array().unwrap().iter().filter(|fix| fix["model"] == model).cloned().collect()
}

#[tokio::test]
async fn fixes_say_who_must_change_what_and_how_often() {
    let model = "mistakes_fixes";
    let setup = Setup::new([dense::model_named(model)]).await;
    for _ in 0..3 {
        assert_eq!(send(&setup.client, &flat(model), PYTHON).await, 0);
    }
    for _ in 0..5 {
        assert_eq!(send(&setup.client, &right(model), PYTHON).await, 0);
    }
    assert_eq!(send(&setup.client, &narrow(model, 127), GO).await, 3);
    let fixes = fixes_of(&setup.sidecar, model).await;
    assert_eq!(fixes.len(), 2, "{fixes:?}");
    let [repair, refusal] = &fixes[..] else { panic!("the most frequent first") };
    for (key, expected) in [
        ("client", "scorer/2.3"),
        ("language", "python"),
        ("signature", "serving_default"),
        ("input", INPUT),
        ("kind", "add_batch_dim"),
        ("outcome", "repaired"),
        ("change", "[128]->[1,128]"),
        ("detail", ""),
    ] {
        assert_eq!(repair[key], expected, "{key}");
    }
    assert_eq!(
        (&repair["count"], &repair["share"], &repair["version"]),
        (&3.into(), &0.375.into(), &2.into())
    );
    assert!(!repair["fix"].as_str().unwrap().is_empty() && !repair["meaning"].as_str().unwrap().is_empty());
    assert!(repair["first"].as_str().unwrap() <= repair["last"].as_str().unwrap());
    assert_eq!((&refusal["client"], &refusal["language"]), (&"batcher/1.0".into(), &"go".into()));
    assert_eq!((&refusal["kind"], &refusal["outcome"]), (&"DIM_MISMATCH".into(), &"rejected".into()));
    assert_eq!(refusal["share"], 1.0);
    assert!(refusal["detail"].as_str().unwrap().contains("127"), "{refusal}");

    let clients = api(&setup.sidecar, "/api/clients").await;
    let scorer = &clients["clients"][0];
    assert_eq!((&scorer["client"], &scorer["requests"]), (&"scorer/2.3".into(), &8.into()));
    assert_eq!((&scorer["mismatches"], &scorer["share"]), (&3.into(), &0.375.into()));
    assert_eq!(scorer["languages"][0], "python");
    let models = api(&setup.sidecar, "/api/models").await;
    let traffic = models.as_array().unwrap().iter().find(|entry| entry["name"] == model).unwrap();
    assert_eq!((&traffic["traffic"]["requests"], &traffic["traffic"]["mismatches"]), (&9.into(), &4.into()));
    let history = api(&setup.sidecar, "/api/history").await;
    let sum = |series: &Value| series.as_array().unwrap().iter().filter_map(Value::as_u64).sum::<u64>();
    assert_eq!(sum(&history["models"][model]["mismatches"]), 4);
    assert_eq!(sum(&history["clients"]["scorer/2.3"]["requests"]), 8);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn what_observe_would_do_and_early_refusals_are_listed() {
    let model = "mistakes_observe";
    let setup = Setup::with([dense::model_named(model)], |config| {
        policy(config, |policy| policy.mode = Mode::Observe);
    })
    .await;
    send(&setup.client, &flat(model), PYTHON).await;
    send(&setup.client, &narrow(model, 127), PYTHON).await;
    send(&setup.client, &right("mistakes_no_such_model"), GO).await;
    send(&setup.client, &Bytes::from_static(b"\xff\xff\xff"), "fuzzer/1.0").await;
    let kinds = |fixes: &[Value]| -> Vec<String> {
        let mut all: Vec<_> = fixes.iter().map(|fix| format!("{} {}", fix["kind"], fix["outcome"])).collect();
        all.sort();
        all
    };
    assert_eq!(
        kinds(&fixes_of(&setup.sidecar, model).await),
        [r#""DIM_MISMATCH" "would_reject""#, r#""add_batch_dim" "would_repair""#]
    );
    let unknown = fixes_of(&setup.sidecar, "mistakes_no_such_model").await;
    assert_eq!(kinds(&unknown), [r#""MODEL_UNKNOWN" "rejected""#]);
    assert_eq!((&unknown[0]["client"], &unknown[0]["share"]), (&"batcher/1.0".into(), &1.0.into()));
    let malformed = fixes_of(&setup.sidecar, "__unknown__").await;
    assert_eq!(kinds(&malformed), [r#""MALFORMED" "would_reject""#]);
    assert_eq!((&malformed[0]["client"], &malformed[0]["count"]), (&"fuzzer/1.0".into(), &1.into()));
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn tensor_values_are_not_listed() {
    let model = "mistakes_values";
    let setup = Setup::new([dense::model_named(model)]).await;
    let mut values = [0.0_f64; 128];
    values[7] = 7.123_456_789e300;
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let request = Predict::new(model).input(INPUT, content(DOUBLE, &[1, 128], bytes)).bytes();
    let reply = setup.client.call(Request::predict(&request).metadata("user-agent", PYTHON)).await;
    assert!(reply.code == 3 && reply.text.contains("7.12"), "the client is told: {}", reply.text);
    let fixes = fixes_of(&setup.sidecar, model).await;
    assert_eq!(fixes[0]["kind"], "CAST_OUT_OF_RANGE", "{fixes:?}");
    for path in ["/api/fixes", "/api/repairs"] {
        let body = setup.sidecar.page(path).await.body;
        assert!(body.contains("CAST_OUT_OF_RANGE") && !body.contains("7.12"), "{path}: {body}");
    }
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn one_client_cannot_fill_the_list_of_refusals() {
    let model = "mistakes_recent";
    let setup = Setup::new([dense::model_named(model)]).await;
    send(&setup.client, &flat(model), GO).await;
    for width in 1..100 {
        assert_eq!(send(&setup.client, &narrow(model, width), PYTHON).await, 3);
    }
    let recent = api(&setup.sidecar, "/api/repairs").await;
    let clients: Vec<&str> =
        recent["entries"].as_array().unwrap().iter().filter_map(|entry| entry["client"].as_str()).collect();
    assert_eq!(clients, ["scorer/2.3", "scorer/2.3", "scorer/2.3", "batcher/1.0"]);
    assert_eq!(fixes_of(&setup.sidecar, model).await[0]["count"], 99, "all are counted");
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn changes_between_versions_are_listed() {
    let model = || Model::new("mistakes_changes");
    let wide =
        |width| Sig::new("serving_default").input("x", FLOAT, &[-1, width]).output("y", FLOAT, &[-1, width]);
    let setup = Setup::new([model().version(1, [wide(4)])]).await;
    setup.fake.serve(model().version(1, [wide(4)]).version(2, [wide(8)]));
    let polls = setup.fake.count(STATUS);
    setup.fake.called(STATUS, polls + 3).await;
    let changes = api(&setup.sidecar, "/api/changes").await;
    let [second, first] = &changes.as_array().unwrap()[..] else { panic!("two: {changes}") };
    assert_eq!(
        (&first["from"], &first["to"], &first["changes"]),
        (&Value::Null, &1.into(), &Value::Array(vec![]))
    );
    assert_eq!(
        (&second["from"], &second["to"], &second["model"]),
        (&1.into(), &2.into(), &"mistakes_changes".into())
    );
    assert!(second["changes"][0].as_str().unwrap().contains("[-1,8]"), "{second}");
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn the_status_says_how_full_it_is() {
    let setup = Setup::new([dense::model_named("mistakes_status")]).await;
    let status = api(&setup.sidecar, "/api/status").await;
    assert!(status["load"]["upstream_limit"].as_u64().unwrap() > 0, "{status}");
    assert!(status["load"]["connections"].as_u64().unwrap() >= 1);
    assert!(status["now"].as_str().unwrap().ends_with('Z'));
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn clients_that_take_turns_are_told_apart() {
    let model = "mistakes_turns";
    let setup = Setup::with([dense::model_named(model)], |config| config.max_clients = 2).await;
    // Names that begin and end alike, and one that is not listed until it makes a mistake.
    let agents = ["scoring-team-1-client/1.0", "scoring-team-2-client/1.0", "scoring-team-3-client/1.0"];
    let requests = async || {
        let clients = api(&setup.sidecar, "/api/clients").await;
        let of = |client: &Value| {
            (client["client"].as_str().unwrap().to_owned(), client["requests"].as_u64().unwrap())
        };
        let mut all: Vec<_> = clients["clients"].as_array().unwrap().iter().map(of).collect();
        all.sort();
        all
    };
    for _ in 0..5 {
        for agent in agents {
            send(&setup.client, &right(model), agent).await;
        }
    }
    let expected = |all: [(&str, u64); 3]| all.map(|(name, count)| (name.to_owned(), count)).to_vec();
    assert_eq!(requests().await, expected([("__other__", 5), (agents[0], 5), (agents[1], 5)]));
    send(&setup.client, &flat(model), agents[2]).await;
    for agent in agents {
        send(&setup.client, &right(model), agent).await;
    }
    let now = requests().await;
    assert_eq!(now.iter().map(|(_, count)| count).sum::<u64>(), 19, "{now:?}");
    assert!(now.contains(&(agents[2].to_owned(), 1)), "counted by itself after its mistake: {now:?}");
    setup.sidecar.stop().await;
}
