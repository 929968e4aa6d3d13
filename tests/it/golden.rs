//! Compares what a real TensorFlow Serving answered to recorded requests with what the sidecar does
//! with them.
//!
//! `tests/fixtures/golden/accepted_by_tf.tsv` lists requests that TensorFlow Serving accepted and
//! the sidecar does not forward unchanged, with the reason. `refused_by_tf.tsv` lists the verdicts
//! on requests that TensorFlow Serving refused. Changes to either are visible in review.
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock, OnceLock};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use prost::Message as _;
use prost::bytes::Bytes;
use tfs_sidecar::explain::{Context, explain};
use tfs_sidecar::proto::tensorflow::SignatureDef;
use tfs_sidecar::proto::tensorflow::serving::model_version_status::State;
use tfs_sidecar::proto::tensorflow::serving::{GetModelMetadataResponse, PredictRequest, SignatureDefMap};
use tfs_sidecar::repair::infer::{apply_infer, judge_infer};
use tfs_sidecar::repair::problem::Weight;
use tfs_sidecar::repair::{Action, Change, Mode, ModelPolicy, Outcome, Plan, Reason, Verdict, apply};
use tfs_sidecar::signature::Signatures;
use tfs_sidecar::wire::infer::InferView;
use tfs_sidecar::wire::{ModelSpec, PredictView, Rope, VersionChoice};

use crate::support::client::Request;
use crate::support::engine::{decide, line};
use crate::support::fake_tfs::model::{Model, Version, echo};
use crate::support::fake_tfs::{Act, FakeTfs};
use crate::support::requests::{METADATA, PREDICT};
use crate::support::sidecar::Setup;
use crate::support::tensor_values::{rounded, values};

const ACCEPTED: &str = include_str!("../fixtures/golden/accepted_by_tf.tsv");
const REFUSED: &str = include_str!("../fixtures/golden/refused_by_tf.tsv");

struct Record {
    id: String,
    note: String,
    method: String,
    request: Bytes,
    code: i32,
    text: String,
    response: Bytes,
}

/// The versions of a model: the signatures as the sidecar reads them, and as the fake server serves
/// them.
type Versions = BTreeMap<i64, (Signatures, HashMap<String, SignatureDef>)>;

/// The models as TensorFlow Serving described them.
#[derive(Default)]
struct Catalog {
    models: BTreeMap<String, Versions>,
}

static RECORDS: LazyLock<Vec<Record>> = LazyLock::new(|| {
    let lines = include_str!("../fixtures/golden/tfs_golden.jsonl").lines();
    lines.map(|line| record(&serde_json::from_str(line).unwrap())).collect()
});

fn record(json: &serde_json::Value) -> Record {
    let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
    let bytes = |key: &str| BASE64_STANDARD.decode(text(key)).unwrap().into();
    Record {
        id: text("id"),
        note: text("note"),
        method: text("method"),
        request: bytes("request_b64"),
        code: json["code"].as_i64().unwrap() as i32,
        text: text("message"),
        response: bytes("response_b64"),
    }
}

impl Catalog {
    fn read() -> Self {
        let mut catalog = Self::default();
        for record in RECORDS.iter().filter(|record| record.method == METADATA && record.code == 0) {
            let response = GetModelMetadataResponse::decode(&record.response[..]).unwrap();
            let (signatures, version) = Signatures::from_metadata(&response).unwrap();
            let map = SignatureDefMap::decode(&response.metadata["signature_def"].value[..]).unwrap();
            let name = response.model_spec.unwrap().name;
            let versions = catalog.models.entry(name).or_default();
            versions.insert(version.unwrap(), (signatures, map.signature_def.into_iter().collect()));
        }
        catalog
    }

    /// The signatures of the version that a request selects; `None` if TensorFlow Serving has no
    /// such model, version or label.
    fn find(&self, spec: &ModelSpec) -> Option<&Signatures> {
        let versions = self.models.get(&spec.name)?;
        let version = match &spec.version {
            VersionChoice::Latest => *versions.keys().next_back()?,
            VersionChoice::Version(version) => *version,
            VersionChoice::Label(label) => *labels(&spec.name).get(label.as_str())?,
        };
        versions.get(&version).map(|(signatures, _)| signatures)
    }

