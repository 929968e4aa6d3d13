//! What the reader of JSON found, as the steps, problems and warnings of a verdict.
use crate::repair::policy::Policy;
use crate::repair::problem::Place;
use crate::repair::text::{Reading, TextFindings, TextRows, problem};
use crate::repair::{Problem, Reason, Warning};
use crate::rest::read::{Finding, Findings, Format, Kind, Read, Severity};

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
                text: ascii(&format!("{} ({})", finding.what, place(finding))),
            }),
            // What is missing or undeclared is seen in the message.
            None => {}
        }
    }
    found
}

/// The problems of a body that cannot be read.
pub(crate) fn problems(findings: &Findings) -> Vec<Problem> {
    let wrong = findings.iter().filter(|finding| finding.kind.severity() == Severity::Problem);
    wrong.map(as_problem).collect()
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
    let what = format!("{} ({})", finding.what, place(finding));
    let place = Place { pointer: finding.pointer.clone(), offset: finding.offset };
    problem(reason(finding.kind), &finding.input, &what, None, place)
}

/// Where it is, for people.
fn place(finding: &Finding) -> String {
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
        | Kind::NumberForBool
        | Kind::StringForNumber
        | Kind::NumberForString
        | Kind::ObjectForValue
        | Kind::Base64ForNumber
        | Kind::UnsupportedDtype => Reason::DtypeMismatch,
        _ => Reason::Malformed,
    }
}
