//! What a version with other signatures would make of a form that was seen.
use std::cell::Cell;
use std::collections::BTreeSet;

use super::form::{Api, Choice, Finding, Form, Method, Range};
use super::sample::{Chosen, body, message};
use super::store::Counted;
use crate::config::Config;
use crate::repair::infer::judge_infer;
use crate::repair::policy::{MissingInputs, ModelPolicy};
use crate::repair::{self, Limits, Outcome, Verdict, signature_of};
use crate::signature::Signatures;
use crate::wire::infer::InferView;
use crate::wire::{PredictView, Rope};

/// What a form is judged against.
pub(crate) struct Target<'a> {
    pub signatures: &'a Signatures,
    pub policy: ModelPolicy,
    pub limits: Limits,
    /// The signatures that the forms were sent to, if they are known.
    pub(super) before: Option<&'a Signatures>,
    json: Option<(JudgeBody, &'a Config)>,
    /// Bytes that may still be made and judged.
    work: Cell<u64>,
}

/// Judges a JSON body of a Predict request of a form, as the REST listener does. `None`: it cannot
/// be.
pub(crate) type JudgeBody = fn(&Config, &Signatures, &ModelPolicy, &Form, &[u8]) -> Option<Verdict>;

/// What would change for a form. From the best to the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Class {
    /// Nothing changes.
    AsBefore,
    /// It was repaired or refused, and would conform.
    Better,
    /// It names a version, so a new one does not concern it while its own is served.
    Pinned,
    /// It would be repaired, and was not, or was in another way.
    Repaired,
    /// It cannot be judged without the request.
    Unjudged,
    /// It would be forwarded although it does not conform: TF Serving decides.
    Forwarded,
    /// Some of the sizes that were seen would conform, others would not.
    DependsOnSizes,
    /// It would be repaired or refused, depending on its values.
    DependsOnValues,
    /// It would be refused, and was not.
    Refused,
}

/// What would happen to the requests of a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Expected {
    Conforming,
    Repaired,
    Refused,
    Forwarded,
    Unknown,
}

/// What is foretold of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Forecast {
    pub class: Class,
    pub expected: Expected,
    /// The rules that would be applied, or the reasons of the refusal.
    pub findings: Vec<Finding>,
    /// The inputs whose values decide, too: a cast of them may fail.
    pub undecided: Vec<String>,
    /// What is wrong, or what would be changed; for people.
    pub text: String,
}

/// Sizes that are tried for each open size of a form.
const MAX_SIZES: usize = 48;
/// What a message costs beside its bytes, in bytes.
const EACH: u64 = 4 << 10;
/// A range of sizes that is tried whole.
const MAX_WHOLE: u64 = 32;

impl Class {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::AsBefore => "as_before",
            Self::Better => "better",
            Self::Pinned => "pinned",
            Self::Repaired => "repaired",
            Self::Unjudged => "unjudged",
            Self::Forwarded => "forwarded",
            Self::DependsOnSizes => "depends_on_sizes",
            Self::DependsOnValues => "depends_on_values",
            Self::Refused => "refused",
        }
    }
}

impl Expected {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Conforming => "conforming",
            Self::Repaired => "repaired",
            Self::Refused => "refused",
            Self::Forwarded => "forwarded",
            Self::Unknown => "unknown",
        }
    }

    pub(super) fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Conforming => Self::Conforming,
            Outcome::Repaired => Self::Repaired,
            Outcome::Rejected => Self::Refused,
            Outcome::WouldRepair | Outcome::WouldReject | Outcome::Passed => Self::Forwarded,
        }
    }
}

impl<'a> Target<'a> {
    /// Signatures under a policy. `complete`: the signatures say which inputs have defaults, as
    /// those of a SavedModel do and those of a server do not, so a missing input without one is
    /// refused by TF Serving if not here.
    pub(crate) fn new(
        signatures: &'a Signatures,
        policy: &ModelPolicy,
        limits: Limits,
        complete: bool,
    ) -> Self {
        let mut policy = policy.clone();
        if complete {
            let all = std::iter::once(&mut policy.defaults).chain(policy.signatures.values_mut());
            all.for_each(|policy| policy.missing_inputs = MissingInputs::Refuse);
        }
        Self { signatures, policy, limits, before: None, json: None, work: Cell::new(u64::MAX) }
    }

    /// Knows which inputs the signatures before had: one that a form did not send to them is not
    /// missed by it now.
    pub(crate) fn before(self, before: &'a Signatures) -> Self {
        Self { before: Some(before), ..self }
    }

    /// Judges forms in JSON, too.
    pub(crate) fn json(self, judge: JudgeBody, config: &'a Config) -> Self {
        Self { json: Some((judge, config)), ..self }
    }

    /// Judges messages of so many bytes; forms that are left then are not judged.
    pub(crate) fn work(self, bytes: u64) -> Self {
        Self { work: Cell::new(bytes), ..self }
    }

    /// Takes the work of one message; `None` if there is not so much left.
    fn take(&self, bytes: usize) -> Option<()> {
        let left = self.work.get().checked_sub(EACH + bytes as u64);
        self.work.set(left.unwrap_or(0));
        left.map(drop)
    }

