//! What is added to an answer of TF Serving: what was repaired, and what an error means.
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use super::verdict::effective_signature;
use crate::explain;
use crate::fault::{GRPC_MESSAGE, TRAILERS_LIMIT, percent_decode, percent_encode};
use crate::models::catalog::ModelVersion;
use crate::repair::{Mode, Verdict};
use crate::wire::ModelSpec;

/// Nothing by default.
#[derive(Debug, Default)]
pub struct ResponseAnnotations {
    /// Goes into the initial metadata, and into the trailers of an error, where error handlers of
    /// clients look.
    repairs: Option<HeaderMap>,
    /// Whether an error's text is followed by what it means.
    explain: bool,
}

impl ResponseAnnotations {
    /// Errors are explained as the policy of the signature says, and never in mode off.
    pub(super) fn new(
        repairs: Option<HeaderMap>,
        version: &ModelVersion,
        spec: &ModelSpec,
        verdict: &Verdict,
    ) -> Self {
        let policy = version.policy.for_signature(effective_signature(spec, verdict));
        Self { repairs, explain: verdict.mode != Mode::Off && policy.explain_upstream }
    }

    /// Adds what was repaired.
    pub fn add_to_metadata(&self, metadata: &mut HeaderMap) {
        for (name, value) in self.repairs.iter().flatten() {
            metadata.append(name.clone(), value.clone());
        }
    }

    /// Adds to the text of an error what it means. The server's text stays, byte for byte, as the
    /// beginning.
    pub fn add_to_error(&self, trailers: &mut HeaderMap) {
        let Some(message) = trailers.get(GRPC_MESSAGE).filter(|_| self.explain) else { return };
        let Some(meaning) = explain::explain(&percent_decode(message.as_bytes())) else { return };
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

#[cfg(test)]
mod tests {
    use super::*;

    fn text(message: &str, explain: bool) -> String {
        let mut trailers = HeaderMap::new();
        trailers.insert(GRPC_MESSAGE, HeaderValue::try_from(message).unwrap());
        ResponseAnnotations { repairs: None, explain }.add_to_error(&mut trailers);
        trailers[GRPC_MESSAGE].to_str().unwrap().to_owned()
    }

    #[test]
    fn the_servers_text_stays_and_its_meaning_follows() {
        // An escape of half a character, which no decoder can keep.
        let odd = "Incompatible shapes: %C3 %zz%0A\t 100%25";
        let found = text(odd, true);
        assert!(found.starts_with(odd) && found.contains(" [tfs-sidecar: "), "{found}");
        assert_eq!(text(odd, false), odd);
        assert_eq!(text("some other error", true), "some other error");
    }

    #[test]
    fn a_text_that_fills_the_trailers_is_left_alone() {
        let long = format!("Incompatible shapes{}", "x".repeat(TRAILERS_LIMIT));
        assert_eq!(text(&long, true), long);
        let mut none = HeaderMap::new();
        ResponseAnnotations { repairs: None, explain: true }.add_to_error(&mut none);
        assert!(none.is_empty());
    }
}
