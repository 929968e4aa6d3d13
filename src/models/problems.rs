//! What is wrong with the models, in sentences: one that is not served, a version that does not
//! load, settings that match no signature. For the log, probes, metrics and the page.
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use tonic::Code;

use super::config_problems::ConfigProblem;
use super::metadata_client::{VersionState, is_answer};
use crate::doctor::ops;
use crate::explain::{self, Context};
use crate::fault::Fault;
use crate::proto::tensorflow::serving::model_version_status::State;
use crate::repair::report::{ascii, one_line};
use crate::telemetry::metrics::{self, ModelProblemKind};

/// A version that has been loading for this long is a problem even if another one is served. TF
/// Serving tries up to six times, a minute apart, and says nothing meanwhile.
const LONG: Duration = Duration::from_secs(60);
/// Versions of one model that are listed, the highest first. TF Serving lists every version that it
/// has ever seen.
const MAX_VERSIONS: usize = 8;
/// Bytes of TF Serving's text that are kept.
const MAX_TEXT: usize = 1024;

/// The problems of all models. The control thread writes them, the admin listener reads them.
#[derive(Debug, Default)]
pub(crate) struct ModelProblems(Mutex<BTreeMap<String, Known>>);

#[derive(Debug, Default)]
struct Known {
    problems: Vec<ModelProblem>,
    config: Vec<ConfigProblem>,
    /// The versions that are being loaded, and since when they have been seen to be.
    loading: BTreeMap<i64, Instant>,
}

/// Why a model or one version of it is not served.
#[derive(Debug, Clone)]
pub(super) struct ModelProblem {
    version: Option<i64>,
    kind: ModelProblemKind,
    /// TF Serving's own text and what it means; empty if it gives none.
    cause: String,
    since: Instant,
}

impl ModelProblem {
    fn new(version: Option<i64>, kind: ModelProblemKind, text: &str) -> Self {
        Self { version, kind, cause: explained(text), since: Instant::now() }
    }

    /// What TF Serving's answer says about the model; `None` if it did not answer.
    pub(super) fn of_fault(fault: &Fault) -> Option<Self> {
        match fault {
            Fault::ModelUnknown { text, .. } => Some(Self::new(None, ModelProblemKind::NotServed, text)),
            Fault::Upstream { code, message } if is_answer(fault) => {
                let text = format!("{}: {message}", metrics::code_name(*code));
                Some(Self::new(None, ModelProblemKind::MetadataFailed, &text))
            }
            Fault::Internal { problem } => Some(Self::new(None, ModelProblemKind::MetadataFailed, problem)),
            _ => None,
        }
    }

    /// A version that does not answer its probe.
    pub(super) fn of_probe(version: i64, text: &str) -> Self {
        Self::new(Some(version), ModelProblemKind::ProbeFailed, text)
    }

    /// A version whose probe is not answered yet.
    pub(super) fn of_running_probe(version: i64) -> Self {
        Self::new(Some(version), ModelProblemKind::Probing, "")
    }

    fn is_same(&self, other: &Self) -> bool {
        (self.version, self.kind) == (other.version, other.kind)
    }

    fn sentence(&self, model: &str) -> String {
        let model = ascii(model);
        let version = self.version.unwrap_or_default();
        let cause = &self.cause;
        match self.kind {
            ModelProblemKind::NotServed => format!(
                "TF Serving does not serve model '{model}': {cause} (compare the name with its `--model_name` or `--model_config_file`)"
            ),
            ModelProblemKind::MetadataFailed => {
                format!("the signatures of model '{model}' cannot be read: {cause}")
            }
            ModelProblemKind::LoadFailed => {
                format!("version {version} of model '{model}' failed to load: {cause}")
            }
            ModelProblemKind::ProbeFailed => {
                format!("version {version} of model '{model}' does not answer a request of zeros: {cause}")
            }
            ModelProblemKind::Probing => {
                format!("version {version} of model '{model}' has not answered its probe yet")
            }
            ModelProblemKind::Loading => {
                let seconds = self.since.elapsed().as_secs();
                let time = if seconds > 0 { format!(" (for {seconds} s)") } else { String::new() };
                format!("version {version} of model '{model}' is still loading{time}")
            }
        }
    }
}

