//! Everything that came back from a call, and readers for the metadata and the error details.
use http::HeaderMap;
use prost::Message as _;
use prost::bytes::Bytes;
use tonic_types::pb::{BadRequest, ErrorInfo};

use super::super::framing::percent_decode;

/// Everything that came back.
#[derive(Debug)]
pub struct Reply {
    pub http_status: u16,
    pub initial: HeaderMap,
    pub messages: Vec<Bytes>,
    /// The first message; empty if there is none.
    pub message: Bytes,
    /// The gRPC code; -1 if there is none.
    pub code: i32,
    /// `grpc-message`, decoded.
    pub text: String,
    /// The trailers; the same as `initial` if the answer is trailers-only.
    pub trailers: HeaderMap,
}

impl Reply {
    pub(super) fn new(
        http_status: u16,
        initial: HeaderMap,
        messages: Vec<Bytes>,
        trailers: HeaderMap,
    ) -> Self {
        let code = value(&trailers, "grpc-status").and_then(|code| code.parse().ok()).unwrap_or(-1);
        let text = value(&trailers, "grpc-message").map(|text| percent_decode(&text)).unwrap_or_default();
        let message = messages.first().cloned().unwrap_or_default();
        Self { http_status, initial, messages, message, code, text, trailers }
    }

    /// The values of a key of the initial metadata.
    pub fn initial(&self, key: &str) -> Vec<String> {
        values(&self.initial, key)
    }

    pub fn trailer(&self, key: &str) -> Vec<String> {
        values(&self.trailers, key)
    }

    /// `tfs-sidecar-repair` of the initial metadata.
    pub fn repairs(&self) -> Vec<String> {
        self.initial("tfs-sidecar-repair")
    }

    /// `grpc-status-details-bin`, decoded from base64.
    pub fn details(&self) -> Option<Bytes> {
        use base64::Engine as _;
        let text = value(&self.trailers, "grpc-status-details-bin")?;
        let engine = base64::engine::general_purpose::STANDARD_NO_PAD;
        Some(engine.decode(text.trim_end_matches('=')).expect("details are base64").into())
    }

    /// The two details of a refusal by the sidecar; panics if one is missing.
    pub fn problems(&self) -> (BadRequest, ErrorInfo) {
        let details = self.details().expect("a refusal has details");
        let status = tonic_types::Status::decode(details).expect("details are a google.rpc.Status");
        assert_eq!(
            (status.code, &status.message),
            (self.code, &self.text),
            "the details repeat code and message"
        );
        (detail(&status, "google.rpc.BadRequest"), detail(&status, "google.rpc.ErrorInfo"))
    }

    /// `ErrorInfo.reason`.
    pub fn reason(&self) -> String {
        let status = tonic_types::Status::decode(self.details().expect("a refusal has details"));
        let info: ErrorInfo =
            detail(&status.expect("details are a google.rpc.Status"), "google.rpc.ErrorInfo");
        assert_eq!(info.domain, "tfs-sidecar");
        info.reason
    }

    /// Panics unless the call was answered OK.
    pub fn ok(self) -> Self {
        assert_eq!((self.code, self.text.as_str()), (0, ""));
        self
    }
}

fn detail<M: prost::Message + Default>(status: &tonic_types::Status, name: &str) -> M {
    let any = status.details.iter().find(|any| any.type_url.ends_with(name));
    let any = any.unwrap_or_else(|| panic!("the details have no {name}"));
    M::decode(&any.value[..]).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn value(headers: &HeaderMap, key: &str) -> Option<String> {
    values(headers, key).into_iter().next()
}

fn values(headers: &HeaderMap, key: &str) -> Vec<String> {
    headers.get_all(key).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
}
