//! A call as the server records it, and how it ended.
use http::HeaderMap;
use prost::bytes::Bytes;

/// A call as it arrived, and its end.
#[derive(Clone, Debug)]
pub struct Call {
    /// The number of its connection, in the order of acceptance, from 0.
    pub connection: usize,
    pub path: String,
    pub headers: HeaderMap,
    /// The whole body as it arrived, with length prefixes, and compressed if it was sent
    /// compressed.
    pub body: Bytes,
    /// The first message, decompressed; empty if there is none.
    pub message: Bytes,
    /// Whether the first message was flagged as compressed.
    pub compressed: bool,
    pub end: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Open,
    /// Answered with this gRPC code.
    Answered(i32),
    /// The caller reset the stream; without a reason if the connection ended.
    Cancelled(Option<h2::Reason>),
    /// A script reset the stream or closed the connection.
    Dropped,
}
