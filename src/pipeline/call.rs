//! One call of a client: its way to be answered, and what can end it early (deadline,
//! cancellation).
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::SendStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use tokio::time::Instant;

use super::deadline::Deadline;
use super::options::mark_dry_run;
use crate::fault::Fault;

/// Why the work on a call stops before its end.
#[derive(Debug)]
pub enum Stop {
    /// To be told to the client.
    Fault(Fault),
    /// The client has cancelled the call or is gone: nobody to tell.
    ClientCancelled,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// The answering half of a call. Shared between the work and the watch for cancellation: both run
/// in one task and borrow only while they are polled.
#[derive(Debug)]
pub struct Call {
    answer: RefCell<Answer>,
    /// What is waited for: told when the deadline comes.
    during: Cell<&'static str>,
    dry_run: Cell<bool>,
}

#[derive(Debug)]
enum Answer {
    Nothing(SendResponse<Bytes>),
    Started(SendStream<Bytes>),
    Ended,
}

impl Call {
    pub fn new(respond: SendResponse<Bytes>) -> Self {
        Self {
            answer: RefCell::new(Answer::Nothing(respond)),
            during: Cell::new("reading the request"),
            dry_run: Cell::new(false),
        }
    }

    pub fn waits_for(&self, during: &'static str) {
        self.during.set(during);
    }

    /// Whatever the answer will be, it says that nothing was run.
    pub fn is_dry_run(&self) {
        self.dry_run.set(true);
    }

    /// Runs the work until it is done, the deadline is over, or the client is gone. Dropping the
    /// work resets the upstream call.
    ///
    /// The work is lent: a future that is handed over lies in its caller's future twice.
    pub async fn bounded<T>(
        &self,
        deadline: Deadline,
        mut work: Pin<&mut impl Future<Output = Result<T, Stop>>>,
    ) -> Result<T, Stop> {
        let mut timer = pin!(deadline.at().map(tokio::time::sleep_until));
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            if let Some(timer) = timer.as_mut().as_pin_mut()
                && timer.poll(cx).is_ready()
            {
                return Poll::Ready(Err(Fault::Deadline { during: self.during.get() }.into()));
            }
            self.poll_cancelled(cx).map(|()| Err(Stop::ClientCancelled))
        })
        .await
    }

    fn poll_cancelled(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut *self.answer.borrow_mut() {
            Answer::Nothing(respond) => respond.poll_reset(cx).map(|_| ()),
            Answer::Started(stream) => stream.poll_reset(cx).map(|_| ()),
            Answer::Ended => Poll::Pending,
        }
    }

    /// Starts the answer; with `end` it is the whole of it.
    pub fn head(&self, head: Response<()>, end: bool) -> Result<(), Stop> {
        let mut answer = self.answer.borrow_mut();
        let Answer::Nothing(respond) = &mut *answer else { return Err(Stop::ClientCancelled) };
        let stream = respond.send_response(head, end).map_err(|_| Stop::ClientCancelled)?;
        *answer = if end { Answer::Ended } else { Answer::Started(stream) };
        Ok(())
    }

    /// Sends data when the client has room for it: a client that does not read holds nothing here
    /// but this frame.
    pub async fn data(&self, mut data: Bytes) -> Result<(), Stop> {
        while !data.is_empty() {
            let part = poll_fn(|cx| self.poll_send(cx, &mut data)).await?;
            debug_assert!(part > 0, "poll_send gives Ready only for progress");
        }
        Ok(())
    }

    fn poll_send(&self, cx: &mut Context<'_>, data: &mut Bytes) -> Poll<Result<usize, Stop>> {
        let mut answer = self.answer.borrow_mut();
        let Answer::Started(stream) = &mut *answer else { return Poll::Ready(Err(Stop::ClientCancelled)) };
        stream.reserve_capacity(data.len());
        let mut room = stream.capacity();
        while room == 0 {
            match stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(capacity))) => room = capacity,
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Err(Stop::ClientCancelled)),
                Poll::Pending => return Poll::Pending,
            }
        }
        let part = data.split_to(room.min(data.len()));
        let length = part.len();
        Poll::Ready(stream.send_data(part, false).map(|()| length).map_err(|_| Stop::ClientCancelled))
    }

    /// Ends the answer, with trailers or, if the upstream had none, without.
    pub fn end(&self, trailers: Option<HeaderMap>) -> Result<(), Stop> {
        let Answer::Started(mut stream) = self.answer.replace(Answer::Ended) else {
            return Err(Stop::ClientCancelled);
        };
        match trailers {
            Some(trailers) => stream.send_trailers(trailers),
            None => stream.send_data(Bytes::new(), true),
        }
        .map_err(|_| Stop::ClientCancelled)
    }

    /// Ends the call with a failure: as the only headers, or as trailers when the answer has begun.
    pub fn fail(&self, mut trailers: HeaderMap) {
        if self.dry_run.get() {
            mark_dry_run(&mut trailers);
        }
        // As the only headers they are the initial metadata as well.
        let begun = !matches!(*self.answer.borrow(), Answer::Nothing(_));
        // A client that is gone meanwhile does not need the news.
        if begun { self.end(Some(trailers)) } else { self.head(grpc_head(trailers), true) }.ok();
    }

    /// An answer that is not gRPC, to a request that is not.
    pub fn http(&self, status: StatusCode) {
        let mut head = Response::new(());
        *head.status_mut() = status;
        self.head(head, true).ok();
    }
}

/// `:status 200`, `content-type: application/grpc` and these.
pub fn grpc_head(mut headers: HeaderMap) -> Response<()> {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let mut head = Response::new(());
    *head.headers_mut() = headers;
    head
}

/// The clock of the data path: tests can pause it.
pub fn now() -> Instant {
    Instant::now()
}
