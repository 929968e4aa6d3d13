//! What the reader of JSON found, as the steps, problems and warnings of a verdict.
use std::collections::HashMap;

use crate::repair::policy::Policy;
use crate::repair::problem::Place;
use crate::repair::text::{Reading, TextFindings, TextRows, problem};
use crate::repair::{Misfit, Problem, Reason, Warning};
use crate::rest::read::{Finding, Findings, Format, Kind, Read, Severity, place};
use crate::signature::Signatures;

/// Problems of a message that get a place.
const MAX_PLACED: usize = 16;
/// Characters of a JSON pointer in a text.
const MAX_SHOWN: usize = 80;

/// The findings about a body that was read.
pub(crate) fn text_findings(read: &Read, policy: &Policy) -> TextFindings {
    let mut found = TextFindings { rows: rows(read), ..TextFindings::default() };
    for finding in read.findings.iter() {
        match reading(finding.kind) {
            Some(reading) => found.add(reading, &finding.input, as_problem(finding), policy),
            None if finding.kind.severity() == Severity::Warning => found.warnings.push(Warning {
                reason: reason(finding.kind),
                input: finding.input.clone(),
                text: ascii(&format!("{} ({})", finding.what, shown(finding))),
            }),
            // What is missing or undeclared is seen in the message.
            None => {}
        }
    }
    found
}

/// The problems of a body that cannot be read, by the signature of this name.
pub(crate) fn problems(findings: &Findings, name: &str, signatures: &Signatures) -> Vec<Problem> {
    let signature = signatures.get(name).map(|signature| &**signature);
    let wrong = findings.iter().filter(|finding| finding.kind.severity() == Severity::Problem);
    wrong
        .map(|finding| {
            let problem = as_problem(finding);
            let mut problem = match misfit(finding.kind) {
                Some(misfit) => problem.misfit(misfit, signature, signatures),
                None => problem,
            };
            if let Kind::UnknownSignature | Kind::NoInputs = finding.kind {
                // The default signature has no place in the body.
                problem.place = problem.place.filter(|place| !place.pointer.is_empty());
            }
            if finding.kind == Kind::UnknownSignature {
                problem = problem.no_signature(finding.value.as_deref().unwrap_or(name), signatures);
            }
            problem
        })
        .collect()
}

fn misfit(kind: Kind) -> Option<Misfit> {
    Some(match kind {
        Kind::BoolForNumber => Misfit::BoolForNumber,
        Kind::BitForBool => Misfit::BitForBool,
        Kind::QuotedNumber => Misfit::QuotedNumber,
        Kind::StringForNumber => Misfit::StringForNumber,
        Kind::Base64ForNumber => Misfit::BytesForNumber,
        Kind::NumberForString => Misfit::NumberForString,
        _ => return None,
    })
}

/// Gives problems that were found in the message their places in the body that it was read from.
pub(crate) fn set_places(problems: &mut [Problem], read: &Read, body: &[u8]) {
    let opened = read.findings.iter().filter(|finding| finding.kind.severity() == Severity::Open);
    let opened: HashMap<&str, &Finding> = opened.map(|finding| (finding.input.as_str(), finding)).collect();
    let inputs: HashMap<&str, usize> =
        read.inputs.iter().map(|input| (input.name.as_str(), input.at)).collect();
    let without = |problem: &&mut Problem| problem.place.is_none() && !problem.input.is_empty();
    // Each takes reading the body once more.
    for problem in problems.iter_mut().filter(without).take(MAX_PLACED) {
        let place = match (opened.get(&*problem.input), inputs.get(&*problem.input)) {
            (Some(finding), _) => Place { pointer: finding.pointer.clone(), offset: finding.offset },
            (None, Some(at)) => Place { pointer: place::of_value(body, *at), offset: *at },
            (None, None) => continue,
        };
        problem.place = Some(Box::new(place));
    }
}

fn rows(read: &Read) -> Option<TextRows> {
    match read.format {
        Format::Row { instances, plain } => {
            Some(TextRows { count: i64::try_from(instances).unwrap_or(i64::MAX), is_plain: plain })
        }
        Format::Column => None,
    }
}

fn as_problem(finding: &Finding) -> Problem {
    let what = format!("{} ({})", finding.what, shown(finding));
    let place = Place { pointer: finding.pointer.clone(), offset: finding.offset };
    problem(reason(finding.kind), &finding.input, &what, None, place)
}

/// Where it is, for people.
fn shown(finding: &Finding) -> String {
    match finding.pointer.char_indices().nth(MAX_SHOWN) {
        None if finding.pointer.is_empty() => format!("byte {}", finding.offset),
        None => format!("{}, byte {}", finding.pointer, finding.offset),
        Some((end, _)) => format!("{}..., byte {}", &finding.pointer[..end], finding.offset),
    }
}

fn ascii(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}

fn reading(kind: Kind) -> Option<Reading> {
    Some(match kind {
        Kind::IntegralFloat => Reading::IntegralFloat,
        Kind::BareObject => Reading::ListOfOne,
        Kind::NamesAtTop => Reading::NamesAtTop,
        Kind::NumberInString => Reading::StringNumber,
        Kind::BoolAsNumber | Kind::NumberAsBool => Reading::BoolNumber,
        _ => return None,
    })
}

fn reason(kind: Kind) -> Reason {
    match kind {
        Kind::OutOfRange | Kind::TooBig => Reason::CastOutOfRange,
        Kind::Inexact => Reason::CastInexact,
        Kind::Ragged | Kind::WrongLevel | Kind::TooDeep => Reason::Ragged,
        Kind::UnknownSignature => Reason::SignatureUnknown,
        Kind::MissingKey | Kind::MissingInput => Reason::InputMissing,
        Kind::UnknownKey | Kind::UndeclaredInput => Reason::NameUnknown,
        Kind::IgnoredKey => Reason::InputExtra,
        Kind::TooLarge => Reason::TooLarge,
        Kind::Null
        | Kind::BoolForNumber
        | Kind::BitForBool
        | Kind::NumberForBool
        | Kind::QuotedNumber
        | Kind::StringForNumber
        | Kind::NumberForString
        | Kind::ObjectForValue
        | Kind::Base64ForNumber
        | Kind::UnsupportedDtype => Reason::DtypeMismatch,
        _ => Reason::Malformed,
    }
}
