//! Requests that are forwarded although they may be mistaken: the client, the metrics and the page
//! say so.
use prost::bytes::Bytes;
use tfs_sidecar::repair::policy::{Mode, RowAgreement, SmallInts};

use crate::support::client::Request;
use crate::support::fake_tfs::Act;
use crate::support::fake_tfs::model::{Model, Sig};
use crate::support::requests::{FLOAT, INT64, PREDICT, Predict, content, floats, int32s, int64s};
use crate::support::sidecar::{Setup, policy};

const INT16: i32 = 5;
const DIFFER: &str = "rows differ: ids 3, vals 5";
const INTEGER: &str = "input 'vals': int16 cast to float without scaling (INTEGER_FOR_FLOAT; if the model takes scaled values, scale them, and send float)";

fn model(name: &str) -> Model {
    let signature = Sig::new("serving_default").input("ids", INT64, &[-1]).input("vals", FLOAT, &[-1]);
    Model::new(name).version(1, [signature.output("y", FLOAT, &[-1])])
}

fn values(count: usize) -> Vec<f32> {
    (0..count).map(|at| at as f32).collect()
}

/// 3 ids, as many as a ragged tensor of 5 values has row splits.
fn ragged(model: &str) -> Bytes {
    Predict::new(model).input("ids", int64s(&[3], &[0, 3, 5])).input("vals", floats(&[5], &values(5))).bytes()
}

fn samples(model: &str) -> Bytes {
    let samples = content(INT16, &[3], vec![1, 0, 2, 0, 3, 0]);
    Predict::new(model).input("ids", int64s(&[3], &[0; 3])).input("vals", samples).bytes()
}

async fn counted(setup: &Setup, model: &str, reason: &str) -> f64 {
    let metrics = setup.sidecar.metrics().await;
    metrics.sum("tfs_sidecar_warnings_total", &[("model", model), ("reason", reason)])
}

