//! The forecast against the real verdict.
use std::time::{Duration, Instant};

use super::super::forecast::{Class, Expected, Forecast, Target};
use super::super::form::{Choice, Range, Sizes};
use super::super::report::Report;
use super::Judged;
use crate::repair::policy::ModelPolicy;
use crate::repair::{Limits, Outcome, REPAIRS, Verdict, notation};
use crate::signature::Signatures;

/// Requests and signatures of all examples of rules, and more.
pub(super) fn corpus() -> (Vec<String>, Vec<String>) {
    let examples = || REPAIRS.iter().filter(|rule| !rule.is_for_text()).map(|rule| rule.example);
    let mut requests: Vec<String> = examples().map(|example| example.request.to_owned()).collect();
    requests.extend(examples().map(|example| example.becomes.to_owned()));
    let mut signatures: Vec<String> = examples().map(|example| example.signature.to_owned()).collect();
    for request in [
        "x:float[2,4]",
        "x:float[4]",
        "x:float[1,4]@float_val",
        "x:double[1,4]",
        "x:float[2,4]@float_val=1",
        "x:float[2,4]@float_val=3",
        "x:float[2,4]@double_val",
        "x:int64[2,4]",
        "x:string[2]",
        "x:float[-1,4]=8",
        "x:float[2,3]=5",
        "inputs:float[1,4]",
        "x:float[1,4] k:float[]",
        "@other x:float[1,4]",
        "x:uint8[2,4]@int_val",
        "x:bool[2,4]",
    ] {
        requests.push(request.to_owned());
    }
    for signature in [
        "x:float[-1,4]",
        "x:float[2,4]",
        "x:float[4]",
        "x:float[-1,4,1]",
        "x:double[-1,4]",
        "x:int32[-1,4]",
        "x:half[-1,4]",
        "x:string[-1]",
        "x:float",
        "x:float[-1,-1]",
        "x:float[-1,4] k:float[]",
        "@other x:float[-1,4]",
        "@score x:float[-1,4]",
    ] {
        signatures.push(signature.to_owned());
    }
    requests.sort();
    requests.dedup();
    signatures.sort();
    signatures.dedup();
    (requests, signatures)
}

fn kinds(verdict: &Verdict) -> Vec<(String, String)> {
    let steps = verdict.plan.steps.iter().map(|step| (step.rule.name, &step.input));
    let problems = verdict.problems.iter().map(|problem| (problem.reason.as_str(), &problem.input));
    let all = if verdict.problems.is_empty() { steps.collect::<Vec<_>>() } else { problems.collect() };
    let mut all: Vec<_> = all.into_iter().map(|(kind, input)| (kind.to_owned(), input.clone())).collect();
    all.sort();
    all.dedup();
    all
}

fn expected(outcome: Outcome) -> Expected {
    match outcome {
        Outcome::Conforming => Expected::Conforming,
        Outcome::Repaired => Expected::Repaired,
        Outcome::Rejected => Expected::Refused,
        Outcome::WouldRepair | Outcome::WouldReject | Outcome::Passed => Expected::Forwarded,
    }
}