    /// What these signatures would make of a form.
    pub(crate) fn forecast(&self, counted: &Counted) -> Forecast {
        let form = &counted.form;
        if form.choice == Choice::Version {
            let text = format!("asks for version {}", form.version);
            return Forecast { class: Class::Pinned, text, ..Forecast::unknown("") };
        }
        let mut found: Option<Forecast> = None;
        for chosen in self.sizes(counted) {
            let Some(next) = self.judge(form, chosen) else { continue };
            let Some(before) = found.take() else {
                found = Some(next);
                continue;
            };
            let same = (before.class, before.expected, &before.findings)
                == (next.class, next.expected, &next.findings);
            let worse = if before.class >= next.class { before } else { next };
            if !same {
                return Forecast { class: Class::DependsOnSizes, expected: Expected::Unknown, ..worse };
            }
            found = Some(worse);
        }
        found.unwrap_or_else(|| {
            Forecast::unknown("not judged: its messages are too large, or there are too many forms")
        })
    }

    /// The sizes to try: the smallest and the largest that were seen, and between them those that
    /// the signatures declare.
    fn sizes(&self, counted: &Counted) -> Vec<Chosen> {
        let least = Chosen::smallest(&counted.sizes);
        let mut all = vec![least];
        if counted.form.method != Method::Predict {
            return all;
        }
        let declared: BTreeSet<u64> = self.declared(&counted.form);
        let sizes = |range| choices(range, &declared);
        let distinct =
            |chosen: &Chosen| counted.sizes.other_rows.is_empty() || chosen.rows != chosen.other_rows;
        all.extend(sizes(counted.sizes.rows).into_iter().map(|rows| Chosen { rows, ..least }));
        let others = sizes(counted.sizes.other_rows).into_iter();
        all.extend(others.map(|other_rows| Chosen { other_rows, ..least }));
        all.extend(sizes(counted.sizes.open).into_iter().map(|open| Chosen { open, ..least }));
        let mut rows = least.rows;
        if !distinct(&least) {
            // The two numbers of rows were seen together, so one of them has another value.
            rows = if counted.sizes.rows.max > least.other_rows { counted.sizes.rows.max } else { rows };
            all.push(Chosen { rows, ..least });
        }
        all.retain(distinct);
        all.dedup();
        all
    }

    /// The sizes above 1 in the signature that the form asks for.
    fn declared(&self, form: &Form) -> BTreeSet<u64> {
        let name = form.signatures.first().map_or("", String::as_str);
        let signature = signature_of(name, self.signatures, &self.policy);
        let inputs = signature.iter().flat_map(|signature| &signature.inputs);
        let dims = inputs.filter_map(|info| info.shape.dims()).flatten();
        let sizes = dims.filter(|size| **size > 1).map(|size| size.unsigned_abs());
        sizes.take(MAX_SIZES).collect()
    }

    fn judge(&self, form: &Form, chosen: Chosen) -> Option<Forecast> {
        if form.api != Api::Grpc {
            return self.judge_json(form, chosen);
        }
        let message = message(form, chosen)?;
        self.take(message.len())?;
        let verdict = self.verdict(form, &message)?;
        Some(self.classify(form, &verdict, false))
    }

    fn judge_json(&self, form: &Form, chosen: Chosen) -> Option<Forecast> {
        let (judge, config) = self.json?;
        let body = body(form, chosen)?;
        self.take(body.len())?;
        let verdict = judge(config, self.signatures, &self.policy, form, &body)?;
        Some(self.classify(form, &verdict, true))
    }

    fn verdict(&self, form: &Form, message: &Rope) -> Option<Verdict> {
        let Self { signatures, policy, limits, .. } = self;
        let infer = |view: &InferView| judge_infer(view, signatures, policy, form.raised, None);
        match form.method {
            Method::MultiInference => InferView::scan_multi(message).ok().as_ref().map(infer),
            Method::Classify | Method::Regress => InferView::scan_single(message).ok().as_ref().map(infer),
            Method::Predict => {
                let view = PredictView::scan(message).ok()?;
                let (limits, raised) = (*limits, form.raised);
                let view = &view;
                Some(repair::judge(&repair::Request {
                    message,
                    view,
                    signatures,
                    policy,
                    limits,
                    raised,
                    text: None,
                }))
            }
        }
    }
}

impl Forecast {
    pub(super) fn unknown(text: &str) -> Self {
        let (class, expected) = (Class::Unjudged, Expected::Unknown);
        let (findings, undecided) = (Vec::new(), Vec::new());
        Self { class, expected, findings, undecided, text: text.to_owned() }
    }
}

/// The sizes of a range to try.
fn choices(range: Range, declared: &BTreeSet<u64>) -> BTreeSet<u64> {
    if range.is_empty() {
        return BTreeSet::new();
    }
    let mut all: BTreeSet<u64> = declared.iter().copied().filter(|size| range.contains(*size)).collect();
    if range.max - range.min <= MAX_WHOLE {
        all.extend(range.min..=range.max);
    }
    all.extend([range.min, range.max]);
    all
}