#[tokio::test]
async fn rows_that_differ_are_forwarded_byte_for_byte_with_a_warning() {
    let setup = Setup::new([model("rows")]).await;
    let request = ragged("rows");
    for number in 1..=2 {
        let reply = setup.client.predict(&request).await.ok();
        assert_eq!(reply.initial("tfs-sidecar-warning"), [DIFFER]);
        assert_eq!(reply.repairs(), [""; 0]);
        assert!(reply.initial("tfs-sidecar-repairs").is_empty());
        assert!(reply.trailer("tfs-sidecar-warning").is_empty());
        assert_eq!(counted(&setup, "rows", "BATCH_MISMATCH").await, f64::from(number));
    }
    for call in setup.fake.calls_of(PREDICT) {
        assert_eq!(call.message, request);
    }
    let page = setup.sidecar.page("/api/repairs").await.body;
    assert!(page.contains("\"warned\"") && page.contains(DIFFER), "{page}");
    let metrics = setup.sidecar.metrics().await;
    let labels = [("model", "rows"), ("outcome", "conforming")];
    assert_eq!(metrics.sum("tfs_sidecar_requests_total", &labels), 2.0);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn rows_that_differ_do_not_prevent_other_repairs() {
    let setup = Setup::new([model("other")]).await;
    let splits = int32s(&[3], &[0, 3, 5]);
    let request = Predict::new("other").input("ids", splits).input("vals", floats(&[5], &values(5)));
    let reply = setup.client.predict(&request.bytes()).await.ok();
    assert_eq!(reply.repairs(), ["ids;cast_widen;int32->int64"]);
    assert_eq!(reply.initial("tfs-sidecar-warning"), [DIFFER]);
    // A scalar is not one row beside 5 others.
    let request =
        Predict::new("other").input("ids", int64s(&[], &[7])).input("vals", floats(&[5], &values(5)));
    let reply = setup.client.predict(&request.bytes()).await;
    let (bad, info) = reply.problems();
    let reasons: Vec<&str> = bad.field_violations.iter().map(|violation| violation.reason.as_str()).collect();
    assert_eq!((reasons, info.reason.as_str()), (vec!["RANK_TOO_LOW", "BATCH_MISMATCH"], "RANK_TOO_LOW"));
    assert!(reply.text.contains("{ids: 1, vals: 5}"), "{}", reply.text);
    assert_eq!(setup.fake.count(PREDICT), 1);
    assert_eq!(counted(&setup, "other", "BATCH_MISMATCH").await, 1.0);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_refusal_by_the_server_names_the_rows_and_repeats_the_warning() {
    let setup = Setup::new([model("refused")]).await;
    let rows = "rows: ids 3; vals 5";
    for (code, text, expected) in [
        (3, "Incompatible shapes: [3] vs. [5]", format!("; {rows}; sent: vals float [5]; ids int64 [3]")),
        (3, "some custom op's own words", format!("unless the model takes them so; {rows} (act: client)")),
        // The rows have nothing to do with it.
        (14, "some proxy's own words", String::new()),
    ] {
        setup.fake.script(PREDICT, 1, Act::Status { code, text: text.to_owned() });
        let reply = setup.client.predict(&ragged("refused")).await;
        assert_eq!(reply.code, code);
        assert!(reply.text.starts_with(text) && reply.text.contains(&expected), "{}", reply.text);
        assert_eq!(reply.text.contains("rows: "), !expected.is_empty(), "{}", reply.text);
        assert_eq!(reply.trailer("tfs-sidecar-warning"), [DIFFER]);
    }
    // Rows that agree are no reason for an error.
    let agreeing =
        Predict::new("refused").input("ids", int64s(&[1], &[0])).input("vals", floats(&[1], &[0.0]));
    setup.fake.script(PREDICT, 1, Act::Status { code: 3, text: "some custom op's own words".to_owned() });
    let reply = setup.client.predict(&agreeing.bytes()).await;
    assert_eq!(
        (reply.text.as_str(), reply.trailer("tfs-sidecar-warning").len()),
        ("some custom op's own words", 0)
    );
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn in_mode_observe_warnings_are_counted_and_nothing_is_added() {
    let setup =
        Setup::with([model("observed")], |config| policy(config, |policy| policy.mode = Mode::Observe)).await;
    let reply = setup.client.predict(&ragged("observed")).await.ok();
    assert!(reply.initial("tfs-sidecar-warning").is_empty());
    assert_eq!(counted(&setup, "observed", "BATCH_MISMATCH").await, 1.0);
    setup.fake.script(PREDICT, 1, Act::Status { code: 3, text: "own words".to_owned() });
    let reply = setup.client.predict(&ragged("observed")).await;
    assert_eq!((reply.text.as_str(), reply.trailer("tfs-sidecar-warning").len()), ("own words", 0));
    // The cast would be made with a warning.
    let request = samples("observed");
    setup.client.predict(&request).await;
    assert_eq!(counted(&setup, "observed", "INTEGER_FOR_FLOAT").await, 1.0);
    assert_eq!(setup.fake.calls_of(PREDICT).last().unwrap().message, request);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn a_dry_run_shows_warnings_and_does_not_count_them() {
    let setup = Setup::new([model("dry")]).await;
    for (request, warning) in [(ragged("dry"), DIFFER), (samples("dry"), INTEGER)] {
        let request = Request::predict(&request).metadata("tfs-sidecar-dry-run", "1");
        let reply = setup.client.call(request).await.ok();
        assert_eq!(reply.initial("tfs-sidecar-warning"), [warning]);
        assert!(reply.message.is_empty());
    }
    assert_eq!(setup.fake.count(PREDICT), 0);
    let metrics = setup.sidecar.metrics().await;
    assert_eq!(metrics.sum("tfs_sidecar_warnings_total", &[("model", "dry")]), 0.0);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn small_integers_are_cast_to_floats_with_a_warning() {
    let setup = Setup::new([model("pcm")]).await;
    let reply = setup.client.predict(&samples("pcm")).await.ok();
    assert_eq!(reply.repairs(), ["vals;cast_widen;int16->float"]);
    assert_eq!(reply.initial("tfs-sidecar-warning"), [INTEGER]);
    assert_eq!(counted(&setup, "pcm", "INTEGER_FOR_FLOAT").await, 1.0);
    let page = setup.sidecar.page("/api/repairs").await.body;
    assert!(page.contains("vals;cast_widen;int16->float") && page.contains(INTEGER), "{page}");
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn the_policies_refuse_what_they_would_warn_about() {
    let setup = Setup::with([model("strictly")], |config| {
        policy(config, |policy| {
            policy.small_ints = SmallInts::Refuse;
            policy.row_agreement = RowAgreement::Refuse;
        });
    })
    .await;
    for (request, reason, says) in [
        (ragged("strictly"), "BATCH_MISMATCH", "{ids: 3, vals: 5}"),
        (samples("strictly"), "INTEGER_FOR_FLOAT", "scale them; send float"),
    ] {
        let reply = setup.client.predict(&request).await;
        assert_eq!((reply.code, reply.reason().as_str()), (3, reason));
        assert!(reply.text.contains(says), "{}", reply.text);
    }
    assert_eq!(setup.fake.count(PREDICT), 0);
    let metrics = setup.sidecar.metrics().await;
    assert_eq!(metrics.sum("tfs_sidecar_warnings_total", &[("model", "strictly")]), 0.0);
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn warnings_are_bounded_and_printable() {
    let name = |at: usize| format!("größe_{at:03}_{}", "x".repeat(200));
    let declared = |signature: Sig, at: usize| signature.input(&name(at), FLOAT, &[-1]);
    let signature = (0..20).fold(Sig::new("serving_default"), declared).output("y", FLOAT, &[-1]);
    let setup = Setup::new([Model::new("many").version(1, [signature])]).await;
    let sent = |request: Predict, at: usize| {
        request.input(&name(at), content(INT16, &[at as i64 + 1], vec![0; 2 * (at + 1)]))
    };
    let request = (0..20).fold(Predict::new("many"), sent);
    let reply = setup.client.predict(&request.bytes()).await.ok();
    let warnings = reply.initial("tfs-sidecar-warning");
    assert_eq!((warnings.len(), warnings[8].as_str()), (9, "more"));
    for warning in &warnings {
        assert!(
            warning.len() <= 256 && warning.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
            "{warning}"
        );
    }
    setup.sidecar.stop().await;
}

#[tokio::test]
async fn missing_inputs_are_for_the_server_to_judge_in_mode_strict_too() {
    let setup =
        Setup::with([model("missing")], |config| policy(config, |policy| policy.mode = Mode::Strict)).await;
    let request = Predict::new("missing").input("ids", int64s(&[1], &[7])).bytes();
    setup.fake.script(PREDICT, 1, Act::Message(Bytes::new()));
    setup.client.predict(&request).await.ok();
    assert_eq!(setup.fake.only(PREDICT).message, request);
    let metrics = setup.sidecar.metrics().await;
    let labels = [("model", "missing"), ("outcome", "passed")];
    assert_eq!(metrics.sum("tfs_sidecar_requests_total", &labels), 1.0);
    setup.sidecar.stop().await;
}
