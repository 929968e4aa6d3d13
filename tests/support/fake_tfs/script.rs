//! Scripted answers: what the fake server does with the next calls instead of answering them.
use std::sync::Arc;

use prost::bytes::Bytes;
use tokio::sync::watch;

/// What happens to a call.
#[derive(Clone, Debug)]
pub enum Act {
    /// Sends a trailers-only answer.
    Status { code: i32, text: String },
    /// As `Status`, with `grpc-status-details-bin`.
    Details { code: i32, text: String, details: Bytes },
    /// Waits until the gate opens, then answers normally.
    Hold(Gate),
    /// Sends the headers and the first half of the answer, the rest when the gate opens.
    Halves(Gate),
    /// Sends the headers and the first half of the answer, then RST_STREAM with INTERNAL_ERROR.
    Break,
    /// Answers OK with exactly this message.
    Message(Bytes),
    /// Sends RST_STREAM.
    Reset(h2::Reason),
    /// Closes the TCP connection without GOAWAY or RST_STREAM.
    Close,
    /// Sends GOAWAY, then answers: a graceful end of the connection.
    GoAway,
    /// Answers with the message compressed with gzip.
    Gzip,
}

/// Holds answers back until `open`; clones share one gate.
#[derive(Clone, Debug)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    pub fn open(&self) {
        self.0.send_replace(true);
    }

    pub async fn opened(&self) {
        let mut state = self.0.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = state.wait_for(|open| *open).await;
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

/// An act for the next `times` calls of one method (or of any).
#[derive(Clone, Debug)]
pub struct Entry {
    pub path: Option<String>,
    pub times: usize,
    pub act: Act,
}

/// Takes the next act for a call of `path`, if there is one.
pub fn take(script: &mut Vec<Entry>, path: &str) -> Option<Act> {
    let at = script.iter().position(|entry| entry.path.as_deref().is_none_or(|wanted| wanted == path))?;
    let act = script[at].act.clone();
    script[at].times -= 1;
    if script[at].times == 0 {
        script.remove(at);
    }
    Some(act)
}
