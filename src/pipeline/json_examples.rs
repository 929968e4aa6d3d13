//! Classify and Regress requests in JSON: features become tf.Examples.
use std::sync::Arc;

use super::answer::Answer;
use super::context::RequestContext;
use super::json::{JsonRequest, encode, message, of, refused, unreadable, work};
use super::resolve::resolve;
use super::run::run;
use crate::fault::Fault;
use crate::repair::problem::Place;
use crate::repair::text::{TextFindings, problem};
use crate::repair::{Problem, Reason};
use crate::rest::json;
use crate::rest::read::place;
use crate::rest::theirs::{self, Doubts};
use crate::wire::DEFAULT_SIGNATURE;

const FOR_PREDICT: &str =
    "`instances` and `inputs` are for :predict; send `examples`, a list of objects from feature to value";

/// Serves a Classify or Regress request.
///
/// # Errors
/// The request is refused, or it cannot be answered.
pub(super) async fn run_examples(
    cx: &mut RequestContext<'_>,
    request: &JsonRequest,
) -> Result<Answer, Fault> {
    let (body, spec) = (request.body.clone(), request.spec.clone());
    let max_bytes = cx.config.limits.max_message_bytes;
    let read = work(cx, body.len(), move || {
        let spec = |name: &[u8]| encode(spec.for_signature(&String::from_utf8_lossy(name)));
        match theirs::examples(&body, spec, max_bytes) {
            Ok(read) => Ok((read.message, doubted(read.doubts, &body))),
            Err(refusal) => {
                let wrong = malformed(&refusal, &body);
                let wrong = if theirs::is_predict(&body) { wrong.hint(FOR_PREDICT) } else { wrong };
                Err(Box::new((wrong, refusal)))
            }
        }
    })
    .await?;
    match read {
        Ok((payload, problems)) => {
            if !problems.is_empty() {
                cx.text = Some(Arc::new(TextFindings { problems, ..TextFindings::default() }));
            }
            let message = message(cx, payload)?;
            run(cx, &message).await
        }
        Err(found) => {
            let (wrong, refusal) = *found;
            let theirs = Some(Box::new(of(&refusal)));
            // TF Serving refuses the body before it looks for the model.
            let Ok(version) = resolve(cx, &request.spec).await else {
                return Err(refused(request, wrong, theirs));
            };
            unreadable(cx, &version, DEFAULT_SIGNATURE, vec![wrong], theirs)
        }
    }
}

/// The problems of features that TF Serving reads otherwise than they can be meant.
fn doubted(doubts: Doubts, body: &[u8]) -> Vec<Problem> {
    let doubled = doubts.doubled.map(|at| (Reason::Malformed, "the example has this feature twice", at));
    let overflow = doubts.overflow.map(|at| (Reason::CastOutOfRange, "out of range of float", at));
    let found = doubled.into_iter().chain(overflow);
    found
        .map(|(reason, what, offset)| {
            let place = Place { pointer: place::of_value(body, offset), offset };
            problem(reason, "", &format!("{what} ({}, byte {offset})", place.pointer), None, place)
        })
        .collect()
}

/// The problem of a body that TF Serving refuses, with its place if it is no JSON.
pub(super) fn malformed(refusal: &theirs::Refusal, body: &[u8]) -> Problem {
    let found = Problem::new(Reason::Malformed, "", refusal.lossy());
    let Err(wrong) = json::check(body) else { return found };
    let place = Place { pointer: place::around(body, wrong.at), offset: wrong.at };
    Problem { place: Some(Box::new(place)), ..found }
}
