//! What a new verdict on a form means beside the old one.
use std::collections::BTreeSet;

use super::forecast::{Class, Expected, Forecast, Target};
use super::form::{Carrier, Finding, Form, Method};
use crate::repair::report::{ascii, change, one_line};
use crate::repair::{self, Change, Encoding, Mode, Step, ValueChange, Verdict, signature_of};
use crate::tensor::{DataType, Relation, relation};

impl Target<'_> {
    /// What the new verdict on a form means beside the old one.
    pub(super) fn classify(&self, form: &Form, verdict: &Verdict, json: bool) -> Forecast {
        if verdict.mode == Mode::Off {
            return Forecast::unknown("mode off checks nothing");
        }
        let (before, mut after) = (Expected::of(form.outcome), Expected::of(verdict.outcome));
        let missed = self.missed(form, verdict);
        if after == Expected::Repaired && !missed.is_empty() {
            after = Expected::Forwarded;
        }
        let was_declared = |input: &str| was_declared(form, input);
        let declared = |input: &str| verdict.signature.as_ref()?.input(input).map(|info| info.dtype);
        let is_same = |input: &str| declared(input).is_some_and(|now| was_declared(input) == Some(now));
        let is_known = |step: &&Step| {
            let is_it = |found: &Finding| found.kind == step.rule.name && found.input == step.input;
            form.findings.iter().any(is_it) && is_same(&step.input)
        };
        let steps = verdict.plan.steps.iter();
        let open = steps.filter(|step| depends_on_values(step) && !is_known(step));
        let undecided: BTreeSet<&str> = open.map(|step| step.input.as_str()).collect();
        let of = |class, expected| Forecast {
            class,
            expected,
            findings: findings(verdict),
            undecided: undecided.iter().map(|input| (*input).to_owned()).collect(),
            text: text(verdict, &missed, &undecided),
        };
        if before == Expected::Refused && after == Expected::Repaired {
            // The values do not fit the dtype, which is the same.
            let lost = |finding: &&Finding| finding.kind.starts_with("CAST_") && is_same(&finding.input);
            if let Some(lost) = form.findings.iter().find(lost) {
                let findings = vec![lost.clone()];
                return Forecast { findings, ..of(Class::AsBefore, Expected::Refused) };
            }
        }
        let mut unsure = after == Expected::Repaired && !undecided.is_empty();
        unsure |= after != Expected::Refused && has_unread_fields(form);
        unsure |= json && after != Expected::Refused && converts_json(form, verdict);
        match (before, after) {
            _ if unsure => {
                let mut forecast = of(Class::DependsOnValues, Expected::Unknown);
                if json {
                    let text = format!("its JSON would be read as another dtype; {}", forecast.text);
                    text.trim_end_matches("; ").clone_into(&mut forecast.text);
                }
                forecast
            }
            (Expected::Repaired, Expected::Repaired) if rules(form) == names(&findings(verdict)) => {
                of(Class::AsBefore, after)
            }
            (Expected::Repaired | Expected::Forwarded, Expected::Forwarded) if !missed.is_empty() => {
                of(Class::Forwarded, after)
            }
            (Expected::Refused, Expected::Refused)
            | (Expected::Forwarded, Expected::Forwarded)
            | (Expected::Conforming, Expected::Conforming) => of(Class::AsBefore, after),
            // It lacked an input that has a default.
            (Expected::Forwarded, Expected::Conforming) if form.findings.is_empty() => {
                of(Class::AsBefore, after)
            }
            (_, Expected::Conforming) => of(Class::Better, after),
            (_, Expected::Repaired) => of(Class::Repaired, after),
            (_, Expected::Refused) => of(Class::Refused, after),
            (_, Expected::Forwarded | Expected::Unknown) => of(Class::Forwarded, after),
        }
    }

    /// The inputs that a form does not send and that the signature before did not have, if that is
    /// known. Only TF Serving knows whether they have a default.
    fn missed(&self, form: &Form, verdict: &Verdict) -> Vec<String> {
        let Some(signature) = verdict.signature.as_ref().filter(|_| verdict.problems.is_empty()) else {
            return Vec::new();
        };
        if form.method != Method::Predict {
            return Vec::new();
        }
        let mut sent: BTreeSet<&str> = form.inputs.iter().map(|input| input.name.as_str()).collect();
        for step in &verdict.plan.steps {
            match &step.change {
                Change::Key { new, .. } => drop(sent.insert(new)),
                Change::Added { .. } => drop(sent.insert(&step.input)),
                _ => {}
            }
        }
        let name = form.signatures.first().map_or("", String::as_str);
        let before = self.before.and_then(|before| signature_of(name, before, &self.policy));
        let lacked = |alias: &str| before.as_ref().is_some_and(|before| before.input(alias).is_some());
        let missing = signature.inputs.iter().filter(|info| {
            let alias = info.alias.as_str();
            !info.has_default && !sent.contains(alias) && !lacked(alias)
        });
        missing.map(|info| info.alias.clone()).collect()
    }
}