    fn fakes(&self) -> Vec<Model> {
        let model = |(name, versions): (&String, &Versions)| Model {
            name: name.clone(),
            versions: versions.iter().map(|(number, (_, defs))| (*number, fake(defs))).collect(),
            labels: labels(name).into_iter().map(|(label, version)| (label.to_owned(), version)).collect(),
        };
        self.models.iter().map(model).collect()
    }
}

fn fake(defs: &HashMap<String, SignatureDef>) -> Version {
    let signatures = defs.iter().map(|(name, def)| (name.clone(), def.clone())).collect();
    Version {
        state: State::Available,
        error: None,
        signatures,
        compute: Arc::new(echo),
        encoded: OnceLock::new(),
    }
}

/// The labels of the recorded server.
fn labels(model: &str) -> BTreeMap<&'static str, i64> {
    if model == "mlp" { [("stable", 1), ("canary", 2)].into() } else { BTreeMap::new() }
}

/// A Predict request whose model and version exist, and the verdict on it.
struct Judged<'a> {
    record: &'a Record,
    message: Rope,
    signatures: &'a Signatures,
    /// `None` if the bytes are not a request.
    verdict: Option<Verdict>,
}

impl Judged<'_> {
    fn answer(&self) -> String {
        self.verdict.as_ref().map_or("MALFORMED".to_owned(), line)
    }

    fn action(&self) -> Action {
        self.verdict.as_ref().map_or(Action::Refuse, |verdict| verdict.action)
    }

    /// The forwarded message; the request must not be refused.
    fn forwarded(&self) -> Rope {
        let verdict = self.verdict.as_ref().unwrap();
        if verdict.action == Action::Forward {
            return self.message.clone();
        }
        apply(&self.message, &PredictView::scan(&self.message).unwrap(), &verdict.plan).unwrap()
    }
}

fn judged(catalog: &Catalog) -> Vec<Judged<'_>> {
    static NOTHING: LazyLock<Signatures> = LazyLock::new(Signatures::default);
    let mut all = Vec::new();
    for record in RECORDS.iter().filter(|record| record.method == PREDICT) {
        let message = Rope::from(record.request.clone());
        let signatures = match PredictView::scan(&message) {
            Err(_) => &*NOTHING,
            Ok(view) => match catalog.find(&view.model_spec) {
                Some(signatures) => signatures,
                None => continue,
            },
        };
        let verdict = decide(&message, signatures, &ModelPolicy::default());
        all.push(Judged { record, message, signatures, verdict });
    }
    all
}

