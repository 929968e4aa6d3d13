//! The answering half of a client's call, and what can end the call early: deadline, cancellation.
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::SendStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use crate::fault::Fault;
use crate::pipeline::Progress;
use crate::pipeline::repair_metadata::mark_dry_run;
use crate::tasks::poll_isolated;
use crate::telemetry::events::X_REQUEST_ID;
use crate::telemetry::metrics::PanickedTask;
use crate::transport::body;
use crate::transport::coalesce::Backlog;
use crate::transport::deadline::Deadline;

/// Why the work on a call stops early.
#[derive(Debug)]
pub(super) enum Stop {
    /// The client is told.
    Fault(Fault),
    /// The client cancelled the call, or its connection ended: there is nobody to tell.
    ClientCancelled,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// The answering half of a call. The work and the watch for cancellation share it: both run in one
/// task and borrow only while they are polled.
#[derive(Debug)]
pub(super) struct Responder {
    state: RefCell<State>,
    /// What the call is waiting for.
    pub(super) progress: Progress,
    dry_run: Cell<bool>,
    /// The id of the request, for the client that sent it.
    request_id: RefCell<Option<HeaderValue>>,
    backlog: Rc<Backlog>,
}

#[derive(Debug)]
enum State {
    Unanswered(SendResponse<Bytes>),
    Started(SendStream<Bytes>),
    Ended,
}

impl Responder {
    /// `backlog` is that of the client's connection.
    pub(super) fn new(respond: SendResponse<Bytes>, backlog: Rc<Backlog>) -> Self {
        Self {
            backlog,
            state: RefCell::new(State::Unanswered(respond)),
            progress: Progress::new("reading the request"),
            dry_run: Cell::new(false),
            request_id: RefCell::default(),
        }
    }

    /// Whatever the answer will be, it says that nothing was run.
    pub(super) fn set_dry_run(&self) {
        self.dry_run.set(true);
    }

    /// The client gave the request an id, which goes back with the answer.
    pub(super) fn set_request_id(&self, id: Option<HeaderValue>) {
        *self.request_id.borrow_mut() = id;
    }

    /// Runs the work until it is done, the deadline passes, or the client cancels. Dropping the
    /// work resets the upstream call. A panic of the work is a fault of this call alone.
    ///
    /// Takes the work by reference: a future that is passed by value is in its caller's future
    /// twice.
    pub(super) async fn bounded<T>(
        &self,
        deadline: Deadline,
        mut work: Pin<&mut impl Future<Output = Result<T, Stop>>>,
    ) -> Result<T, Stop> {
        let mut timer = pin!(deadline.at().map(tokio::time::sleep_until));
        poll_fn(|cx| {
            if let Poll::Ready(done) = poll_isolated(PanickedTask::Request, work.as_mut(), cx) {
                return Poll::Ready(done.unwrap_or_else(|_| Err(panicked().into())));
            }
            if let Some(timer) = timer.as_mut().as_pin_mut()
                && timer.poll(cx).is_ready()
            {
                return Poll::Ready(Err(Fault::Deadline { during: self.progress.get() }.into()));
            }
            self.poll_cancelled(cx).map(|()| Err(Stop::ClientCancelled))
        })
        .await
    }

    fn poll_cancelled(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut *self.state.borrow_mut() {
            State::Unanswered(respond) => respond.poll_reset(cx).map(|_| ()),
            State::Started(stream) => stream.poll_reset(cx).map(|_| ()),
            State::Ended => Poll::Pending,
        }
    }

    /// Starts the answer; with `end` it is the whole of it.
    pub(super) fn head(&self, mut head: Response<()>, end: bool) -> Result<(), Stop> {
        if let Some(id) = self.request_id.borrow_mut().take() {
            head.headers_mut().entry(X_REQUEST_ID).or_insert(id);
        }
        let mut state = self.state.borrow_mut();
        let State::Unanswered(respond) = &mut *state else { return Err(Stop::ClientCancelled) };
        let stream = respond.send_response(head, end).map_err(|_| Stop::ClientCancelled)?;
        *state = if end { State::Ended } else { State::Started(stream) };
        Ok(())
    }

