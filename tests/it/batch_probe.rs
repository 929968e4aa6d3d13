//! `batch-probe` against servers whose runs cost known times.
use std::collections::HashMap;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::support::dense;
use crate::support::fake_tfs::model::{Compute, Model, Sig};
use crate::support::fake_tfs::{FakeTfs, Options};
use crate::support::pace::hold;
use crate::support::requests::{FLOAT, PREDICT, Predict, float_list, floats};

struct Probe {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Runs `batch-probe` for a short time.
fn probe(fake: &FakeTfs, model: &str, options: &[&str]) -> Probe {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tfs-sidecar"));
    command.args(["batch-probe", "--upstream", fake.addr(), "--model", model, "--duration", "100ms"]);
    let output = command.args(options).env_clear().output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Probe { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// A model `m` that answers `y`, made of the values of its rows of two floats.
fn model(y: impl Fn(&[f32]) -> Result<Vec<f32>, (i32, String)> + Send + Sync + 'static) -> Model {
    let compute: Compute = Arc::new(move |request, _| {
        let tensor = &request.inputs["x"];
        let count = dense::dims(tensor).iter().product::<i64>() as usize;
        let values = y(&dense::floats(tensor, count))?;
        Ok(HashMap::from([("y".to_owned(), float_list(&[values.len() as i64], &values))]))
    });
    let signature = Sig::new("serving_default").input("x", FLOAT, &[-1, 2]).output("y", FLOAT, &[-1]);
    Model::new("m").computing(3, [signature], compute)
}

fn sums(values: &[f32]) -> Vec<f32> {
    values.chunks_exact(2).map(|row| row[0] + row[1]).collect()
}

#[test]
fn a_model_whose_rows_are_nearly_free_gets_a_configuration() {
    let delays = [("m".to_owned(), Duration::from_millis(20))].into();
    let options = Options { delays, ..Options::default() };
    let fake = FakeTfs::start_with(options, [model(|values| Ok(sums(values)))]);
    let ended = probe(&fake, "m", &["--input", "x:float[3,2]{1,2,3,4,5,6}", "--max-rows", "16"]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    let text = &ended.stdout;
    assert!(text.starts_with("model 'm' version 3, signature 'serving_default'\n\nrows "), "{text}");
    assert!(text.contains("\nBatching pays: runs of up to 16 rows give "), "{text}");
    assert!(text.contains("\nThe gain still grows at 16 rows: "), "{text}");
    assert!(text.contains(": TF Serving runs two at a time.\n"), "{text}");
    assert!(!text.contains("All rows were the same"), "{text}");
    let yaml = "\n\nmodels:\n  m:\n    signatures:\n      serving_default:\n        batching: {enabled: on, max_rows: 16}\n";
    assert!(text.ends_with(yaml), "{text}");
    // Rows 1, 2 and 3 alone, and the runs of all sizes, each of version 3.
    let calls = fake.calls_of(PREDICT);
    let sizes = calls.iter().map(|call| {
        use prost::Message as _;

        use tfs_sidecar::proto::tensorflow::serving::{PredictRequest, model_spec::VersionChoice};
        let request = PredictRequest::decode(call.message.clone()).unwrap();
        assert_eq!(request.model_spec.unwrap().version_choice, Some(VersionChoice::Version(3)));
        dense::dims(&request.inputs["x"])[0]
    });
    let sizes: std::collections::BTreeSet<i64> = sizes.collect();
    assert_eq!(sizes.into_iter().collect::<Vec<_>>(), [1, 2, 4, 8, 16]);
}

#[test]
fn a_model_whose_rows_cost_as_much_together_is_not_batched() {
    let fake = FakeTfs::start([model(|values| {
        hold(Duration::from_millis(40 * values.len() as u64));
        Ok(sums(values))
    })]);
    let ended = probe(&fake, "m", &["--input", "x:float[1,2]", "--max-rows", "2"]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    let text = &ended.stdout;
    assert!(
        text.contains(": TF Serving runs one at a time.\nBatching does not pay: rows cost as much"),
        "{text}"
    );
    assert!(text.contains("\nAll rows were the same: ") && !text.contains("models:"), "{text}");
}

#[test]
fn a_request_is_repaired_before_it_is_measured() {
    let fake = FakeTfs::start([dense::model()]);
    let ended = probe(&fake, dense::MODEL, &["--input", "input_tensor:double[128]", "--max-rows", "4"]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    let start = "model 'mlp' version 2, signature 'serving_default'\nthe request was repaired with ";
    assert!(ended.stdout.starts_with(start), "{}", ended.stdout);
    let ended = probe(&fake, dense::MODEL, &["--input", "input_tensor:float[1,127]"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    assert!(
        ended.stderr.starts_with("error: the request does not conform to the signature\n")
            && ended.stderr.contains("refused: DIM_MISMATCH"),
        "{}",
        ended.stderr
    );
}

#[test]
fn rows_that_depend_on_each_other_are_found() {
    let fake = FakeTfs::start([model(|values| {
        let sum: f32 = sums(values).iter().sum();
        Ok(sums(values).iter().map(|value| value / sum).collect())
    })]);
    let ended = probe(&fake, "m", &["--input", "x:float[1,2]"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    let stderr = &ended.stderr;
    assert!(
        stderr.contains("row 1 of a run of 2 rows differs from the same row alone: output `y`"),
        "{stderr}"
    );
    assert!(stderr.ends_with("hint: the rows depend on each other: do not batch this model\n"), "{stderr}");
    // One answer for all rows.
    fake.serve(model(|values| Ok(vec![values.iter().sum()])));
    let ended = probe(&fake, "m", &["--input", "x:float[1,2]"]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended
            .stderr
            .contains("the answer of a run of 2 rows cannot be cut into rows: expected 2 rows, got 1"),
        "{}",
        ended.stderr
    );
}

#[test]
fn answers_that_change_from_call_to_call_are_found() {
    let count = std::sync::atomic::AtomicU32::new(0);
    let fake = FakeTfs::start([model(move |values| {
        let noise = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) as f32;
        Ok(sums(values).iter().map(|value| value + noise).collect())
    })]);
    let ended = probe(&fake, "m", &["--input", "x:float[1,2]"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("the same request gets different answers"), "{}", ended.stderr);
}

#[test]
fn a_size_that_the_server_refuses_ends_the_curve() {
    let refusing = |most: usize| {
        model(move |values| match values.len() / 2 {
            rows if rows > most => Err((8, format!("OOM when allocating tensor with shape[{rows},2]"))),
            _ => Ok(sums(values)),
        })
    };
    let fake = FakeTfs::start([refusing(4)]);
    let ended = probe(&fake, "m", &["--input", "x:float[1,2]"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let note = "\nno more than 4 rows: a run of 8 rows failed: OOM when allocating tensor with shape[8,2]\n";
    assert!(ended.stdout.contains(note), "{}", ended.stdout);
    fake.serve(refusing(1));
    let ended = probe(&fake, "m", &["--input", "x:float[1,2]"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("one row is answered, but a run of 2 rows is refused"), "{}", ended.stderr);
}

#[test]
fn errors_of_the_server_are_shown_as_they_are() {
    let fake = FakeTfs::start([model(|_| Err((9, "Table not initialized.".to_owned())))]);
    let ended = probe(&fake, "m", &["--input", "x:float[1,2]"]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("error: cannot measure model 'm'\n  caused by: Table not initialized.\n"),
        "{}",
        ended.stderr
    );
    let ended = probe(&fake, "absent", &["--input", "x:float[1,2]"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("Servable not found for request: Latest(absent)"), "{}", ended.stderr);
    let options =
        Options { delays: [("m".to_owned(), Duration::from_secs(60))].into(), ..Options::default() };
    let slow = FakeTfs::start_with(options, [model(|values| Ok(sums(values)))]);
    let ended = probe(&slow, "m", &["--input", "x:float[1,2]", "--timeout", "300ms"]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("deadline exceeded while waiting for the model's answer"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_model_that_cannot_be_batched_is_not_called() {
    let fixed = Sig::new("serving_default").input("x", FLOAT, &[4, 2]).output("y", FLOAT, &[4]);
    let fake = FakeTfs::start([Model::new("m").version(1, [fixed])]);
    let ended = probe(&fake, "m", &["--input", "x:float[4,2]"]);
    assert_eq!((ended.code, fake.count(PREDICT)), (Some(1), 0));
    insta::assert_snapshot!(ended.stderr, @r"
    error: model 'm' cannot be measured in runs of several rows
      caused by: an input has a fixed dim 0: `x` is declared as float [4,2]
    hint: export the model with a first dimension of None for all inputs and outputs
    ");
}

#[test]
fn a_request_of_a_file_keeps_its_filter_and_signature() {
    let named =
        Sig::new("rank").input("x", FLOAT, &[-1, 2]).output("y", FLOAT, &[-1]).output("loss", FLOAT, &[]);
    let compute: Compute = Arc::new(|request, _| {
        let rows = dense::dims(&request.inputs["x"])[0];
        Ok(HashMap::from([
            ("y".to_owned(), float_list(&[rows], &vec![1.0; rows as usize])),
            ("loss".to_owned(), float_list(&[], &[rows as f32])),
        ]))
    });
    let fake = FakeTfs::start([Model::new("m").computing(1, [named], compute)]);
    let request = Predict::new("").signature("rank").input("x", floats(&[1, 2], &[1.0, 2.0]));
    let file = |name: &str, request: &Predict| {
        let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&path, request.bytes()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let all = file("probe-all-outputs", &request);
    let ended = probe(&fake, "m", &["--request", &all]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.contains("`loss` is declared as float []\nhint: a request whose output_filter"),
        "{}",
        ended.stderr
    );
    let one = file("probe-one-output", &request.output("y"));
    let ended = probe(&fake, "m", &["--request", &one, "--max-rows", "2"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.starts_with("model 'm' version 1, signature 'rank'\n"), "{}", ended.stdout);
}

#[test]
fn wrong_flags_are_mistakes_of_the_user() {
    let fake = FakeTfs::start([]);
    for options in [&["--max-rows", "1", "--input", "x:float[1]"][..], &[], &["--input", "x"]] {
        assert_eq!(probe(&fake, "m", options).code, Some(2), "{options:?}");
    }
}
