//! Errors as JSON: TF Serving's text first, and what the sidecar adds to it.
use std::borrow::Cow;

use http::StatusCode;
use http::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue, RETRY_AFTER};
use tonic::Code;

use super::respond::Answer;
use super::url::UrlError;
use crate::fault::{BODY_ENCODINGS, Fault, http_status};
use crate::rest::write::{self, Detail};

/// Explanations that follow a text of TF Serving begin so.
const MEANING: &str = " [tfs-sidecar: ";

/// The answer for a fault.
pub(super) fn of_fault(fault: &Fault) -> Answer {
    let mut headers = HeaderMap::new();
    if let Some(delay) = fault.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from(delay.as_secs().max(1)));
    }
    if let Fault::BodyEncoding { .. } = fault {
        // RFC 9110, section 15.5.16.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(BODY_ENCODINGS));
    }
    let text = fault.http_text();
    let (text, meaning) = split(&text);
    let mut details: Vec<Detail> = meaning.into_iter().map(explained).collect();
    match fault {
        Fault::Refused { problems, .. } => details.extend(problems.iter().map(|problem| Detail {
            reason: Some(problem.reason.as_str().to_owned()),
            input: (!problem.input.is_empty()).then(|| problem.input.clone()),
            pointer: problem.place.as_ref().map(|place| place.pointer.clone()),
            offset: problem.place.as_ref().map(|place| place.offset as u64),
            text: problem.for_client().without_fix().to_string(),
            fix: problem.fix().map(Cow::into_owned),
        })),
        _ => details.extend(fault.reason().map(|reason| Detail {
            reason: Some(reason.as_str().to_owned()),
            text: reason.remedy().to_owned(),
            ..Detail::default()
        })),
    }
    Answer { status: fault.http_status(), headers, body: write::error(text, &details).into() }
}

/// The answer for an error of TF Serving.
pub(super) fn of_status(code: Code, text: &str, headers: HeaderMap) -> Answer {
    let (text, meaning) = split(text);
    let details: Vec<Detail> = meaning.into_iter().map(explained).collect();
    Answer { status: http_status(code), headers, body: write::error(text, &details).into() }
}

/// The answer for a URL that is none of the API.
pub(super) fn of_url(error: &UrlError, method: &str, path: &str) -> Answer {
    let (text, hint) = match error {
        UrlError::Malformed { hint } => (format!("Malformed request: {method} {path}"), hint.clone()),
        UrlError::NoModel => {
            ("Missing model name in request.".to_owned(), Some("GET /v1/models/NAME".to_owned()))
        }
        UrlError::Version { digits } => (format!("Failed to convert version: {digits} to numeric."), None),
        UrlError::Name => ("the name in the URL is not UTF-8 after percent-decoding".to_owned(), None),
    };
    let details: Vec<Detail> = hint
        .iter()
        .map(|hint| Detail { text: format!("did you mean {hint}?"), ..Detail::default() })
        .collect();
    plain(StatusCode::BAD_REQUEST, &text, &details)
}

pub(super) fn plain(status: StatusCode, text: &str, details: &[Detail]) -> Answer {
    Answer { status, headers: HeaderMap::new(), body: write::error(text, details).into() }
}

/// TF Serving's text, and the explanation that was added to it.
fn split(text: &str) -> (&str, Option<&str>) {
    match text.rfind(MEANING) {
        Some(at) => {
            let meaning = &text[at + MEANING.len()..];
            (&text[..at], Some(meaning.strip_suffix(']').unwrap_or(meaning)))
        }
        None => (text, None),
    }
}

fn explained(meaning: &str) -> Detail {
    Detail { text: meaning.to_owned(), ..Detail::default() }
}