    /// Takes what the client has room for; ready when `data` is empty. Nothing is added to what the
    /// connection cannot write.
    pub(super) fn poll_data(&self, cx: &mut Context<'_>, data: &mut Bytes) -> Poll<Result<(), Stop>> {
        let mut state = self.state.borrow_mut();
        let State::Started(stream) = &mut *state else { return Poll::Ready(Err(Stop::ClientCancelled)) };
        if self.backlog.is_blocked() {
            ready!(self.backlog.poll_flushed(stream.stream_id().as_u32(), cx));
        }
        body::poll_send(cx, stream, data).map_err(|_| Stop::ClientCancelled)
    }

    /// What the client's connection could not write yet.
    pub(super) fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    /// The number of the stream; 0 once the answer has ended.
    pub(super) fn stream(&self) -> u32 {
        match &*self.state.borrow() {
            State::Unanswered(respond) => respond.stream_id().as_u32(),
            State::Started(stream) => stream.stream_id().as_u32(),
            State::Ended => 0,
        }
    }

    /// Ends the answer, with trailers or, if the upstream had none, without.
    pub(super) fn end(&self, trailers: Option<HeaderMap>) -> Result<(), Stop> {
        let State::Started(mut stream) = self.state.replace(State::Ended) else {
            return Err(Stop::ClientCancelled);
        };
        body::finish(&mut stream, trailers).map_err(|_| Stop::ClientCancelled)
    }

    /// Ends the call with a failure: as the only headers, or as trailers when the answer has begun.
    pub(super) fn fail(&self, mut trailers: HeaderMap) {
        if self.dry_run.get() {
            mark_dry_run(&mut trailers);
        }
        let unanswered = matches!(*self.state.borrow(), State::Unanswered(_));
        // A client that cancelled meanwhile does not need the error.
        if unanswered { self.head(grpc_head(trailers), true) } else { self.end(Some(trailers)) }.ok();
    }

    /// Answers a request that is not gRPC with an HTTP status alone.
    pub(super) fn http(&self, status: StatusCode) {
        let mut head = Response::new(());
        *head.status_mut() = status;
        self.head(head, true).ok();
    }
}

/// The error that the client gets after a panic. The panic's own text, which may quote the request,
/// is only logged.
fn panicked() -> Fault {
    Fault::Internal { problem: "a bug ended this request; the log of the sidecar has the place".to_owned() }
}

/// `:status 200`, `content-type: application/grpc` and these.
pub(super) fn grpc_head(mut headers: HeaderMap) -> Response<()> {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let mut head = Response::new(());
    *head.headers_mut() = headers;
    head
}

#[cfg(test)]
mod tests {
    use http::Request;
    use tonic::Code;

    use super::*;

    /// The `grpc-status` of each call of one connection, of which the first one panics.
    async fn statuses(calls: usize) -> Vec<String> {
        let (near, far) = tokio::io::duplex(1 << 16);
        let server = async {
            let mut connection = h2::server::handshake(far).await.unwrap();
            let mut accepted = 0;
            while let Some(Ok((_, respond))) = connection.accept().await {
                accepted += 1;
                let responder = Responder::new(respond, Rc::default());
                let deadline = Deadline::read(&HeaderMap::new(), tokio::time::Instant::now()).unwrap();
                let work = pin!(async {
                    assert!(accepted > 1, "the first call panics");
                    Ok(())
                });
                match responder.bounded(deadline, work).await {
                    Err(Stop::Fault(fault)) => responder.fail(fault.trailers(None)),
                    outcome => {
                        outcome.unwrap();
                        responder.fail(Fault::Draining.trailers(None));
                    }
                }
            }
        };
        let client = async {
            let (mut send, connection) = h2::client::handshake(near).await.unwrap();
            let asked = async {
                let mut statuses = Vec::new();
                for _ in 0..calls {
                    let request = Request::post("http://h/s/m").body(()).unwrap();
                    let (response, _) = send.send_request(request, true).unwrap();
                    let head = response.await.unwrap();
                    statuses.push(head.headers()["grpc-status"].to_str().unwrap().to_owned());
                }
                statuses
            };
            tokio::select! {
                statuses = asked => statuses,
                ended = connection => panic!("{ended:?}"),
            }
        };
        tokio::select! {
            statuses = client => statuses,
            () = server => panic!("the connection ended"),
        }
    }

    #[tokio::test]
    async fn a_panic_fails_its_call_and_no_other_of_the_connection() {
        let status = |code: Code| (code as i32).to_string();
        assert_eq!(statuses(2).await, [status(Code::Internal), status(Code::Unavailable)]);
    }
}
