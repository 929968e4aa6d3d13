//! One call to TF Serving: opens it, sends the message, and reads until the answer has begun.
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header, response};
use smallvec::SmallVec;
use tokio::time::Instant;
use tonic::Code;

use super::header_list;
use super::pool::{Opened, Pool};
use super::slot::Lease;
use super::target::Target;
use crate::fault::{Fault, GRPC_MESSAGE};
use crate::transport::body::{self, BodyReader, Sending};
use crate::transport::deadline::Deadline;
use crate::transport::framing::{Assembler, Message};

pub(crate) const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The metadata of a call is not made longer than this for a trace: gRPC servers refuse calls with
/// more than 8 KiB by default.
const MAX_TRACED_HEAD: usize = 7 << 10;

/// What goes to TF Serving beside the message: the method's path and the metadata.
#[derive(Debug, Default)]
pub(crate) struct CallHead {
    request: Request<()>,
    /// How the client's message was compressed, while a changed message goes out plain.
    encoding: Option<HeaderValue>,
}

/// What a client's request said of its trace.
#[derive(Debug, Default)]
pub(crate) struct TraceHeaders {
    parents: SmallVec<[HeaderValue; 1]>,
    states: SmallVec<[HeaderValue; 1]>,
}

/// The beginning of TF Serving's answer; the rest is still to be read.
#[derive(Debug)]
pub(crate) struct Reply {
    pub head: response::Parts,
    pub first: First,
    pub body: ReplyBody,
}

/// What came after the headers.
#[derive(Debug)]
pub(crate) enum First {
    /// Nothing: the headers were the whole answer, usually an error.
    End,
    Data(Bytes),
    Trailers(Option<HeaderMap>),
}

/// The rest of an answer. Its call counts on its connection until this is dropped.
#[derive(Debug)]
pub(crate) struct ReplyBody {
    reader: BodyReader,
    lease: Lease,
}

/// A reply that was read to its end.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one, and short-lived")]
pub(crate) enum Collected {
    /// Headers and trailers without a message: an error, still to be passed on.
    Refused(Box<Reply>),
    /// The message, or what there was of it before an error.
    Ended { head: response::Parts, message: Result<Message, Fault>, trailers: Option<HeaderMap> },
}

/// Why there is no reply.
#[derive(Debug)]
pub(crate) enum CallError {
    /// TF Serving certainly did not process the call: REFUSED_STREAM, or a GOAWAY that names an
    /// earlier stream as the last one.
    Unprocessed(Fault),
    /// The connection ended before any byte of an answer; the call may have run.
    ConnectionLost(Fault),
    Other(Fault),
}

/// `grpc-status` alone; the text stays unread.
pub(crate) fn code(trailers: &HeaderMap) -> Option<Code> {
    trailers.get("grpc-status").map(|value| Code::from_bytes(value.as_bytes()))
}

/// gRPC servers answer an unknown method with a code and no text.
pub(crate) fn explain_unimplemented(trailers: &mut HeaderMap) {
    if code(trailers) == Some(Code::Unimplemented) && !trailers.contains_key(GRPC_MESSAGE) {
        trailers.insert(
            GRPC_MESSAGE,
            HeaderValue::from_static("TensorFlow Serving has no such service or method"),
        );
    }
}

/// Sends `frames` at the time `sent` and waits for the beginning of the answer.
///
/// # Errors
/// The deadline has passed, there is no connection, or it failed under the call.
pub(crate) async fn call(
    pool: &Pool,
    head: &mut CallHead,
    frames: &[Bytes],
    deadline: Deadline,
    sent: Instant,
) -> Result<Reply, CallError> {
    deadline.stamp(head.request.headers_mut(), sent)?;
    let Opened { response, body: mut upload, lease } = pool.open(&head.request, false).await?;
    let response = match exchange(response, &mut upload, frames).await {
        Ok(response) => response,
        Err(error) => return Err(CallError::before_answer(&lease, &error)),
    };
    begin(response, lease).await.map_err(CallError::Other)
}

async fn exchange(
    mut response: ResponseFuture,
    upload: &mut SendStream<Bytes>,
    frames: &[Bytes],
) -> Result<Response<RecvStream>, h2::Error> {
    let length: usize = frames.iter().map(Bytes::len).sum();
    if length <= body::CHUNK {
        // An upload that the server stopped has its reason in the answer, here and below.
        body::send_now(upload, frames, true).ok();
        return response.await;
    }
    let mut sending = Sending::new(frames, true);
    let mut uploading = true;
    poll_fn(|cx| {
        // The server may answer before it has read everything: a refusal, usually.
        if let Poll::Ready(answer) = Pin::new(&mut response).poll(cx) {
            return Poll::Ready(answer);
        }
        if uploading {
            uploading = sending.poll(cx, upload).is_pending();
        }
        Poll::Pending
    })
    .await
}

