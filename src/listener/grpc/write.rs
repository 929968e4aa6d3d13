//! Writes an answer to the client: headers, chunks and trailers as they come.
use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;
use http::{HeaderMap, Response};
use tonic::Code;

use super::responder::{Responder, Stop, grpc_head};
use super::stall::{Source, Stall};
use crate::config::Limits;
use crate::limiter::admission::Ticket;
use crate::pipeline::{Answer, ResponseAnnotations, WholeAnswer};
use crate::upstream::call::{First, Reply, ReplyBody, code};

/// Writes one answer. A client that does not read it is waited for, within limits.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    pub(super) responder: &'a Responder,
    ticket: &'a mut Ticket,
    limits: &'a Limits,
    stall: Stall,
}

impl<'a> Writer<'a> {
    /// What waits for the client is charged to `ticket`.
    pub(super) fn new(responder: &'a Responder, ticket: &'a mut Ticket, limits: &'a Limits) -> Self {
        Self { responder, ticket, limits, stall: Stall::default() }
    }

    /// Writes the answer and gives its code.
    ///
    /// # Errors
    /// The client cancelled or does not read, or the upstream failed in the middle of its answer.
    pub(super) async fn write(&mut self, answer: Answer) -> Result<Code, Stop> {
        match answer {
            Answer::Upstream { reply, annotations } => self.pass_on(reply, &annotations).await,
            Answer::Failed { head, mut trailers, annotations } => {
                annotations.add_to_trailers(&mut trailers);
                self.responder.head(Response::from_parts(head, ()), false)?;
                self.end(Some(trailers)).await
            }
            Answer::Whole(WholeAnswer { metadata, frames, trailers }) => {
                self.responder.head(grpc_head(metadata), false)?;
                for frame in frames {
                    self.data(frame, None).await?;
                }
                self.end(Some(trailers)).await
            }
        }
    }

    async fn pass_on(&mut self, reply: Reply, annotations: &ResponseAnnotations) -> Result<Code, Stop> {
        let Reply { head, first, mut body } = reply;
        match first {
            First::End => {
                let code = code(&head.headers).unwrap_or(Code::Unknown);
                self.responder.head(Response::from_parts(head, ()), true)?;
                Ok(code)
            }
            First::Data(data) => {
                self.responder.head(Response::from_parts(head, ()), false)?;
                self.responder.progress.set("reading the answer of the upstream");
                self.data(data, Some(&mut body)).await?;
                self.chunks(&mut body).await?;
                let mut trailers = body.trailers().await?;
                drop(body);
                if let Some(trailers) = &mut trailers {
                    annotations.add_to_trailers(trailers);
                }
                self.end(trailers).await
            }
            First::Trailers(trailers) => {
                self.responder.head(Response::from_parts(head, ()), false)?;
                self.end(trailers).await
            }
        }
    }

    /// Passes on what is left of a body.
    ///
    /// # Errors
    /// The client cancelled or does not read, or the upstream failed.
    pub(super) async fn chunks(&mut self, body: &mut ReplyBody) -> Result<(), Stop> {
        while let Some(data) = body.next().await? {
            self.data(data, Some(body)).await?;
        }
        Ok(())
    }

    /// Sends a chunk, which came from `body` if that is given.
    ///
    /// # Errors
    /// The client cancelled or does not read.
    pub(super) async fn data(&mut self, mut data: Bytes, body: Option<&mut ReplyBody>) -> Result<(), Stop> {
        let responder = self.responder;
        match poll_fn(|cx| Poll::Ready(responder.poll_data(cx, &mut data))).await {
            Poll::Ready(outcome) => outcome,
            // Boxed: a rare path need not size the task of every request.
            Poll::Pending => {
                let source = Source { data, body };
                Box::pin(self.stall.client(responder, self.ticket, self.limits, source)).await
            }
        }
    }

    /// Ends the answer and gives its code.
    ///
    /// # Errors
    /// The client cancelled, or its connection takes nothing.
    pub(super) async fn end(&mut self, trailers: Option<HeaderMap>) -> Result<Code, Stop> {
        let code = trailers.as_ref().and_then(code).unwrap_or(Code::Unknown);
        let stream = self.responder.stream();
        self.responder.end(trailers)?;
        if self.responder.backlog().is_blocked() {
            // The request counts until its answer is out of memory.
            Box::pin(self.stall.connection(self.responder, self.ticket, self.limits, stream)).await?;
        }
        Ok(code)
    }
}
