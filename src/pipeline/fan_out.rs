//! A request that is several calls, or a fuller one: sends them one after the other and puts their
//! answers together.
use http::{HeaderMap, Request, Response, response};
use tonic::Code;

use super::Shard;
use super::call::{Call, Stop};
use super::deadline::Deadline;
use super::forward::{First, Reply, code};
use super::relay::{ResponseAnnotations, relay};
use super::request_metrics::RequestMetrics;
use super::send::send;
use crate::fault::Fault;
use crate::limiter::admission::Ticket;
use crate::repair::calls::{Calls, answer, requests};
use crate::transport::framing::{Assembler, frames};
use crate::upstream::unary;
use crate::wire::Rope;

/// What the calls of one request share.
pub(super) struct FanOut<'a> {
    pub shard: &'a Shard,
    pub call: &'a Call,
    pub deadline: Deadline,
    pub metrics: &'a RequestMetrics,
    pub ticket: &'a mut Ticket,
    /// What was repaired, for the client.
    pub annotations: ResponseAnnotations<'a>,
}

impl FanOut<'_> {
    /// Makes the calls of `plan` with a message that conforms but for its rows. The first call that
    /// TF Serving refuses is the answer.
    pub(super) async fn run(
        mut self,
        request: &mut Request<()>,
        message: &Rope,
        plan: Calls,
    ) -> Result<Code, Stop> {
        let internal = |error: &dyn std::fmt::Display| Fault::Internal { problem: error.to_string() };
        let mut parts: Vec<(Rope, i64)> = Vec::new();
        let mut first = None;
        let mut trailers = None;
        for (part, rows) in requests(message, plan).map_err(|error| internal(&error))? {
            let sent = frames(part);
            let reply = send(self.shard, self.call, request, &sent, self.deadline, self.metrics).await?;
            match self.gather(reply).await? {
                Gathered::Refused(reply) => {
                    return relay(self.call, &self.shard.pool, *reply, self.annotations).await;
                }
                Gathered::Failed { head, trailers } => return self.refuse(head, trailers),
                Gathered::Whole { head, message, trailers: last } => {
                    parts.push((message, rows));
                    first.get_or_insert(head);
                    trailers = last;
                }
            }
        }
        let whole = match (answer(&parts, plan), plan) {
            (Ok(whole), _) => whole,
            // Being answered wins over the operator's wish for smaller calls.
            (Err(error), Calls::Split { whole: true, .. }) => {
                tracing::debug!(%error, "the answers of a split request do not fit together: it is sent whole");
                let sent = frames(message.clone());
                let reply = send(self.shard, self.call, request, &sent, self.deadline, self.metrics).await?;
                return relay(self.call, &self.shard.pool, reply, self.annotations).await;
            }
            (Err(error), _) => {
                let problem =
                    format!("the answers of the calls that this request became do not fit together: {error}");
                return Err(Fault::Upstream { code: Code::FailedPrecondition, message: problem }.into());
            }
        };
        let mut head = first.map_or_else(|| Response::new(()), |head| Response::from_parts(head, ()));
        self.annotations.to_metadata(head.headers_mut());
        self.call.head(head, false)?;
        for frame in frames(whole) {
            self.call.data(frame).await?;
        }
        self.call.end(trailers)?;
        Ok(Code::Ok)
    }

    fn refuse(&self, mut head: response::Parts, trailers: Option<HeaderMap>) -> Result<Code, Stop> {
        let mut trailers = trailers.unwrap_or_default();
        let found = code(&trailers).unwrap_or(Code::Unknown);
        self.annotations.to_metadata(&mut head.headers);
        self.annotations.to_metadata(&mut trailers);
        self.annotations.to_text(&mut trailers);
        self.call.head(Response::from_parts(head, ()), false)?;
        self.call.end(Some(trailers))?;
        Ok(found)
    }

    /// Reads an answer to its end; what it takes is charged like a request's message.
    async fn gather(&mut self, reply: Reply) -> Result<Gathered, Stop> {
        if !matches!(reply.first, First::Data(_)) {
            return Ok(Gathered::Refused(Box::new(reply)));
        }
        let Reply { head, first, mut body, lease } = reply;
        let First::Data(mut next) = first else { return Err(Stop::ClientCancelled) };
        let pool = &self.shard.pool;
        let broken = |error: h2::Error| unary::fault(pool, &error);
        let unreadable = |error: &dyn std::fmt::Display| Fault::Internal {
            problem: format!("expected an answer, found {error}"),
        };
        let mut assembler = Assembler::default();
        loop {
            let length = next.len();
            self.ticket.charge(length as u64)?;
            assembler.push(next).map_err(|error| unreadable(&error))?;
            body.flow_control().release_capacity(length).map_err(broken)?;
            match body.data().await {
                Some(data) => next = data.map_err(broken)?,
                None => break,
            }
        }
        let trailers = body.trailers().await.map_err(broken)?;
        drop(lease);
        if trailers.as_ref().and_then(code) != Some(Code::Ok) {
            return Ok(Gathered::Failed { head, trailers });
        }
        let message = assembler.finish().map_err(|error| unreadable(&error))?;
        if message.compressed {
            return Err(unreadable(&"a compressed one").into());
        }
        Ok(Gathered::Whole { head, message: message.payload, trailers })
    }
}

enum Gathered {
    /// Nothing but headers and trailers: still to be relayed.
    Refused(Box<Reply>),
    /// Data, and then an error.
    Failed {
        head: response::Parts,
        trailers: Option<HeaderMap>,
    },
    Whole {
        head: response::Parts,
        message: Rope,
        trailers: Option<HeaderMap>,
    },
}