/// Reads until it is known whether this is an answer or a refusal. A unary call loses nothing by
/// that.
async fn begin(response: Response<RecvStream>, lease: Lease) -> Result<Reply, Fault> {
    let (head, body) = response.into_parts();
    let mut body = ReplyBody::new(body, lease);
    let first = if body.reader.is_end_stream() {
        First::End
    } else {
        match body.next().await? {
            Some(data) => First::Data(data),
            None => First::Trailers(body.trailers().await?),
        }
    };
    Ok(Reply { head, first, body })
}

// === impl CallHead ===

impl CallHead {
    /// A call of `path` with a client's metadata.
    pub(crate) fn new(target: &Target, path: Option<PathAndQuery>, metadata: HeaderMap) -> Self {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        if let Some(path) = path {
            *request.uri_mut() = target.uri(path);
        }
        *request.headers_mut() = metadata;
        // gRPC servers ask for it; a client that left it out gets its trailers all the same.
        request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
        Self { request, encoding: None }
    }

    pub(crate) fn request(&self) -> &Request<()> {
        &self.request
    }

    /// # Errors
    /// The deadline has passed.
    pub(crate) fn set_deadline(&mut self, deadline: Deadline, now: Instant) -> Result<(), Fault> {
        deadline.stamp(self.request.headers_mut(), now)
    }

    /// The message goes out uncompressed and with another length than the client's.
    pub(crate) fn set_changed(&mut self) {
        let headers = self.request.headers_mut();
        if let Some(encoding) = headers.remove(GRPC_ENCODING) {
            self.encoding = Some(encoding);
        }
        headers.remove(header::CONTENT_LENGTH);
    }

    /// The answer is to come uncompressed, because it is cut.
    pub(crate) fn accept_uncompressed(&mut self) {
        self.request.headers_mut().remove("grpc-accept-encoding");
    }

    /// Names the span that the call belongs to. Unless it `continues` the client's trace, the
    /// client's `tracestate` belongs to another one.
    pub(crate) fn set_trace_parent(&mut self, parent: HeaderValue, continues: bool) {
        let headers = self.request.headers();
        if !headers.contains_key(&TRACEPARENT) && header_list::size(&self.request) > MAX_TRACED_HEAD {
            return;
        }
        let headers = self.request.headers_mut();
        headers.insert(TRACEPARENT, parent);
        if !continues {
            headers.remove(&TRACESTATE);
        }
    }

    /// Takes what the client said of its trace out of a head that is lent to a shared run.
    pub(crate) fn take_trace(&mut self) -> TraceHeaders {
        let headers = self.request.headers_mut();
        let mut take = |name| {
            let all = headers.get_all(&name).iter().cloned().collect();
            headers.remove(&name);
            all
        };
        TraceHeaders { parents: take(TRACEPARENT), states: take(TRACESTATE) }
    }

    /// Gives the head back what was taken out.
    pub(crate) fn restore_trace(&mut self, TraceHeaders { parents, states }: TraceHeaders) {
        let headers = self.request.headers_mut();
        headers.remove(&TRACEPARENT);
        for parent in parents {
            headers.append(TRACEPARENT, parent);
        }
        for state in states {
            headers.append(TRACESTATE, state);
        }
    }

    /// The message goes out as the client sent it, perhaps after an attempt that changed it.
    pub(crate) fn set_unchanged(&mut self) {
        if let Some(encoding) = self.encoding.take() {
            self.request.headers_mut().insert(GRPC_ENCODING, encoding);
        }
    }
}

// === impl Reply ===

impl Reply {
    /// The error that TF Serving answers with, if it is known already, as it is for a unary call.
    pub(crate) fn refusal(&self) -> Option<Code> {
        code(self.trailers()?).filter(|code| *code != Code::Ok)
    }

    /// Whether TF Serving has run the request: a message has begun.
    pub(crate) fn is_answer(&self) -> bool {
        matches!(self.first, First::Data(_))
    }

    /// The trailers of an answer without data.
    pub(crate) fn trailers(&self) -> Option<&HeaderMap> {
        match &self.first {
            First::End => Some(&self.head.headers),
            First::Data(_) => None,
            First::Trailers(trailers) => trailers.as_ref(),
        }
    }

    /// Adds a text to an answer that says UNIMPLEMENTED and nothing else.
    pub(crate) fn explain_unimplemented(&mut self) {
        match &mut self.first {
            First::End => explain_unimplemented(&mut self.head.headers),
            First::Trailers(Some(trailers)) => explain_unimplemented(trailers),
            First::Data(_) | First::Trailers(None) => {}
        }
    }