#[test]
fn a_form_is_judged_as_its_requests_are() {
    let (requests, signatures) = corpus();
    let signatures: Vec<Signatures> =
        signatures.iter().map(|text| notation::signature(text).unwrap()).collect();
    let policy = ModelPolicy::default();
    let (mut compared, mut unsure) = (0, 0);
    for (at, request) in requests.iter().enumerate() {
        // Each request with some of the signatures, and all of them with some request.
        for old in signatures.iter().skip(at % 12).step_by(12) {
            let counted = Judged::by(old, request).counted();
            for new in &signatures {
                let judged = Judged::by(new, request);
                let real = &judged.verdict;
                let target = Target::new(new, &policy, Limits::default(), false).before(old);
                let forecast = target.forecast(&counted);
                if matches!(forecast.class, Class::DependsOnValues | Class::DependsOnSizes) {
                    unsure += 1;
                    continue;
                }
                compared += 1;
                if judged.is_repaired_without_an_input_that_is_not_in(old) {
                    assert_eq!(forecast.expected, Expected::Forwarded, "{request}: {forecast:?}");
                    continue;
                }
                assert_eq!(forecast.expected, expected(real.outcome), "{request}: {forecast:?}");
                // A value that does not fit is known from the old verdict only.
                if forecast.class != Class::AsBefore || forecast.expected != Expected::Refused {
                    let found = forecast.findings.iter().map(|one| (one.kind.to_string(), one.input.clone()));
                    let mut real = kinds(real);
                    if forecast.expected == Expected::Refused {
                        // Of what is refused anyway, only its values tell whether a cast fails too.
                        let is_open = |input: &String| forecast.undecided.contains(input);
                        real.retain(|(kind, input)| !kind.starts_with("CAST_") || !is_open(input));
                    }
                    assert_eq!(found.collect::<Vec<_>>(), real, "{request}: {forecast:?}");
                }
            }
            // Nothing changes where the signature does not.
            let same = Target::new(old, &policy, Limits::default(), false).before(old).forecast(&counted);
            assert_eq!(same.class, Class::AsBefore, "{request}: {same:?}");
        }
    }
    assert!(compared > 10 * unsure && unsure > 50, "{compared} compared, {unsure} unsure");
}

fn class(old: &str, request: &str, new: &str) -> Class {
    let signatures = notation::signature(new).unwrap();
    let target = Target::new(&signatures, &ModelPolicy::default(), Limits::default(), true);
    target.forecast(&Judged::new(old, request).counted()).class
}

#[test]
fn classes_say_what_changes() {
    for (old, request, new, expected) in [
        ("x:float[-1,4]", "x:float[1,4]", "x:float[-1,4]", Class::AsBefore),
        ("x:float[-1,4]", "x:double[1,4]", "x:double[-1,4]", Class::Better),
        ("x:double[-1,4]", "x:double[1,4]", "x:float[-1,4]", Class::Repaired),
        ("x:float[-1,4]", "x:float[1,4]", "x:float[-1,5]", Class::Refused),
        ("x:int64[-1]", "x:int64[2]", "x:int32[-1]", Class::DependsOnValues),
        ("x:int32[-1]", "x:int64[2]", "x:int32[-1]", Class::AsBefore),
        ("x:int32[-1]", "x:int64[1]{5000000000}", "x:int32[-1]", Class::AsBefore),
        ("x:int32[-1]", "x:int64[1]{5000000000}", "x:int64[-1]", Class::Better),
        ("x:float[-1,4]", "x:float[1,4]", "x:float[-1,4] k:float[]", Class::Refused),
    ] {
        assert_eq!(class(old, request, new), expected, "{request}: {old} to {new}");
    }
}

/// What a server's signatures, which do not tell defaults, would make of a request to the old ones.
fn served(old: &str, request: &str, new: &str) -> Forecast {
    let [old, new] = [old, new].map(|text| notation::signature(text).unwrap());
    let target = Target::new(&new, &ModelPolicy::default(), Limits::default(), false).before(&old);
    target.forecast(&Judged::by(&old, request).counted())
}

#[test]
fn an_input_that_is_new_and_not_sent_is_left_to_tensorflow_serving() {
    let (x, k) = ("x:float[-1,4]", "x:float[-1,4] k:float[]");
    for request in ["x:float[1,4]", "x:double[1,4]", "x:float[4]"] {
        let forecast = served(x, request, k);
        let found = (forecast.class, forecast.expected);
        assert_eq!(found, (Class::Forwarded, Expected::Forwarded), "{request}: {forecast:?}");
        assert!(
            request.starts_with("x:float") || forecast.text.contains("does not send 'k'"),
            "{forecast:?}"
        );
        // It did without the input before.
        assert_eq!(served(k, request, k).class, Class::AsBefore, "{request}");
        let another = served(k, request, "x:float[-1,4] k:float[] j:float[]");
        assert_eq!(another.class, Class::Forwarded, "{request}: {another:?}");
        // A SavedModel says that the input has no default.
        assert_eq!(class(x, request, k), Class::Refused, "{request}");
    }
    let renamed = served("input_1:float[-1,4]", "input_1:double[1,4]", "input_3:float[-1,4]");
    assert_eq!(renamed.class, Class::Repaired, "{renamed:?}");
}