impl ModelProblems {
    /// What the state of a model's versions says. Failed versions below all that are served are
    /// history, which TF Serving lists as long as it runs.
    pub(super) fn of_versions(&self, model: &str, versions: &[VersionState]) -> Vec<ModelProblem> {
        let mut all = self.lock();
        let loading = &mut all.entry(model.to_owned()).or_default().loading;
        let is_loading = |state: State| matches!(state, State::Start | State::Loading);
        loading.retain(|version, _| {
            versions.iter().any(|other| other.version == *version && is_loading(other.state))
        });
        let lowest = versions.iter().filter(|it| it.state == State::Available).map(|it| it.version).min();
        let mut problems = Vec::new();
        for VersionState { version, state, error } in versions {
            if problems.len() == MAX_VERSIONS {
                break;
            }
            match (state, error) {
                (State::End, Some(error)) if lowest.is_none_or(|lowest| *version > lowest) => {
                    problems.push(ModelProblem::new(Some(*version), ModelProblemKind::LoadFailed, error));
                }
                (state, _) if is_loading(*state) => {
                    let since = *loading.entry(*version).or_insert_with(Instant::now);
                    if lowest.is_none() || since.elapsed() >= LONG {
                        let problem = ModelProblem::new(Some(*version), ModelProblemKind::Loading, "");
                        problems.push(ModelProblem { since, ..problem });
                    }
                }
                _ => {}
            }
        }
        if lowest.is_none() && problems.is_empty() {
            problems.push(ModelProblem::new(None, ModelProblemKind::NotServed, "no version of it is loaded"));
        }
        problems
    }

    /// Replaces the problems of a model. New ones are logged.
    pub(super) fn set(&self, model: &str, problems: Vec<ModelProblem>) {
        let mut all = self.lock();
        let known = all.entry(model.to_owned()).or_default();
        for problem in &problems {
            if !known.problems.iter().any(|old| old.is_same(problem)) {
                let version = problem.version;
                tracing::warn!(model, version, "{}", problem.sentence(model));
            }
        }
        if problems.is_empty() && !known.problems.is_empty() {
            tracing::info!(model, "the model has no problem any more");
        }
        let series = problems
            .iter()
            .map(|problem| {
                let version = problem.version.map_or_else(String::new, |version| version.to_string());
                (version, problem.kind)
            })
            .collect();
        metrics::set_model_problems(model, series);
        known.problems = problems;
    }

    /// Replaces what is wrong with the settings of a model. New problems are logged.
    pub(super) fn set_config(&self, model: &str, problems: Vec<ConfigProblem>) {
        let mut all = self.lock();
        let known = all.entry(model.to_owned()).or_default();
        for problem in problems.iter().filter(|problem| !known.config.contains(problem)) {
            tracing::warn!(model, "{}", config_line(problem));
        }
        metrics::set_config_problems(model, problems.len());
        known.config = problems;
    }

    /// Forgets a model that is neither configured nor served.
    pub(super) fn forget(&self, model: &str) {
        if self.lock().remove(model).is_some() {
            metrics::set_model_problems(model, Vec::new());
        }
    }

