//! The stage that compares the values of a request with the training data, after its repairs: what
//! the model gets.
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::HeaderMap;
use smallvec::SmallVec;

use super::answer::Answer;
use super::context::RequestContext;
use super::operation::Operation;
use super::repair_metadata::append_warning;
use super::stages;
use crate::fault::Fault;
use crate::models::catalog::ModelVersion;
use crate::preprocessing::{Input, Standing, Watched};
use crate::profile::{self, Budget, FeatureProfile, Finding, Kind, Sample, Value};
use crate::repair::policy::{ModelPolicy, OnFinding, ProfileCheck};
use crate::repair::report::ascii;
use crate::repair::{Action, Mode, Outcome, Problem, Reason, Verdict, Warning};
use crate::telemetry::metrics::ModelMetrics;
use crate::wire::values;
use crate::wire::{PredictView, Rope};

/// Findings of one request that are reported.
const MAX_FINDINGS: usize = 8;
/// Strings of one input that are looked at, and bytes of each.
const MAX_TEXTS: usize = 64;
const MAX_TEXT: usize = 256;

/// What was found in a request.
#[derive(Debug)]
struct Report {
    reason: Reason,
    input: Arc<str>,
    /// One line of ASCII without a value.
    text: String,
    /// For a single value, what only its client is told.
    told: Option<Told>,
}

#[derive(Debug)]
struct Told {
    value: String,
    /// The feature, if there are several.
    of: String,
    /// How many others have the same.
    more: String,
}

/// What came of the comparison.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// The message after its repairs, if it had to be made.
    pub(super) repaired: Option<Rope>,
    /// The answer is to be looked at.
    answer: Option<(Arc<Watched>, u64)>,
}

/// Compares the values of a request, and adds what is found to its verdict.
///
/// # Errors
/// The repairs cannot be made.
pub(super) async fn compare(
    cx: &mut RequestContext<'_>,
    operation: &Operation,
    message: &Rope,
    version: &ModelVersion,
    policy: &ModelPolicy,
    verdict: &mut Verdict,
) -> Result<Compared, Fault> {
    let none = Ok(Compared::default());
    let Some(view) = operation.predict() else { return none };
    let Some(signature) = verdict.signature.clone() else { return none };
    let policy = policy.for_signature(&signature.name);
    let preprocessing = Arc::clone(&cx.shard.preprocessing);
    let learning = preprocessing.learning(&version.model, &signature.name).filter(|_| !cx.options.dry_run);
    let read = policy.compared(&signature.name);
    if !verdict.problems.is_empty() || read.is_none() && learning.is_none() {
        return none;
    }
    let repaired = match verdict.action {
        Action::Apply => Some(stages::apply(cx, operation, message, &verdict.plan).await?),
        Action::Forward => None,
        Action::Refuse => return none,
    };
    let scanned;
    let (message, view) = match &repaired {
        None => (message, view),
        Some(repaired) => {
            // A message that was made here can be scanned.
            scanned = PredictView::scan(repaired)
                .map_err(|error| Fault::Internal { problem: error.to_string() })?;
            (repaired, &scanned)
        }
    };
    if let Some(learning) = learning.filter(|_| verdict.outcome != Outcome::WouldRepair) {
        learning.add(&signature, message, &view.inputs, &mut cx.shard.sample.borrow_mut());
    }
    let Some(read) = read else { return Ok(Compared { repaired, answer: None }) };
    let watched = preprocessing.watched(&version.model, &signature.name, read);
    let check = policy.profile_check;
    let is_due = !cx.options.dry_run && watched.answers.is_due(check.answers);
    let (reports, hash) = look(cx, &watched, check, message, view, is_due);
    if !reports.is_empty() {
        report(cx, &watched, version.metrics(&signature.name), &reports);
        add(verdict, check.on_finding, reports);
    }
    Ok(Compared { repaired, answer: is_due.then_some((watched, hash)) })
}