/// The dtype that the signature declared for an input when the form was seen.
fn was_declared(form: &Form, input: &str) -> Option<DataType> {
    let renamed = |finding: &&Finding| finding.input == input;
    let direct = form.inputs.iter().find(|sent| sent.name == input).and_then(|sent| sent.declared);
    direct.or_else(|| {
        // A rule has renamed it: the only input of another name that was declared.
        form.findings.iter().find(renamed)?;
        let mut others = form.inputs.iter().filter_map(|sent| sent.declared);
        others.next().filter(|_| others.next().is_none())
    })
}

/// Whether a step is made only if the values allow it.
fn depends_on_values(step: &Step) -> bool {
    let Change::Tensor { before, after, values: Some(ValueChange::Cast(_)) } = &step.change else {
        return false;
    };
    let native = match before.encoding {
        // The elements of these lists can be larger than those of the dtype.
        Encoding::List(list) => list.native().unwrap_or(before.dtype),
        Encoding::Content | Encoding::Nothing => before.dtype,
    };
    if native != before.dtype && before.dtype != after.dtype {
        return true;
    }
    match relation(native, after.dtype) {
        Some(Relation::Same | Relation::Widens | Relation::BoolToNumber) => false,
        // Only a double beyond the range of float is refused.
        Some(Relation::Narrows) => {
            step.rule.name != "cast_round" && (native, after.dtype) != (DataType::DOUBLE, DataType::FLOAT)
        }
        Some(Relation::FloatToInt | Relation::NumberToBool) | None => true,
    }
}

/// Whether the form does not say if the fields of an input are as they must be: they are read only
/// of an input that the signature has.
fn has_unread_fields(form: &Form) -> bool {
    form.inputs.iter().filter(|input| input.declared.is_none()).any(|input| {
        let strings = input.dtype == DataType::STRING;
        input.carriers.len() > 1
            || strings && input.carriers.iter().any(|(carrier, _)| *carrier == Carrier::Content)
    })
}

/// Whether numbers in JSON would be read as another dtype than before, which may lack some of them.
fn converts_json(form: &Form, verdict: &Verdict) -> bool {
    let Some(signature) = &verdict.signature else { return false };
    form.inputs.iter().any(|input| {
        let (Some(before), Some(now)) = (input.declared, signature.input(&input.name)) else { return false };
        before != now.dtype
            && (before, now.dtype) != (DataType::DOUBLE, DataType::FLOAT)
            && relation(before, now.dtype) != Some(Relation::Widens)
    })
}

fn findings(verdict: &Verdict) -> Vec<Finding> {
    let of = |kind: &'static str, input: &str| Finding { kind: kind.into(), input: input.to_owned() };
    let mut all: Vec<Finding> = if verdict.problems.is_empty() {
        verdict.plan.steps.iter().map(|step| of(step.rule.name, &step.input)).collect()
    } else {
        verdict.problems.iter().map(|problem| of(problem.reason.as_str(), &problem.input)).collect()
    };
    all.sort();
    all.dedup();
    all
}

fn names(findings: &[Finding]) -> BTreeSet<(&str, &str)> {
    findings.iter().map(|finding| (&*finding.kind, finding.input.as_str())).collect()
}

/// The rules that the form was repaired by; warnings are no rules.
fn rules(form: &Form) -> BTreeSet<(&str, &str)> {
    let all = names(&form.findings);
    all.into_iter().filter(|(kind, _)| repair::Repair::find(kind).is_some()).collect()
}

/// The problems, or else the changes; the inputs that are missed, and those whose values may be a
/// problem, too.
fn text(verdict: &Verdict, missed: &[String], undecided: &BTreeSet<&str>) -> String {
    const SHOWN: usize = 3;
    let mut lines: Vec<String> = if verdict.problems.is_empty() {
        let steps = verdict.plan.steps.iter().take(SHOWN);
        steps.map(|step| format!("{} {} {}", ascii(&step.input), step.rule.name, change(step))).collect()
    } else {
        verdict.problems.iter().take(SHOWN).map(|problem| one_line(&problem.to_string())).collect()
    };
    let all = verdict.problems.len().max(verdict.plan.steps.len());
    if all > SHOWN {
        lines.push(format!("and {} more", all - SHOWN));
    }
    let missed = missed.iter().take(SHOWN).map(|input| format!("does not send '{}'", ascii(input)));
    lines.extend(missed);
    if !verdict.problems.is_empty() {
        let undecided = undecided.iter().take(SHOWN);
        lines.extend(undecided.map(|input| format!("the values of '{}' may not fit, too", ascii(input))));
    }
    lines.join("; ").trim().to_owned()
}
