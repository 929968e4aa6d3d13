//! A request as the raw client sends it: path, metadata, and exactly the given body bytes.
use prost::bytes::Bytes;

use super::super::framing::{compress, frame};
use super::super::requests::PREDICT;

/// What to send.
#[derive(Clone, Debug)]
pub struct Request {
    pub(super) path: String,
    pub(super) metadata: Vec<(String, String)>,
    pub(super) body: Bytes,
    pub(super) chunk: usize,
    pub(super) half_close: bool,
}

impl Request {
    /// A request with one message.
    pub fn new(path: &str, message: &[u8]) -> Self {
        Self::raw(path, frame(message, false))
    }

    pub fn predict(message: &[u8]) -> Self {
        Self::new(PREDICT, message)
    }

    /// A request with exactly these body bytes.
    pub fn raw(path: &str, body: impl Into<Bytes>) -> Self {
        Self {
            path: path.into(),
            metadata: Vec::new(),
            body: body.into(),
            chunk: usize::MAX,
            half_close: true,
        }
    }

    /// A request with one message, compressed with gzip.
    pub fn gzip(path: &str, message: &[u8]) -> Self {
        Self::raw(path, frame(&compress(message), true)).metadata("grpc-encoding", "gzip")
    }

    pub fn metadata(mut self, key: &str, value: &str) -> Self {
        self.metadata.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Sets `grpc-timeout`; `100m` means 100 milliseconds.
    pub fn timeout(self, timeout: &str) -> Self {
        self.metadata("grpc-timeout", timeout)
    }

    /// Sends the body in DATA frames of at most this many bytes.
    pub fn chunks(mut self, bytes: usize) -> Self {
        self.chunk = bytes;
        self
    }

    /// Sends the body without half-closing.
    pub fn unfinished(mut self) -> Self {
        self.half_close = false;
        self
    }
}