#[test]
fn a_cast_that_may_fail_is_told_of_a_form_that_is_refused_for_something_else() {
    let forecast = served("x:int64[-1]", "x:int64[2]", "x:int32[-1,3]");
    assert_eq!((forecast.class, forecast.undecided.as_slice()), (Class::Refused, &["x".to_owned()][..]));
    assert!(forecast.text.contains("the values of 'x' may not fit"), "{}", forecast.text);
    assert!(served("x:int32[-1]", "x:int32[2]", "x:int64[-1,3]").undecided.is_empty());
}

#[test]
fn sizes_that_were_seen_decide_where_the_new_signature_has_fixed_ones() {
    let rows = |all: &[u64], new: &str| {
        let mut counted = Judged::new("x:float[-1,4]", "x:float[2,4]").counted();
        counted.sizes = Sizes::default();
        for rows in all {
            counted.sizes.rows.add(*rows as i64);
        }
        let signatures = notation::signature(new).unwrap();
        Target::new(&signatures, &ModelPolicy::default(), Limits::default(), true).forecast(&counted)
    };
    assert_eq!(rows(&[8], "x:float[8,4]").class, Class::AsBefore);
    assert_eq!(rows(&[2, 3], "x:float[8,4]").class, Class::Refused);
    assert_eq!(rows(&[2, 9], "x:float[8,4]").class, Class::DependsOnSizes);
    assert_eq!(rows(&[2, 1_000_000], "x:float[-1,4]").class, Class::AsBefore);
}

#[test]
fn a_request_for_a_version_of_its_own_is_not_concerned() {
    let mut counted = Judged::new("x:float[-1,4]", "x:float[2,4]").counted();
    counted.form.choice = Choice::Version;
    let signatures = notation::signature("y:string[-1]").unwrap();
    let target = Target::new(&signatures, &ModelPolicy::default(), Limits::default(), true);
    assert_eq!(target.forecast(&counted).class, Class::Pinned);
}

#[test]
fn the_verdict_of_the_last_version_counts() {
    let signatures = notation::signature("x:float[-1,4]").unwrap();
    let target = Target::new(&signatures, &ModelPolicy::default(), Limits::default(), true);
    let first = Judged::new("x:double[-1,4]", "x:float[2,4]").counted();
    let mut last = Judged::new("x:float[-1,4]", "x:float[2,4]").counted();
    last.form.version = 2;
    let report = Report::new("m", Some(3), vec![first, last], &target);
    let classes: Vec<Class> = report.forms.iter().map(|(_, forecast)| forecast.class).collect();
    assert_eq!(classes, [Class::AsBefore]);
}

#[test]
fn forms_that_read_alike_are_one_line() {
    let signatures = notation::signature("x:float[-1,5]").unwrap();
    let target = Target::new(&signatures, &ModelPolicy::default(), Limits::default(), true);
    let counted = |client: &str, requests: u64| {
        let mut counted = Judged::new("x:float[-1,4]", "x:float[2,4]").counted();
        (counted.form.client, counted.requests) = (client.into(), requests);
        counted
    };
    let forms = vec![counted("a", 192), counted("b", 7), counted("a", 55)];
    let text = Report::new("m", None, forms, &target).text();
    let lines: Vec<&str> = text.lines().skip(1).collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].starts_with("  a (247 requests): would be refused: sends x:float[N,4]; "), "{text}");
    assert!(lines[1].starts_with("  b (7 requests): "), "{text}");
}

#[test]
fn hostile_sizes_in_a_file_cost_nothing() {
    let mut counted = Judged::new("x:float[-1,4]", "x:float[2,4]").counted();
    counted.sizes.rows = Range { min: 2, max: u64::MAX };
    let signatures = notation::signature("x:double[-1,4]").unwrap();
    let target = Target::new(&signatures, &ModelPolicy::default(), Limits::default(), true);
    let started = Instant::now();
    target.forecast(&counted);
    assert!(started.elapsed() < Duration::from_secs(10));
}