    /// Reads the answer to its end. `charge` counts the bytes of each chunk against a limit.
    ///
    /// # Errors
    /// The connection fails, or `charge` refuses.
    pub(crate) async fn collect(
        self,
        mut charge: impl FnMut(u64) -> Result<(), Fault>,
    ) -> Result<Collected, Fault> {
        let Self { head, first, mut body } = self;
        let mut next = match first {
            First::Data(data) => Some(data),
            first => return Ok(Collected::Refused(Box::new(Self { head, first, body }))),
        };
        let mut assembler = Assembler::default();
        let mut framing = Ok(());
        while let Some(data) = next {
            charge(data.len() as u64)?;
            if framing.is_ok() {
                framing = assembler.push(data);
            }
            next = body.next().await?;
        }
        let trailers = body.trailers().await?;
        let message = framing
            .and_then(|()| assembler.finish())
            .map_err(|error| Fault::Internal { problem: format!("answer of the upstream: {error}") });
        Ok(Collected::Ended { head, message, trailers })
    }
}

impl ReplyBody {
    /// The body of an answer to the call that `lease` counts.
    pub(crate) fn new(body: RecvStream, lease: Lease) -> Self {
        Self { reader: BodyReader::new(body), lease }
    }

    /// The next chunk; `None` at the end. Asking for it lets the server send as much again as the
    /// last chunk was long, so a client that does not read stops the server.
    ///
    /// # Errors
    /// The connection or the stream failed.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        self.reader.next().await.map_err(|error| self.lease.fault(&error))
    }

    /// Bytes that were received and are still held here, the last chunk included.
    pub(crate) fn held(&mut self) -> usize {
        self.reader.held()
    }

    /// # Errors
    /// The connection or the stream failed.
    pub(crate) async fn trailers(&mut self) -> Result<Option<HeaderMap>, Fault> {
        self.reader.trailers().await.map_err(|error| self.lease.fault(&error))
    }
}

// === impl CallError ===

impl CallError {
    fn before_answer(lease: &Lease, error: &h2::Error) -> Self {
        let fault = lease.fault(error);
        if is_unprocessed(error) {
            Self::Unprocessed(fault)
        } else if error.is_reset() {
            Self::Other(fault)
        } else {
            Self::ConnectionLost(fault)
        }
    }

    pub(crate) fn fault(&self) -> &Fault {
        match self {
            Self::Unprocessed(fault) | Self::ConnectionLost(fault) | Self::Other(fault) => fault,
        }
    }

    pub(crate) fn into_fault(self) -> Fault {
        match self {
            Self::Unprocessed(fault) | Self::ConnectionLost(fault) | Self::Other(fault) => fault,
        }
    }
}

impl From<Fault> for CallError {
    fn from(fault: Fault) -> Self {
        Self::Other(fault)
    }
}

/// `h2` ends only those streams with a GOAWAY that the server did not process.
fn is_unprocessed(error: &h2::Error) -> bool {
    error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: HeaderValue =
        HeaderValue::from_static("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");

    fn head(pairs: &[(&'static str, &str)]) -> CallHead {
        let mut head = CallHead::default();
        for (name, value) in pairs {
            head.request.headers_mut().append(*name, value.parse().unwrap());
        }
        head
    }

    #[test]
    fn a_trace_does_not_make_metadata_longer_than_servers_accept() {
        let long = "x".repeat(MAX_TRACED_HEAD);
        let mut full = head(&[("x", &long)]);
        full.set_trace_parent(PARENT, false);
        assert!(!full.request.headers().contains_key(TRACEPARENT));
        // It is no longer than what it replaces.
        let mut full = head(&[("x", &long), ("traceparent", &"0".repeat(55))]);
        full.set_trace_parent(PARENT, true);
        assert_eq!(full.request.headers()[TRACEPARENT], PARENT);
    }

    #[test]
    fn a_state_stays_only_with_its_trace() {
        for continues in [true, false] {
            let mut head = head(&[("tracestate", "a=1")]);
            head.set_trace_parent(PARENT, continues);
            assert_eq!(head.request.headers().contains_key(TRACESTATE), continues);
        }
    }

    #[test]
    fn a_head_gets_back_what_a_run_took_out() {
        let mut lent = head(&[("traceparent", "one"), ("tracestate", "a=1"), ("tracestate", "b=2")]);
        let before = lent.request.headers().clone();
        let taken = lent.take_trace();
        assert!(lent.request.headers().is_empty());
        lent.set_trace_parent(PARENT, false);
        lent.restore_trace(taken);
        assert_eq!(lent.request.headers(), &before);
    }
}