/// Looks at the values of all inputs that have a profile. Also returns a hash of them if asked for
/// one.
fn look(
    cx: &RequestContext<'_>,
    watched: &Arc<Watched>,
    check: ProfileCheck,
    message: &Rope,
    view: &PredictView,
    hashes: bool,
) -> (Vec<Report>, u64) {
    let now = SystemTime::now();
    let caller = if cx.options.dry_run { None } else { watched.caller(cx.client().name(), now) };
    let mut seen = (!cx.options.dry_run).then(|| watched.see(caller.as_ref(), now));
    let mut sample = cx.shard.sample.borrow_mut();
    let budget = Budget { values: check.budget as usize, rows: check.sample as usize };
    let (mut reports, mut hash) = (Vec::new(), 0_u64);
    let mut outside: SmallVec<[usize; 4]> = SmallVec::new();
    for input in &view.inputs {
        let Some((at, Input { name, checks }, profile)) = watched.input(&input.key) else { continue };
        let mut findings = Vec::new();
        match (checks, &profile.text) {
            (_, Some(text)) => {
                let texts = values::strings(message, &input.tensor, MAX_TEXTS, MAX_TEXT);
                profile::texts(text, texts.iter().map(|text| &**text), &mut findings);
                if hashes {
                    hash = mixed(hash, hash_texts(&texts));
                }
            }
            (Some(checks), None) => {
                if !sample.read(message, &input.tensor, checks.by(), checks.width(), budget) {
                    continue;
                }
                checks.rows(&sample, &mut findings);
                let is_outside = !is_within(&profile.features, &sample);
                if is_outside {
                    outside.push(at);
                }
                if let Some(seen) = &mut seen {
                    seen.add(at, checks, &sample, is_outside);
                }
                if hashes {
                    hash = mixed(hash, profile::hash_values(&sample.values));
                }
            }
            (None, None) => {}
        }
        extend(&mut reports, name, &findings);
    }
    drop(sample);
    if let Some(seen) = seen {
        seen.end();
    }
    if let Some(caller) = &caller {
        let standing = caller.standing();
        // If all requests with the mistake had values that the training data does not reach, one
        // without any does not make it.
        let has_it = |of: &&Standing| {
            let is_outside = || watched.input(&of.input).is_some_and(|(at, ..)| outside.contains(&at));
            !of.always_outside || is_outside()
        };
        reports.splice(0..0, standing.iter().filter(has_it).map(of_caller));
    }
    reports.truncate(MAX_FINDINGS);
    (reports, hash)
}

