//! What the stages know of one request, whichever listener it came through.
use std::cell::Cell;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use super::Shard;
use super::options::RequestOptions;
use super::request_metrics::RequestMetrics;
use crate::config::Config;
use crate::fault::Theirs;
use crate::limiter::admission::Ticket;
use crate::repair::text::TextFindings;
use crate::retry::policy::{Attempts, Cause, Decision};
use crate::transport::deadline::Deadline;
use crate::transport::peer::Peer;
use crate::upstream::call::CallHead;
use crate::wire::Rope;

/// One request on its way through the stages. It stays on the thread of its shard.
#[derive(Debug)]
pub(crate) struct RequestContext<'a> {
    pub shard: &'a Shard,
    /// The same from the first stage to the last, whatever is reloaded meanwhile.
    pub config: &'a Arc<Config>,
    pub peer: &'a Peer,
    pub options: RequestOptions,
    pub deadline: Deadline,
    /// Counts the request and its bytes against the limits until it is dropped.
    pub ticket: Ticket,
    pub progress: &'a Progress,
    pub metrics: &'a mut RequestMetrics,
    /// The retries so far.
    pub attempts: Attempts,
    /// What goes to TF Serving beside the message: the method's path and the forwarded metadata.
    pub head: CallHead,
    /// What was found in the text that the message was made of, if it was a text.
    pub text: Option<Arc<TextFindings>>,
    /// The answer to give in place of TF Serving's, in the modes that change nothing: its REST API
    /// refuses what its gRPC API would run.
    pub refusal: Option<Box<Theirs>>,
}

/// The message of a request.
#[derive(Debug)]
pub(crate) struct RequestMessage {
    /// What is forwarded when nothing changes: with gRPC's prefix, compressed if it came so.
    pub frames: SmallVec<[Bytes; 4]>,
    /// The message itself, decompressed, without a prefix.
    pub payload: Rope,
}

/// What a request is waiting for. The text of a missed deadline names it.
#[derive(Debug)]
pub(crate) struct Progress(Cell<&'static str>);

impl RequestContext<'_> {
    /// Asks the retry policy, at the cost of this shard's budget.
    pub(super) fn retry(&mut self, cause: Cause) -> Decision {
        // Spread by the number of the request, so that what was refused together does not come back
        // together.
        let seed = u64::from(self.shard.requests.get());
        self.attempts.decide(cause, &mut self.shard.retry_budget.borrow_mut(), seed)
    }
}

impl Progress {
    pub(crate) fn new(during: &'static str) -> Self {
        Self(Cell::new(during))
    }

    pub(crate) fn set(&self, during: &'static str) {
        self.0.set(during);
    }

    pub(crate) fn get(&self) -> &'static str {
        self.0.get()
    }
}