/// Compares the rows `id, verdict, reason` of a table with the verdicts found.
fn check_table(name: &str, table: &str, found: &[&Judged<'_>]) {
    let mut rows: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    let mut faults = Vec::new();
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        let [id, answer, why] = fields[..] else { panic!("{name}: expected three fields: {line}") };
        if rows.insert(id, (answer, why)).is_some() {
            faults.push(format!("duplicate: {id}"));
        }
        if why.len() < 10 {
            faults.push(format!("without a reason: {id}"));
        }
    }
    for case in found {
        let (id, answer) = (case.record.id.as_str(), case.answer());
        match rows.remove(id) {
            Some((expected, _)) if expected == answer => {}
            Some((expected, _)) => faults.push(format!("differs: {id}\t{answer}\t(listed: {expected})")),
            None => faults.push(format!("missing:\n{id}\t{answer}\t{}", case.record.note)),
        }
    }
    faults.extend(rows.keys().map(|id| format!("superfluous: {id}")));
    assert!(faults.is_empty(), "{name}, {} differences:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn accepted_requests_are_forwarded_unchanged_or_listed_with_a_reason() {
    let catalog = Catalog::read();
    let all = judged(&catalog);
    let accepted: Vec<_> = all.iter().filter(|case| case.record.code == 0).collect();
    let total = RECORDS.iter().filter(|record| record.method == PREDICT && record.code == 0).count();
    assert_eq!((accepted.len(), total), (181, 181), "the catalog has the model of every accepted request");
    for case in accepted.iter().filter(|case| case.answer() == "conforms") {
        assert_eq!(case.action(), Action::Forward, "{}", case.record.id);
        assert_eq!(case.verdict.as_ref().unwrap().plan, Plan::default(), "{}", case.record.id);
    }
    let others: Vec<_> = accepted.into_iter().filter(|case| case.answer() != "conforms").collect();
    check_table("accepted_by_tf.tsv", ACCEPTED, &others);
}

#[test]
fn refused_requests_are_listed_with_their_verdict() {
    let catalog = Catalog::read();
    let all = judged(&catalog);
    let refused: Vec<_> = all.iter().filter(|case| case.record.code != 0).collect();
    check_table("refused_by_tf.tsv", REFUSED, &refused);
}

#[test]
fn every_recorded_error_of_a_model_run_is_explained() {
    let runs = |record: &&Record| record.method.contains("PredictionService") && record.method != METADATA;
    let errors = RECORDS.iter().filter(runs).filter(|record| record.code != 0 && !record.text.is_empty());
    let unknown: Vec<_> = errors
        .filter(|record| explain(&record.text, &Context::default()).is_none())
        .map(|record| format!("{}: {} {}", record.id, record.code, record.text))
        .collect();
    assert_eq!(unknown, [""; 0]);
}

/// A repaired request conforms, keeps all values in order, and keeps the bytes of every input that
/// no step names.
#[test]
fn a_repaired_request_keeps_all_values() {
    let catalog = Catalog::read();
    let mut seen = 0;
    for case in judged(&catalog).iter().filter(|case| case.action() == Action::Apply) {
        let id = &case.record.id;
        let plan = &case.verdict.as_ref().unwrap().plan;
        let after = case.forwarded();
        let again = decide(&after, case.signatures, &ModelPolicy::default()).unwrap();
        assert_eq!((again.action, again.outcome), (Action::Forward, Outcome::Conforming), "{id}");

        let before_view = PredictView::scan(&case.message).unwrap();
        let after_view = PredictView::scan(&after).unwrap();
        let before = PredictRequest::decode(&case.record.request[..]).unwrap();
        let changed = PredictRequest::decode(after.to_bytes()).unwrap();
        assert_eq!(before_view.inputs.len(), after_view.inputs.len(), "{id}");
        assert_eq!(before.output_filter, changed.output_filter, "{id}");
        for (index, input) in before_view.inputs.iter().enumerate() {
            let steps: Vec<_> = plan.steps.iter().filter(|step| step.index == Some(index)).collect();
            let key = steps.iter().find_map(|step| match &step.change {
                Change::Key { new, .. } => Some(new.as_str()),
                _ => None,
            });
            let to = after_view.input(key.unwrap_or(&input.key)).unwrap();
            if steps.is_empty() {
                assert_eq!(case.message.slice(input.entry.clone()), after.slice(to.entry.clone()), "{id}");
                continue;
            }
            let lossy = steps.iter().any(|step| step.rule.lossy);
            let mut sent = values(&before.inputs[&input.key]);
            if lossy {
                sent = sent.iter().map(rounded).collect();
            }
            assert_eq!(values(&changed.inputs[&to.key]), sent, "{id}");
            seen += 1;
        }
    }
    assert!(seen > 100, "{seen} repaired tensors");
}

#[test]
fn no_request_of_any_method_panics_in_any_mode() {
    let catalog = Catalog::read();
    let fallback = catalog.models["mlp"].values().next().unwrap();
    for record in RECORDS.iter() {
        let message = Rope::from(record.request.clone());
        let mut actions = Vec::new();
        for mode in Mode::ALL {
            let mut policy = ModelPolicy::default();
            policy.defaults.mode = mode;
            if let Ok(view) = PredictView::scan(&message) {
                let signatures = catalog.find(&view.model_spec).unwrap_or(&fallback.0);
                let verdict = decide(&message, signatures, &policy).unwrap();
                // Every plan can be applied, even if the request is not forwarded.
                apply(&message, &view, &verdict.plan).unwrap();
                let shielded = verdict.problems.iter().any(|problem| problem.weight == Weight::Shield);
                actions.push((verdict.action, shielded));
            }
            for view in
                [InferView::scan_single(&message), InferView::scan_multi(&message)].into_iter().flatten()
            {
                let verdict = judge_infer(&view, &fallback.0, &policy, None, None);
                apply_infer(&message, &view, &verdict.plan);
            }
        }
        if let [(off, _), (observe, shielded), (repair, _), (strict, _)] = actions[..] {
            let id = &record.id;
            assert_eq!(off, Action::Forward, "{id}");
            assert_eq!(observe == Action::Forward, !shielded, "{id}");
            assert_ne!(strict, Action::Apply, "{id}");
            // Strict and repair forward the same requests unchanged.
            assert_eq!(strict == Action::Forward, repair == Action::Forward, "{id}");
        }
    }
}

/// Through a running sidecar, exactly the request or its repair arrives, and the recorded answer
/// comes back.
#[tokio::test]
async fn recorded_requests_and_answers_pass_byte_for_byte() {
    let catalog = Catalog::read();
    let models = catalog.fakes();
    let names = models.iter().map(|model| model.name.clone()).collect();
    let setup = Setup::before(FakeTfs::start(models), names, |_| {}).await;
    let all = judged(&catalog);
    let sent: Vec<_> = all.iter().filter(|case| case.action() != Action::Refuse).collect();
    for case in &sent {
        let Record { id, request, code, text, response, .. } = case.record;
        let act = match code {
            0 => Act::Message(response.clone()),
            _ => Act::Status { code: *code, text: text.clone() },
        };
        setup.fake.script(PREDICT, 1, act);
        let reply = setup.client.call(Request::predict(request)).await;
        assert_eq!((reply.code, &reply.message), (*code, response), "{id}");
        assert!(reply.text.starts_with(text.as_str()), "{id}: {}", reply.text);
        assert_eq!(reply.repairs().is_empty(), case.action() == Action::Forward, "{id}");
    }
    let calls = setup.fake.calls_of(PREDICT);
    assert_eq!(calls.len(), sent.len());
    let mut untouched = 0;
    for (case, call) in sent.iter().zip(calls) {
        // Not `assert_eq!`, which would print a megabyte.
        assert!(call.message == case.forwarded().to_bytes(), "{}", case.record.id);
        untouched += usize::from(case.action() == Action::Forward);
    }
    assert!(untouched > 100, "{untouched} requests forwarded unchanged");
    setup.sidecar.stop().await;
}

/// What the graph makes of rows that differ, the signature does not tell: such a request is
/// forwarded, and the client is warned.
#[test]
fn requests_that_conform_and_whose_rows_differ_are_warned_about() {
    let catalog = Catalog::read();
    let all = judged(&catalog);
    let warned = all.iter().filter_map(|case| {
        let warning =
            case.verdict.as_ref()?.warnings.iter().find(|warning| warning.reason == Reason::BatchMismatch)?;
        Some((case.record.id.as_str(), warning.text.as_str(), case.record.code))
    });
    let expected = [
        ("two.batch_mismatch", "rows differ: k 2, x 3", 3),
        ("two.batch_mismatch_bcast", "rows differ: k 1, x 3", 0),
        ("two.batch_0_3", "rows differ: k 0, x 3", 3),
        ("ab.mismatch", "rows differ: a 2, b 3", 3),
        ("ab.mismatch_filter", "rows differ: a 1, b 3", 3),
        ("ab.mismatch_both", "rows differ: a 1, b 3", 3),
    ];
    assert_eq!(warned.collect::<Vec<_>>(), expected);
}
