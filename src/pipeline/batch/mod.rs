//! Requests that share a run of the model: how one joins ([`member`]), how the call is made for all
//! ([`run`]), and how it is checked that a small difference is rounding ([`mod@confirm`]).
mod confirm;
mod key;
mod member;
mod run;

pub(crate) use confirm::confirm;
pub(super) use member::{Candidate, rows, share, start_alone};
pub(crate) use run::make;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::answer::WholeAnswer;
use crate::fault::Fault;
use crate::runs::{Common, Rows};
use crate::transport::framing;

/// A member's rows, and those of its run.
const BATCH: HeaderName = HeaderName::from_static("tfs-sidecar-batch");

/// The answer that a member gets.
fn answer(rows: Rows) -> Result<WholeAnswer, Fault> {
    let Rows { message, common, count } = rows;
    let Common { metadata, trailers, rows: of, .. } = &*common;
    let mut metadata = metadata.clone();
    if let Ok(value) = HeaderValue::try_from(format!("rows={count}/{of}")) {
        metadata.insert(BATCH, value);
    }
    let frames = framing::frames(message).map_err(|error| Fault::Internal { problem: error.to_string() })?;
    Ok(WholeAnswer { metadata, frames, trailers: trailers.clone() })
}

/// The metadata of an answer without what its message's encoding needs.
fn without_encoding(mut metadata: HeaderMap) -> HeaderMap {
    for name in ["content-type", "grpc-encoding", "grpc-accept-encoding"] {
        metadata.remove(name);
    }
    metadata
}
