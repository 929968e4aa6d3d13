//! What a listener gives back to its client: TF Serving's answer as it comes, or one made here.
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, response};
use smallvec::{SmallVec, smallvec};

use super::annotations::ResponseAnnotations;
use super::operation::Operation;
use super::repair_metadata::mark_dry_run;
use crate::fault::{Fault, GRPC_MESSAGE, Theirs, percent_encode};
use crate::limiter::admission::Ticket;
use crate::repair::Verdict;
use crate::upstream::call::{First, Reply};
use crate::wire::Rope;

/// gRPC's prefix of a message.
const PREFIX: usize = 5;
/// Bytes of the largest message that is read to its end before it is passed on.
const MAX_GATHERED: usize = 1 << 20;

/// An answer that has begun.
#[derive(Debug)]
pub(crate) enum Answer {
    /// TF Serving's own, still to be read, and what is added to it.
    Upstream { reply: Reply, annotations: ResponseAnnotations },
    /// An error of TF Serving that came behind the beginning of a message.
    Failed { head: response::Parts, trailers: HeaderMap, annotations: ResponseAnnotations },
    /// One that is here in full, with the code OK.
    Whole(WholeAnswer),
}

/// An answer in memory.
#[derive(Debug)]
pub(crate) struct WholeAnswer {
    /// Initial metadata.
    pub metadata: HeaderMap,
    /// The message with gRPC's prefix.
    pub frames: SmallVec<[Bytes; 4]>,
    pub trailers: HeaderMap,
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self::Upstream { reply, annotations: ResponseAnnotations::default() }
    }
}

impl Answer {
    /// Whether TF Serving has run the request, as far as the answer has come.
    pub(super) fn is_ok_so_far(&self) -> bool {
        match self {
            Self::Upstream { reply, .. } => reply.is_answer(),
            Self::Whole(_) => true,
            Self::Failed { .. } => false,
        }
    }

    /// The message of an answer that has come in full; `None` for one that is still to be read, is
    /// compressed, or is an error.
    pub(super) fn message(&self) -> Option<Rope> {
        let frames: Rope = match self {
            Self::Upstream { reply: Reply { first: First::Data(data), .. }, .. } => Rope::from(data.clone()),
            Self::Whole(WholeAnswer { frames, .. }) => frames.iter().cloned().collect(),
            Self::Upstream { .. } | Self::Failed { .. } => return None,
        };
        let prefix: Vec<u8> = frames.chunks(0..PREFIX.min(frames.len())).flatten().copied().collect();
        let [0, length @ ..] = <[u8; PREFIX]>::try_from(prefix).ok()? else { return None };
        let end = PREFIX.checked_add(u32::from_be_bytes(length) as usize)?;
        (end <= frames.len()).then(|| frames.slice(PREFIX..end))
    }

    /// Reads on until the message has come in full, so that [`Self::message`] has it. One that is
    /// compressed, that is larger than [`MAX_GATHERED`] or for which there is no memory stays as it
    /// is.
    ///
    /// # Errors
    /// The connection or the stream failed.
    pub(super) async fn gather(&mut self, ticket: &mut Ticket) -> Result<(), Fault> {
        let Self::Upstream { reply: Reply { first: First::Data(data), body, .. }, .. } = self else {
            return Ok(());
        };
        let Some([0, length @ ..]) = data.first_chunk::<PREFIX>() else { return Ok(()) };
        let whole = (u32::from_be_bytes(*length) as usize).saturating_add(PREFIX);
        if data.len() >= whole || whole > MAX_GATHERED || !ticket.try_reserve(whole as u64) {
            return Ok(());
        }
        let mut joined = BytesMut::with_capacity(whole);
        joined.extend_from_slice(data);
        while joined.len() < whole
            && let Some(more) = body.next().await?
        {
            joined.extend_from_slice(&more);
        }
        *data = joined.freeze();
        Ok(())
    }

    /// Sets what is added to the answer.
    pub(super) fn set_annotations(&mut self, new: ResponseAnnotations) {
        match self {
            Self::Upstream { annotations, .. } | Self::Failed { annotations, .. } => *annotations = new,
            Self::Whole(whole) => new.add_metadata(&mut whole.metadata),
        }
    }

    /// Adds repairs and warnings, and to an error what it means, as far as the answer has come.
    pub(super) fn annotate(&mut self, message: &Rope, operation: &Operation, verdict: &Verdict) {
        match self {
            Self::Upstream { reply, annotations } => {
                annotations.add_to_reply(reply, message, operation, verdict);
            }
            Self::Failed { head, annotations, .. } => annotations.add_metadata(&mut head.headers),
            Self::Whole(_) => {}
        }
    }

    /// A refusal of TF Serving's REST API.
    pub(super) fn refused(theirs: &Theirs) -> Self {
        let mut trailers = HeaderMap::with_capacity(2);
        trailers.insert("grpc-status", HeaderValue::from(theirs.code as i32));
        if let Ok(text) = HeaderValue::try_from(percent_encode(&theirs.text)) {
            trailers.insert(GRPC_MESSAGE, text);
        }
        let (head, ()) = Response::new(()).into_parts();
        Self::Failed { head, trailers, annotations: ResponseAnnotations::default() }
    }

    /// An empty message, and what would have been repaired or warned about.
    pub(super) fn dry_run(metadata: Option<HeaderMap>) -> Self {
        const EMPTY: Bytes = Bytes::from_static(&[0; 5]);
        let mut metadata = metadata.unwrap_or_default();
        mark_dry_run(&mut metadata);
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Self::Whole(WholeAnswer { metadata, frames: smallvec![EMPTY], trailers })
    }
}