    /// Forgets the models that are not kept.
    pub(super) fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.lock().retain(|model, _| {
            let keeps = keep(model);
            if !keeps {
                metrics::set_model_problems(model, Vec::new());
                metrics::set_config_problems(model, 0);
            }
            keeps
        });
    }

    /// Whether a probe keeps the model from being ready.
    pub(crate) fn is_held(&self, model: &str) -> bool {
        let all = self.lock();
        let mut problems = all.get(model).into_iter().flat_map(|known| &known.problems);
        problems
            .any(|problem| matches!(problem.kind, ModelProblemKind::ProbeFailed | ModelProblemKind::Probing))
    }

    /// Why the model is not served, or one of its versions, one sentence each.
    pub(crate) fn of(&self, model: &str) -> Vec<String> {
        let all = self.lock();
        let problems = all.get(model).into_iter().flat_map(|known| &known.problems);
        problems.map(|problem| problem.sentence(model)).collect()
    }

    /// The problems of all models: `[{"model", "version", "kind", "problem"}]`.
    pub(crate) fn to_json(&self) -> Value {
        let all = self.lock();
        let problems = all.iter().flat_map(|(model, known)| {
            known.problems.iter().map(move |problem| {
                let (version, kind) = (problem.version, problem.kind.as_str());
                json!({"model": model, "version": version, "kind": kind, "problem": problem.sentence(model)})
            })
        });
        problems.collect()
    }

    /// What is wrong with the settings of all models, one line each.
    pub(crate) fn of_config(&self) -> Vec<String> {
        self.lock().values().flat_map(|known| &known.config).map(config_line).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn config_line(problem: &ConfigProblem) -> String {
    format!("configuration: {problem}")
}

/// TF Serving's text on one line, with what it means, and which TensorFlow or package has the
/// operation that is missing.
fn explained(text: &str) -> String {
    let meaning = explain::explain(text, &Context::default());
    let detail = ops::of_error(text).map_or_else(String::new, |detail| format!(" ({detail})"));
    let mut line = one_line(text);
    if line.len() > MAX_TEXT {
        line.truncate(MAX_TEXT);
        line.push_str("...");
    }
    meaning.map_or(line.clone(), |meaning| line + &meaning.to_string()) + &detail
}

/// An error of a load: gRPC's code and TF Serving's text; `None` for OK.
pub(super) fn load_error(code: i32, text: &str) -> Option<String> {
    let code = Code::from_i32(code);
    (code != Code::Ok).then(|| format!("{}: {text}", metrics::code_name(code)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogFormat;
    use crate::telemetry::log::tests::captured;

    fn state(version: i64, state: State, error: Option<&str>) -> VersionState {
        VersionState { version, state, error: error.map(str::to_owned) }
    }

    fn sentences(versions: &[VersionState]) -> Vec<String> {
        let problems = ModelProblems::default();
        problems.set("m", problems.of_versions("m", versions));
        problems.of("m")
    }

    #[test]
    fn a_version_that_failed_to_load_says_why() {
        let failed = |version| state(version, State::End, Some("NOT_FOUND: Op type not registered 'Foo'"));
        let served = |version| state(version, State::Available, None);
        let [text] = &sentences(&[failed(2), served(1)])[..] else { panic!("one problem") };
        assert!(text.starts_with("version 2 of model 'm' failed to load: NOT_FOUND: Op type"), "{text}");
        assert!(text.contains("[tfs-sidecar: "), "explained: {text}");
        assert!(text.ends_with("(op `Foo` is not TensorFlow's own in 2.4 to 2.21: it is a custom op, which must be built into the server)"), "{text}");
        assert_eq!(sentences(&[served(3), failed(2)]), [""; 0], "history");
        assert_eq!(sentences(&[served(3), failed(2), served(1)]).len(), 1);
        assert_eq!(sentences(&[state(2, State::End, None), served(1)]), [""; 0], "unloaded");
        assert_eq!(sentences(&[failed(2)]).len(), 1);
        let many: Vec<VersionState> = (1..100).rev().map(failed).collect();
        assert_eq!(sentences(&many).len(), MAX_VERSIONS);
        let [text] = &sentences(&[state(2, State::End, None)])[..] else { panic!("one problem") };
        assert!(
            text.starts_with("TF Serving does not serve model 'm': no version of it is loaded ("),
            "{text}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_version_that_loads_for_long_is_a_problem_and_at_once_if_no_other_is_served() {
        assert_eq!(sentences(&[state(1, State::Loading, None)]), ["version 1 of model 'm' is still loading"]);
        let problems = ModelProblems::default();
        let versions = [state(2, State::Loading, None), state(1, State::Available, None)];
        problems.set("m", Vec::new());
        assert!(problems.of_versions("m", &versions).is_empty());
        tokio::time::advance(LONG).await;
        problems.set("m", problems.of_versions("m", &versions));
        assert_eq!(problems.of("m"), ["version 2 of model 'm' is still loading (for 60 s)"]);
        let loaded = [state(2, State::Available, None), state(1, State::Available, None)];
        problems.set("m", problems.of_versions("m", &loaded));
        assert!(problems.of("m").is_empty());
        // The next time is counted from its own beginning.
        assert!(problems.of_versions("m", &versions).is_empty());
    }

    #[test]
    fn a_problem_is_logged_once_and_so_is_its_end() {
        let problems = ModelProblems::default();
        let unknown = Fault::ModelUnknown { model: "m".to_owned(), text: "Could not find any".to_owned() };
        let failed = Fault::Upstream { code: Code::Internal, message: "two\nlines".to_owned() };
        let text = captured(LogFormat::Text, "info", || {
            for fault in [&unknown, &unknown, &failed, &failed] {
                problems.set("m", ModelProblem::of_fault(fault).into_iter().collect());
            }
            problems.set("m", Vec::new());
            problems.set("m", Vec::new());
            let config = ConfigProblem { path: "models.m".to_owned(), what: "wrong".to_owned() };
            problems.set_config("m", vec![config.clone()]);
            problems.set_config("m", vec![config]);
        });
        let lines: Vec<&str> =
            text.lines().filter_map(|line| line.split_once("Z  ")).map(|(_, it)| it).collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(
            lines[0].starts_with("WARN TF Serving does not serve model 'm': Could not find any (compare"),
            "{text}"
        );
        assert!(
            lines[1].starts_with(r"WARN the signatures of model 'm' cannot be read: INTERNAL: two\nlines")
        );
        assert!(lines[2].starts_with("INFO the model has no problem any more"));
        assert!(lines[3].starts_with("WARN configuration: `models.m`: wrong"));
        let unanswered = Fault::Deadline { during: "waiting" };
        assert!(ModelProblem::of_fault(&unanswered).is_none(), "says nothing about the model");
    }
}
