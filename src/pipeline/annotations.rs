//! What is added to an answer of TF Serving: repairs, warnings, and what an error means.
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use tonic::Code;

use super::context::RequestContext;
use super::operation::Operation;
use super::sent::SentRequest;
use super::verdict::effective_signature;
use crate::explain::{self, Context, Sent};
use crate::fault::{GRPC_MESSAGE, TRAILERS_LIMIT, percent_decode, percent_encode};
use crate::repair::policy::ModelPolicy;
use crate::repair::{Mode, Reason, Verdict};
use crate::upstream::call::{First, Reply, code};
use crate::wire::{ModelSpec, Rope};

/// Nothing by default.
#[derive(Debug, Default)]
pub(crate) struct ResponseAnnotations {
    /// Repairs and warnings. They go into the initial metadata, and into the trailers of an error,
    /// where error handlers of clients look.
    metadata: Option<HeaderMap>,
    /// Whether an error's text is followed by what it means.
    explain: bool,
    /// Whether TF Serving batches, which an explanation depends on.
    batching: bool,
}

impl ResponseAnnotations {
    /// Errors are explained as the policy of the signature says, and never in mode off.
    pub(super) fn new(
        cx: &RequestContext<'_>,
        metadata: Option<HeaderMap>,
        policy: &ModelPolicy,
        spec: &ModelSpec,
        verdict: &Verdict,
    ) -> Self {
        let policy = policy.for_signature(effective_signature(spec, verdict));
        let explain = verdict.mode != Mode::Off && policy.explain_upstream;
        Self { metadata, explain, batching: cx.config.server_batching }
    }

    /// Adds to what has come of the answer: the initial metadata, and for a refusal the trailers.
    pub(super) fn add_to_reply(
        &self,
        reply: &mut Reply,
        message: &Rope,
        operation: &Operation,
        verdict: &Verdict,
    ) {
        let rows_differ = rows_differ(verdict, reply);
        let sent = operation.predict().map(|view| SentRequest { message, view, verdict, rows_differ });
        let sent = sent.as_ref().map(|sent| sent as &dyn Sent);
        let context = Context { batching: self.batching, sent };
        self.add_metadata(&mut reply.head.headers);
        match &mut reply.first {
            First::End => self.add_meaning(&mut reply.head.headers, &context),
            First::Trailers(Some(trailers)) => self.add_to_error(trailers, &context),
            First::Trailers(None) | First::Data(_) => {}
        }
    }

    /// Adds to the trailers behind a message, if they are those of an error.
    pub(crate) fn add_to_trailers(&self, trailers: &mut HeaderMap) {
        self.add_to_error(trailers, &Context { batching: self.batching, sent: None });
    }

    fn add_to_error(&self, trailers: &mut HeaderMap, context: &Context<'_>) {
        if code(trailers) != Some(Code::Ok) {
            self.add_metadata(trailers);
            self.add_meaning(trailers, context);
        }
    }

    /// Adds repairs and warnings.
    pub(crate) fn add_metadata(&self, to: &mut HeaderMap) {
        for (name, value) in self.metadata.iter().flatten() {
            to.append(name.clone(), value.clone());
        }
    }

    /// Adds to the text of an error what it means. The server's text stays, byte for byte, as the
    /// beginning.
    fn add_meaning(&self, trailers: &mut HeaderMap, context: &Context<'_>) {
        let Some(message) = trailers.get(GRPC_MESSAGE).filter(|_| self.explain) else { return };
        let Some(meaning) = explain::explain(&percent_decode(message.as_bytes()), context) else {
            return;
        };
        let meaning = percent_encode(&meaning.to_string());
        let size: usize = trailers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        if size + meaning.len() > TRAILERS_LIMIT {
            return;
        }
        let text = Bytes::from([message.as_bytes(), meaning.as_bytes()].concat());
        if let Ok(value) = HeaderValue::from_maybe_shared(text) {
            trailers.insert(GRPC_MESSAGE, value);
        }
    }
}

/// Whether the rows of the inputs may be why TF Serving refused the request. In mode observe, no
/// answer says so.
fn rows_differ(verdict: &Verdict, reply: &Reply) -> bool {
    verdict.warnings.iter().any(|warning| warning.reason == Reason::BatchMismatch)
        && verdict.mode != Mode::Observe
        && matches!(
            reply.refusal(),
            Some(Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange)
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(explain: bool) -> ResponseAnnotations {
        ResponseAnnotations { metadata: None, explain, batching: false }
    }

    fn text(message: &str, explain: bool) -> String {
        let mut trailers = HeaderMap::new();
        trailers.insert(GRPC_MESSAGE, HeaderValue::try_from(message).unwrap());
        annotations(explain).add_to_trailers(&mut trailers);
        trailers[GRPC_MESSAGE].to_str().unwrap().to_owned()
    }

    #[test]
    fn an_explanation_follows_the_text_of_the_server() {
        // `%C3` alone is not valid UTF-8, so decoding the text would lose it.
        let odd = "Incompatible shapes: %C3 %zz%0A\t 100%25";
        let found = text(odd, true);
        assert!(found.starts_with(odd) && found.contains(" [tfs-sidecar: "), "{found}");
        assert_eq!(text(odd, false), odd);
        assert_eq!(text("some other error", true), "some other error");
    }

    #[test]
    fn a_text_that_fills_the_trailers_gets_no_explanation() {
        let long = format!("Incompatible shapes{}", "x".repeat(TRAILERS_LIMIT));
        assert_eq!(text(&long, true), long);
        let mut none = HeaderMap::new();
        annotations(true).add_to_trailers(&mut none);
        assert!(none.is_empty());
    }
}
