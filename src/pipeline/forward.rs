//! Sends a message to TF Serving and waits for the beginning of the answer.
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response, response};
use tokio::time::Instant;
use tonic::Code;

use super::call::now;
use super::deadline::Deadline;
use crate::fault::Fault;
use crate::upstream::pool::{Lease, Opened, Pool};
use crate::upstream::unary;

/// Send capacity asked for at a time: enough for one write, little enough that calls on one
/// connection take turns.
const ASK: usize = 1 << 20;

/// The beginning of TF Serving's answer; the rest is still to be read.
#[derive(Debug)]
pub struct Reply {
    pub head: response::Parts,
    pub first: First,
    pub body: RecvStream,
    /// Counts the call on its connection until the answer is through.
    pub lease: Lease,
}

/// What came after the headers.
#[derive(Debug)]
pub enum First {
    /// Nothing: the headers were the answer (an error, as a rule).
    End,
    Data(Bytes),
    Trailers(Option<HeaderMap>),
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failed {
    /// The connection ended under the call, before any byte of an answer.
    ConnectionLost(Fault),
    Otherwise(Fault),
}

/// The HTTP/2 error, and whether the answer had begun.
struct Broken {
    error: h2::Error,
    begun: bool,
}

impl From<h2::Error> for Broken {
    fn from(error: h2::Error) -> Self {
        Self { error, begun: false }
    }
}

impl Failed {
    pub fn into_fault(self) -> Fault {
        match self {
            Self::ConnectionLost(fault) | Self::Otherwise(fault) => fault,
        }
    }
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self::Otherwise(fault)
    }
}

impl Reply {
    /// The error that TF Serving answers with, if it is known already, which it is for a unary
    /// call.
    pub fn refusal(&self) -> Option<Code> {
        code(self.trailers()?).filter(|code| *code != Code::Ok)
    }

    /// The trailers of an answer without data.
    pub fn trailers(&self) -> Option<&HeaderMap> {
        match &self.first {
            First::End => Some(&self.head.headers),
            First::Data(_) => None,
            First::Trailers(trailers) => trailers.as_ref(),
        }
    }
}

/// `grpc-status` alone: the text stays unread.
pub fn code(trailers: &HeaderMap) -> Option<Code> {
    trailers.get("grpc-status").map(|value| Code::from_bytes(value.as_bytes()))
}

/// Sends the frames, at the time `sent`. A call that was certainly not processed is sent once more,
/// to another connection if need be.
pub async fn forward(
    pool: &Pool,
    request: &mut Request<()>,
    frames: &[Bytes],
    deadline: Deadline,
    mut sent: Instant,
) -> Result<Reply, Failed> {
    let mut again = true;
    loop {
        deadline.stamp(request.headers_mut(), sent)?;
        let opened = pool.open(request, false).await?;
        match exchange(opened, frames).await {
            Ok(reply) => return Ok(reply),
            Err(Broken { error, .. }) if again && is_unprocessed(&error) => {
                again = false;
                sent = now();
            }
            Err(Broken { error, begun }) => {
                let fault = unary::fault(pool, &error);
                let lost = !begun && !error.is_reset();
                return Err(if lost { Failed::ConnectionLost(fault) } else { Failed::Otherwise(fault) });
            }
        }
    }
}

/// The server says so: REFUSED_STREAM, or a GOAWAY whose last stream is an earlier one (h2 ends
/// only those streams with it).
pub fn is_unprocessed(error: &h2::Error) -> bool {
    error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
}

async fn exchange(opened: Opened, frames: &[Bytes]) -> Result<Reply, Broken> {
    let Opened { mut response, body: mut upload, lease } = opened;
    let length: usize = frames.iter().map(Bytes::len).sum();
    let response = if length <= ASK {
        // The usual case. A new stream has no window before its connection has taken it up; to wait
        // for that would cost another turn of this task and a write for the headers alone. What
        // waits in the queue meanwhile is in memory anyway.
        let last = frames.len().saturating_sub(1);
        for (index, frame) in frames.iter().enumerate() {
            upload.send_data(frame.clone(), index == last)?;
        }
        response.await?
    } else {
        match stream(&mut upload, frames, length, &mut response).await? {
            Some(early) => early,
            None => response.await?,
        }
    };
    reply(response, lease).await.map_err(|error| Broken { error, begun: true })
}

/// Reads on until it is known whether this is an answer or a refusal; for a unary call nothing is
/// lost by that.
async fn reply(response: Response<RecvStream>, lease: Lease) -> Result<Reply, h2::Error> {
    let (head, mut body) = response.into_parts();
    let first = if body.is_end_stream() {
        First::End
    } else {
        match body.data().await {
            Some(data) => First::Data(data?),
            None => First::Trailers(body.trailers().await?),
        }
    };
    Ok(Reply { head, first, body, lease })
}

/// Sends as the windows open. The server may answer (refuse) before it has read everything.
async fn stream(
    upload: &mut SendStream<Bytes>,
    frames: &[Bytes],
    length: usize,
    response: &mut ResponseFuture,
) -> Result<Option<Response<RecvStream>>, h2::Error> {
    let mut rest = frames.iter();
    let mut current = rest.next().cloned().unwrap_or_default();
    let mut left = length;
    poll_fn(|cx| {
        if let Poll::Ready(early) = Pin::new(&mut *response).poll(cx) {
            return Poll::Ready(early.map(Some));
        }
        loop {
            upload.reserve_capacity(left.min(ASK));
            let mut room = upload.capacity();
            if room == 0 {
                match upload.poll_capacity(cx) {
                    Poll::Ready(Some(Ok(capacity))) => room = capacity,
                    // The server has ended the stream: its answer, or the reason, comes with the
                    // response.
                    Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Ok(None)),
                    Poll::Pending => return Poll::Pending,
                }
            }
            while room > 0 && left > 0 {
                if current.is_empty() {
                    current = rest.next().cloned().unwrap_or_default();
                    continue;
                }
                let part = current.split_to(room.min(current.len()));
                room -= part.len();
                left -= part.len();
                upload.send_data(part, left == 0)?;
            }
            if left == 0 {
                return Poll::Ready(Ok(None));
            }
        }
    })
    .await
}
