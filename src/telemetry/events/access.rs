//! One line of the access log: a request, at its end.
use std::time::Duration;

use tonic::Code;

use super::event::millis;
use crate::telemetry::labels::{Method, OutcomeLabel, code_name};

/// What the access log says about a request.
#[derive(Debug)]
pub(crate) struct Access<'a> {
    pub client: &'a str,
    pub peer: &'a str,
    pub model: &'a str,
    pub version: &'a str,
    pub signature: &'a str,
    pub method: Method,
    pub outcome: OutcomeLabel,
    pub code: Code,
    pub duration: Duration,
    /// The time of the call to TF Serving, unless the request shared one.
    pub upstream: Option<Duration>,
    /// The time in the queue for TF Serving; none if the request did not wait there.
    pub queue: Option<Duration>,
    /// Of the message, decompressed; none if it was not read.
    pub request_bytes: Option<u64>,
    pub rows: Option<u64>,
    /// The rows of the run that the request shared.
    pub batch_rows: Option<u64>,
    pub request_id: &'a str,
    pub trace_id: Option<&'a str>,
}

impl Access<'_> {
    /// Logs the request.
    pub(crate) fn log(&self) {
        tracing::info!(
            target: "tfs_sidecar::access",
            client = self.client,
            peer = self.peer,
            model = self.model,
            version = self.version,
            signature = self.signature,
            method = self.method.as_str(),
            outcome = self.outcome.as_str(),
            code = code_name(self.code),
            duration_ms = millis(self.duration),
            upstream_ms = self.upstream.map(millis),
            queue_ms = self.queue.map(millis),
            request_bytes = self.request_bytes,
            rows = self.rows,
            batch_rows = self.batch_rows,
            request_id = self.request_id,
            trace_id = self.trace_id,
            "request"
        );
    }
}
