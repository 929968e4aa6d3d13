//! Classify, Regress and MultiInference: the signature's name is checked, and that there are examples; the bytes go on.
use h2::RecvStream;
use http::request;
use tonic::Code;

use super::Shard;
use super::call::{Call, Stop};
use super::deadline::Deadline;
use super::record::Record;

// STUB: streamed through until the engine's check of these methods lands.
pub async fn infer(
    shard: &Shard,
    call: &Call,
    head: request::Parts,
    body: RecvStream,
    deadline: Deadline,
    record: &mut Record,
) -> Result<Code, Stop> {
    super::passthrough::pass(shard, call, head, body, deadline, record).await
}
