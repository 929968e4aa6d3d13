//! Reads the body of a request into one buffer, within its limits, and decompresses it.
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, header};
use http_body::Body as _;
use hyper::body::Incoming;
use tonic::Code;

use crate::config::Limits;
use crate::fault::{Fault, Theirs};
use crate::limiter::admission::Ticket;
use crate::listener::arrival::{Arriving, arrive};
use crate::listener::inflate::{Slices, Source, check, inflate};
use crate::listener::pages::{Buffer, LARGE};
use crate::listener::rest::zstd;
use crate::pipeline::offload::Offload;
use crate::repair::{Problem, Reason};
use crate::wire::Rope;

/// Allocated for a length that is only announced.
const MAX_AHEAD: usize = 1 << 20;
/// White space that is looked at before JSON.
const MAX_SPACE: usize = 1 << 10;
/// Chunks that are read before other requests get their turn.
const CHUNKS_A_TURN: u32 = 64;

/// Why there is no body.
#[derive(Debug)]
pub(super) enum BodyError {
    Fault(Fault),
    /// The connection ended before the body did.
    Lost,
}

impl From<Fault> for BodyError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// Reads to the end of the request. Bytes are charged as they arrive.
///
/// # Errors
/// The client is gone or too slow, the body is too large, or it cannot be decompressed.
pub(super) async fn read(
    body: Incoming,
    headers: &HeaderMap,
    limits: &Limits,
    offload: &Offload,
    ticket: &mut Ticket,
) -> Result<Bytes, BodyError> {
    let limit = limits.max_message_bytes;
    let announced = body.size_hint().exact();
    check(announced.unwrap_or(0), limit)?;
    if let Some(size) = announced.filter(|size| *size > limits.max_inflight_bytes) {
        // It could never be charged for.
        let (limit, setting) = (limits.max_inflight_bytes, "limits.max_inflight_bytes");
        return Err(Fault::TooLarge { size, limit, setting }.into());
    }
    let announced = announced.map_or(0, |length| length as usize);
    let buffer = Buffer::heap(announced.min(MAX_AHEAD));
    let mut reading = Reading { body, announced, pieces: Rope::new(), buffer, limit };
    arrive(&mut reading, limits, ticket).await?;
    let body = reading.finish();
    match encoding(headers, &body)? {
        Encoding::Identity => Ok(body),
        encoding => {
            Ok(Box::pin(decompressed(encoding, body, limit, offload, ticket)).await.map_err(as_empty)?)
        }
    }
}

/// A body while it arrives.
struct Reading {
    body: Incoming,
    /// The length that the client announced; 0 for none.
    announced: usize,
    /// What came before, of a body whose length is not announced.
    pieces: Rope,
    buffer: Buffer,
    limit: usize,
}

impl Arriving for Reading {
    type Error = BodyError;

    fn poll(&mut self, cx: &mut Context<'_>, ticket: &mut Ticket) -> Poll<Result<(), BodyError>> {
        for _ in 0..CHUNKS_A_TURN {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Ok(frame)) => frame,
                Some(Err(_)) => return Poll::Ready(Err(BodyError::Lost)),
            };
            let Ok(chunk) = frame.into_data() else { continue };
            let arrived = self.arrived() + chunk.len() as u64;
            check(arrived, self.limit)?;
            ticket.charge(chunk.len() as u64)?;
            self.make_room(chunk.len());
            self.buffer.extend_from_slice(&chunk);
        }
        // Other requests get their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn arrived(&self) -> u64 {
        (self.pieces.len() + self.buffer.len()) as u64
    }
}