fn mixed(hash: u64, other: u64) -> u64 {
    (hash.rotate_left(5) ^ other).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn hash_texts(texts: &[Bytes]) -> u64 {
    let mut hasher = DefaultHasher::new();
    texts.hash(&mut hasher);
    hasher.finish()
}

/// Whether all values are within what the training data had.
fn is_within(features: &[FeatureProfile], sample: &Sample) -> bool {
    let within = |(value, of): (&f64, &FeatureProfile)| (of.min..=of.max).contains(value);
    sample.values.chunks_exact(sample.features.max(1)).all(|group| group.iter().zip(features).all(within))
}

impl Compared {
    /// Whether the answer is one of the share that is looked at.
    #[inline]
    pub(super) fn looks_at_answer(&self) -> bool {
        self.answer.is_some()
    }

    /// Looks at the answer if it is one of the share that is looked at. What is found is added to
    /// its metadata.
    ///
    /// # Errors
    /// The answer could not be read to its end.
    pub(super) async fn look_at(
        self,
        cx: &mut RequestContext<'_>,
        answer: &mut Answer,
        verdict: &Verdict,
        metadata: &mut Option<HeaderMap>,
    ) -> Result<(), Fault> {
        let Some((watched, request)) = self.answer else { return Ok(()) };
        answer.gather(&mut cx.ticket).await?;
        let Some(message) = answer.message() else { return Ok(()) };
        let found = watched.answers.look(request, &message, &mut cx.shard.sample.borrow_mut());
        let now = SystemTime::now();
        for (output, finding) in found {
            let kind = finding.kind.name();
            let text = format!("{} ({kind})", finding.for_operator(&output));
            cx.metrics.model().finding(&output, kind, cx.client());
            if watched.list(cx.client().name(), &output, kind, &text, now) {
                let (model, signature) = (watched.model(), watched.signature());
                tracing::warn!(model, signature, output = &*output, kind, "{text}");
            }
            if verdict.mode != Mode::Observe {
                append_warning(metadata.get_or_insert_default(), text);
            }
        }
        Ok(())
    }
}

/// One report for each kind of finding, about its first feature.
fn extend(reports: &mut Vec<Report>, input: &Arc<str>, findings: &[Finding]) {
    for (at, finding) in findings.iter().enumerate() {
        let is_alike = |other: &&Finding| other.kind == finding.kind;
        if findings.iter().take(at).any(|other| is_alike(&other)) {
            continue;
        }
        let reason = reason(finding.kind);
        let more = match findings.iter().filter(is_alike).count() - 1 {
            0 => String::new(),
            1 => ", and so is another feature".to_owned(),
            more => format!(", and so are {more} other features"),
        };
        let text = format!("{}{more} ({reason})", finding.for_operator(input));
        reports.push(Report { reason, input: Arc::clone(input), text, told: Some(Told::of(finding, more)) });
    }
}

fn of_caller(standing: &Standing) -> Report {
    let (reason, input) = (Reason::Shifted, Arc::clone(&standing.input));
    Report { reason, input, text: standing.text.clone(), told: None }
}

fn reason(kind: Kind) -> Reason {
    match kind {
        Kind::OutOfRange => Reason::FarOutOfRange,
        Kind::NotFinite | Kind::AnswerNotFinite => Reason::NotFinite,
        Kind::UnknownCategory => Reason::UnknownCategory,
        Kind::EmptyText => Reason::EmptyText,
        Kind::Shifted | Kind::AnswerConstant => Reason::Shifted,
    }
}

impl Told {
    fn of(finding: &Finding, more: String) -> Self {
        let mut value = match &finding.value {
            Value::Number(value) => value.to_string(),
            Value::Text(bytes) => format!("`{}`", bytes.escape_ascii()),
        };
        if let Some((min, max)) = finding.range {
            value = format!("{value} (training data: {min} to {max})");
        }
        let of = if finding.name.is_empty() {
            String::new()
        } else {
            format!("of feature {} ", ascii(&finding.name))
        };
        Self { value, of, more }
    }
}

impl Report {
    fn problem(self) -> Problem {
        match self.told {
            None => {
                // A problem says its reason itself.
                let text = self.text.strip_suffix(&format!(" ({})", self.reason)).unwrap_or(&self.text);
                Problem::new(self.reason, &self.input, text.to_owned())
            }
            Some(Told { value, of, more }) => {
                let what = format!("{of}{}{more}", what(self.reason));
                Problem { value: Some(value.into()), ..Problem::new(self.reason, &self.input, what) }
            }
        }
    }
}

/// What is wrong with a value, after the value.
fn what(reason: Reason) -> &'static str {
    match reason {
        Reason::NotFinite => "is not finite, as all of the training data is",
        Reason::UnknownCategory => "is none of those that the training data has",
        Reason::EmptyText => "is an empty string, which the training data does not have",
        _ => "is more than three ranges outside of the training data",
    }
}

/// Counts and lists what was found. A dry run only tells its client.
fn report(cx: &RequestContext<'_>, watched: &Watched, metrics: &ModelMetrics, reports: &[Report]) {
    if cx.options.dry_run {
        return;
    }
    let (client, now) = (cx.client(), SystemTime::now());
    for report in reports {
        let kind = report.reason.as_str();
        metrics.finding(&report.input, kind, client);
        watched.list(client.name(), &report.input, kind, &report.text, now);
    }
}

/// Makes warnings or problems of what was found.
fn add(verdict: &mut Verdict, on_finding: OnFinding, reports: Vec<Report>) {
    if on_finding != OnFinding::Refuse {
        verdict.warnings.extend(reports.into_iter().map(|report| Warning {
            reason: report.reason,
            input: report.input.to_string(),
            text: report.text,
        }));
        return;
    }
    verdict.warnings.clear();
    verdict.problems.extend(reports.into_iter().map(Report::problem));
    (verdict.action, verdict.outcome) = match verdict.mode {
        Mode::Off | Mode::Observe => (Action::Forward, Outcome::WouldReject),
        Mode::Repair | Mode::Strict => (Action::Refuse, Outcome::Rejected),
    };
}
