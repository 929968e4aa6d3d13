//! Counts the requests of a connection: each until its answer is written, or it is given up.
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http::Request;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::Client;
/// A request of a connection, until dropped.
pub(super) struct Running(Rc<Client>);

impl Running {
    pub(super) fn new(client: &Rc<Client>, request: &Request<Incoming>) -> Self {
        client.running.set(client.running.get() + 1);
        client.accepted.set(client.accepted.get() + 1);
        client.complete.set(request.body().is_end_stream());
        Self(Rc::clone(client))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get() - 1);
    }
}

/// The body of an answer: its request runs until it is written.
pub(super) struct CountedBody {
    body: Body,
    _running: Running,
}

impl CountedBody {
    pub(super) fn new(body: Body, running: Running) -> Self {
        Self { body, _running: running }
    }
}

impl http_body::Body for CountedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
