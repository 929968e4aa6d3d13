//! The stage that compares the values of a request with the training data, after its repairs: what
//! the model gets.
use std::sync::Arc;
use std::time::SystemTime;

use smallvec::SmallVec;

use super::context::RequestContext;
use super::operation::Operation;
use super::stages;
use crate::fault::Fault;
use crate::models::catalog::ModelVersion;
use crate::preprocessing::{Standing, Watched};
use crate::profile::{Budget, Finding, Kind, Sample, TensorProfile, Value};
use crate::repair::policy::{ModelPolicy, OnFinding, ProfileCheck};
use crate::repair::report::ascii;
use crate::repair::{Action, Mode, Outcome, Problem, Reason, Verdict, Warning};
use crate::telemetry::metrics::ModelMetrics;
use crate::wire::values;
use crate::wire::{InputView, PredictView, Rope};

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
}

/// Compares the values of a request, and adds what is found to its verdict. Returns the message
/// after its repairs if it had to be made for that.
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
) -> Result<Option<Rope>, Fault> {
    let Some(view) = operation.predict() else { return Ok(None) };
    let Some(signature) = verdict.signature.clone() else { return Ok(None) };
    let policy = policy.for_signature(&signature.name);
    let Some(read) = policy.compared(&signature.name) else { return Ok(None) };
    if !verdict.problems.is_empty() || verdict.action == Action::Refuse {
        return Ok(None);
    }
    let repaired = match verdict.action {
        Action::Apply => Some(stages::apply(cx, operation, message, &verdict.plan).await?),
        Action::Forward | Action::Refuse => None,
    };
    let watched = cx.shard.preprocessing.watched(&version.model, &signature.name, read);
    let reports = match &repaired {
        // A message that was made here can be scanned.
        Some(repaired) => match PredictView::scan(repaired) {
            Ok(view) => look(cx, &watched, policy.profile_check, repaired, &view),
            Err(error) => return Err(Fault::Internal { problem: error.to_string() }),
        },
        None => look(cx, &watched, policy.profile_check, message, view),
    };
    if !reports.is_empty() {
        report(cx, &watched, version.metrics(&signature.name), &reports);
        add(verdict, policy.profile_check.on_finding, reports);
    }
    Ok(repaired)
}

/// Looks at the values of all inputs that have a profile.
fn look(
    cx: &RequestContext<'_>,
    watched: &Arc<Watched>,
    check: ProfileCheck,
    message: &Rope,
    view: &PredictView,
) -> Vec<Report> {
    let now = SystemTime::now();
    let client = cx.client().name();
    let caller = if cx.options.dry_run { None } else { watched.caller(client, now) };
    let mut seen = (!cx.options.dry_run).then(|| watched.see(caller.as_ref(), now));
    let mut sample = cx.shard.sample.borrow_mut();
    let mut reports = Vec::new();
    let mut outside: SmallVec<[usize; 4]> = SmallVec::new();
    for input in &view.inputs {
        let Some((at, name, profile)) = watched.input(&input.key) else { continue };
        let mut findings = Vec::new();
        if profile.text.is_some() {
            let texts = values::strings(message, &input.tensor, MAX_TEXTS, MAX_TEXT);
            crate::profile::texts(profile, &texts, &mut findings);
        } else if read(message, input, profile, check, &mut sample) {
            crate::profile::rows(profile, &sample, &mut findings);
            let is_outside = !is_within(profile, &sample);
            if is_outside {
                outside.push(at);
            }
            if let Some(seen) = &mut seen {
                seen.add(at, profile, &sample, is_outside);
            }
        }
        reports.extend(findings.iter().map(|finding| of_row(name, finding)));
    }
    drop(sample);
    if let Some(seen) = seen
        && seen.end()
        && let Some(caller) = &caller
    {
        let (watched, caller) = (Arc::clone(watched), Arc::clone(caller));
        // It is pure, and nobody waits for it.
        drop(tokio::task::spawn_blocking(move || watched.decide(&caller)));
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
    reports
}

fn read(
    message: &Rope,
    input: &InputView,
    profile: &TensorProfile,
    check: ProfileCheck,
    sample: &mut Sample,
) -> bool {
    let budget = Budget { values: check.budget as usize, rows: check.sample as usize };
    sample.read(message, &input.tensor, profile.by, profile.features.len(), budget)
}

/// Whether all values are within what the training data had.
fn is_within(profile: &TensorProfile, sample: &Sample) -> bool {
    let groups = sample.values.chunks_exact(sample.features.max(1));
    groups.into_iter().all(|group| {
        group.iter().zip(&profile.features).all(|(value, of)| (of.min..=of.max).contains(value))
    })
}

fn of_row(input: &Arc<str>, finding: &Finding) -> Report {
    let reason = reason(finding.kind);
    let text = format!("{} ({reason})", finding.for_operator(input));
    Report { reason, input: Arc::clone(input), text, told: Some(Told::of(finding)) }
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
    fn of(finding: &Finding) -> Self {
        let mut value = match &finding.value {
            Value::Number(value) => value.to_string(),
            Value::Text(bytes) => format!("`{}`", bytes.escape_ascii()),
        };
        if let Some((min, max)) = finding.range {
            value += &format!(" (training data: {min} to {max})");
        }
        let of = if finding.name.is_empty() { String::new() } else { format!("of feature {} ", ascii(&finding.name)) };
        Self { value, of }
    }
}

impl Report {
    fn problem(self) -> Problem {
        match self.told {
            None => Problem::new(self.reason, &self.input, self.text),
            Some(Told { value, of }) => {
                let what = format!("{of}{}", what(self.reason));
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