impl Reading {
    /// Makes room for so many bytes more. What is not written to takes no memory yet.
    fn make_room(&mut self, more: usize) {
        let length = self.buffer.len() + more;
        if length <= self.buffer.capacity() {
            return;
        }
        if self.announced > 0 {
            // Growing copies what came, so it happens once, when that is little.
            let mut larger = Buffer::with_capacity(self.announced.max(length));
            let first = std::mem::replace(&mut self.buffer, Buffer::heap(0)).into_bytes();
            larger.extend_from_slice(&first);
            self.buffer = larger;
        } else if length > MAX_AHEAD {
            // A buffer that grows leaves as much behind as it has.
            let size = MAX_AHEAD.max(more);
            let large = self.pieces.len() + length > LARGE;
            let next = if large { Buffer::pages(size) } else { Buffer::heap(size) };
            let full = std::mem::replace(&mut self.buffer, next);
            self.pieces.push(full.into_bytes());
        } else if let Buffer::Heap(bytes) = &mut self.buffer {
            bytes.reserve(more);
        }
    }

    fn finish(mut self) -> Bytes {
        self.pieces.push(self.buffer.into_bytes());
        joined(self.pieces)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Identity,
    Gzip,
    Deflate,
    Zstd,
}

/// How the body is compressed. TF Serving inflates whatever has `gzip` in its header, and reads all
/// else as it is. So a body that is JSON is never refused for the name of its encoding.
///
/// # Errors
/// The body is compressed more than once, or in an unknown way.
fn encoding(headers: &HeaderMap, body: &[u8]) -> Result<Encoding, Fault> {
    // Not a whole body of white space, which would hold up this thread.
    let start = &body[..body.len().min(MAX_SPACE)];
    let is_json = start.trim_ascii_start().first() == Some(&b'{');
    let mut found = Encoding::Identity;
    let values = headers.get_all(header::CONTENT_ENCODING).iter();
    let names = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    for name in names.map(<[u8]>::trim_ascii).filter(|name| !name.is_empty()) {
        let next = match name.to_ascii_lowercase().as_slice() {
            b"identity" => continue,
            b"gzip" | b"x-gzip" => Encoding::Gzip,
            b"deflate" => Encoding::Deflate,
            b"zstd" => Encoding::Zstd,
            _ => Encoding::Identity,
        };
        if is_json && next != Encoding::Gzip {
            continue;
        }
        if next == Encoding::Identity || found != Encoding::Identity {
            let list = |name: &[u8]| {
                String::from_utf8_lossy(name).chars().filter(char::is_ascii_graphic).take(32).collect()
            };
            let name = if next == Encoding::Identity { list(name) } else { "more than one".to_owned() };
            return Err(Fault::BodyEncoding { name });
        }
        found = next;
    }
    Ok(found)
}

/// TF Serving reads a body that it cannot inflate as an empty one.
fn as_empty(fault: Fault) -> Fault {
    let Fault::Malformed { problem } = fault else { return fault };
    let text = "JSON Parse error: The document is empty".to_owned();
    Fault::Refused {
        model: String::new(),
        signature: String::new(),
        problems: vec![Problem::new(Reason::Malformed, "", problem)],
        code: Code::InvalidArgument,
        theirs: Some(Box::new(Theirs { code: Code::InvalidArgument, text })),
    }
}

async fn decompressed(
    encoding: Encoding,
    body: Bytes,
    limit: usize,
    offload: &Offload,
    ticket: &mut Ticket,
) -> Result<Bytes, Fault> {
    let header = body.slice(..body.len().min(zstd::HEADER));
    let source = Source::new(Rope::from(body));
    let plain = match encoding {
        Encoding::Gzip => inflate(MultiGzDecoder::new(source), Slices::Pages, limit, offload, ticket).await?,
        Encoding::Zstd => {
            let window = zstd::window(&header)?;
            ticket.reserve(window)?;
            let plain =
                inflate(zstd::decoder(source, window)?, Slices::Pages, limit, offload, ticket).await?;
            ticket.release(window);
            plain
        }
        _ => inflate(ZlibDecoder::new(source), Slices::Pages, limit, offload, ticket).await?,
    };
    Ok(joined(plain))
}

/// The pieces of a body as one. Each is freed once it is copied.
fn joined(plain: Rope) -> Bytes {
    if plain.segments().len() < 2 {
        return plain.to_bytes();
    }
    let mut all = Buffer::with_capacity(plain.len());
    for piece in plain.into_segments() {
        all.extend_from_slice(&piece);
    }
    all.into_bytes()
}
