//! Reads the one message of a unary request, within its limits, and decompresses it for judging.
use std::future::poll_fn;
use std::io::Read as _;
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use flate2::read::{GzDecoder, ZlibDecoder};
use h2::RecvStream;
use http::HeaderMap;
use tokio::time::{Instant, sleep_until};

use super::responder::Stop;
use crate::config::Limits;
use crate::fault::Fault;
use crate::limiter::admission::Ticket;
use crate::pipeline::RequestMessage;
use crate::pipeline::offload::Offload;
use crate::transport::body::BodyReader;
use crate::transport::framing::Assembler;
use crate::upstream::call::GRPC_ENCODING;
use crate::wire::Rope;

/// Decompressed in place, which takes less than a millisecond. The rest of a message is
/// decompressed on another thread.
const INLINE: usize = 64 << 10;
/// Decompressed at a time there, before it is charged.
const SLICE: usize = 1 << 20;
/// Frames that are read before other requests get their turn.
const FRAMES_A_TURN: u32 = 256;

/// Reads to the end of the request. The length that the prefix announces is checked against the
/// limit before more is read; bytes are charged as they arrive. The message is decompressed on
/// `offload`; without it, the payload stays as it came.
///
/// # Errors
/// The client cancelled or is too slow, the body is not one message, it is too large, or it cannot
/// be decompressed.
pub(super) async fn read(
    body: RecvStream,
    headers: &HeaderMap,
    limits: &Limits,
    offload: Option<&Offload>,
    ticket: &mut Ticket,
) -> Result<RequestMessage, Stop> {
    let limit = limits.max_message_bytes;
    let mut incoming = Incoming { body: BodyReader::new(body), assembler: Assembler::default(), arrived: 0 };
    // Usually all of it is here already.
    match poll_fn(|cx| Poll::Ready(incoming.poll(cx, limit, ticket))).await {
        Poll::Ready(outcome) => outcome?,
        // Boxed, as every rare path is: it need not size the task of every request.
        Poll::Pending => Box::pin(incoming.rest(limits, ticket)).await?,
    }
    let message = incoming.assembler.finish().map_err(|error| Fault::malformed(error.to_string()))?;
    let payload = match offload {
        Some(offload) if message.compressed => {
            Box::pin(decompress(message.payload, headers, limit, offload, ticket)).await?
        }
        Some(_) | None => message.payload,
    };
    Ok(RequestMessage { frames: message.frames, payload })
}

/// A request's body while it arrives.
struct Incoming {
    body: BodyReader,
    assembler: Assembler,
    arrived: u64,
}

impl Incoming {
    /// Takes what has arrived; ready at the end of the body.
    fn poll(&mut self, cx: &mut Context<'_>, limit: usize, ticket: &mut Ticket) -> Poll<Result<(), Stop>> {
        for _ in 0..FRAMES_A_TURN {
            let next = ready!(self.body.poll_next(cx)).map_err(|_| Stop::ClientCancelled)?;
            let Some(frame) = next else { return Poll::Ready(Ok(())) };
            let length = frame.len() as u64;
            self.arrived += length;
            self.assembler.push(frame).map_err(|error| Fault::malformed(error.to_string()))?;
            if let Some(announced) = self.assembler.announced() {
                check(u64::from(announced), limit)?;
            }
            ticket.charge(length)?;
        }
        // Other requests get their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Waits for the rest, as long as it keeps arriving.
    async fn rest(&mut self, limits: &Limits, ticket: &mut Ticket) -> Result<(), Stop> {
        ticket.set_waiting()?;
        let Limits { body_idle_timeout: idle, body_timeout, max_message_bytes, .. } = *limits;
        let start = Instant::now();
        let mut timer = pin!(sleep_until(start + idle.min(body_timeout)));
        let mut before = self.arrived;
        poll_fn(|cx| {
            if let Poll::Ready(outcome) = self.poll(cx, max_message_bytes, ticket) {
                return Poll::Ready(outcome);
            }
            // A clock is only read, and the progress only judged, when the timer fires.
            while timer.as_mut().poll(cx).is_ready() {
                let now = timer.deadline();
                let elapsed = now - start;
                if let Some(fault) = too_slow(limits, elapsed, self.arrived, before) {
                    return Poll::Ready(Err(fault.into()));
                }
                before = self.arrived;
                timer.as_mut().reset((now + idle).min(start + body_timeout));
            }
            Poll::Pending
        })
        .await?;
        Ok(ticket.set_running()?)
    }
}

/// Why a request that takes this long is given up: `arrived` bytes of it are here, `before` were at
/// the last check.
fn too_slow(limits: &Limits, elapsed: Duration, arrived: u64, before: u64) -> Option<Fault> {
    let stalled = |what, setting| Some(Fault::ClientStalled { what, setting });
    if elapsed >= limits.body_timeout {
        stalled("the request took too long to arrive", "limits.body_timeout")
    } else if arrived == before {
        stalled("nothing of the request arrived for too long", "limits.body_idle_timeout")
    } else if (arrived as f64) < limits.min_body_rate as f64 * elapsed.as_secs_f64() {
        stalled("the request arrives too slowly", "limits.min_body_rate")
    } else {
        None
    }
}

/// What a compressed message decompresses to, charged for as it grows.
async fn decompress(
    payload: Rope,
    headers: &HeaderMap,
    limit: usize,
    offload: &Offload,
    ticket: &mut Ticket,
) -> Result<Rope, Stop> {
    let source = Source { rope: payload, segment: 0, offset: 0 };
    match headers.get(GRPC_ENCODING).map(http::HeaderValue::as_bytes) {
        Some(b"gzip") => inflate(GzDecoder::new(source), limit, offload, ticket).await,
        Some(b"deflate") => inflate(ZlibDecoder::new(source), limit, offload, ticket).await,
        None | Some(b"identity") => {
            let problem = "the message is compressed, but grpc-encoding is not set";
            Err(Fault::malformed(problem).into())
        }
        Some(other) => {
            let name =
                String::from_utf8_lossy(other).chars().filter(char::is_ascii_graphic).take(32).collect();
            Err(Fault::Encoding { name }.into())
        }
    }
}

async fn inflate(
    mut decoder: impl std::io::Read + Send + 'static,
    limit: usize,
    offload: &Offload,
    ticket: &mut Ticket,
) -> Result<Rope, Stop> {
    let mut plain = Rope::new();
    let mut slice = next_slice(&mut decoder, INLINE);
    loop {
        let read = slice
            .map_err(|error| Fault::malformed(format!("the message cannot be decompressed: {error}")))?;
        if read.is_empty() {
            return Ok(plain);
        }
        ticket.reserve(read.len() as u64)?;
        plain.push(Bytes::from(read));
        check(plain.len() as u64, limit)?;
        (decoder, slice) = offload
            .run(move || {
                let slice = next_slice(&mut decoder, SLICE);
                (decoder, slice)
            })
            .await?;
    }
}

/// The next bytes, in a buffer of their size; none at the end.
fn next_slice(decoder: &mut impl std::io::Read, size: usize) -> std::io::Result<Vec<u8>> {
    let mut slice = Vec::with_capacity(size);
    decoder.take(size as u64).read_to_end(&mut slice)?;
    slice.shrink_to_fit();
    Ok(slice)
}

fn check(size: u64, limit: usize) -> Result<(), Fault> {
    let limit = limit as u64;
    let setting = "limits.max_message_bytes";
    if size > limit { Err(Fault::TooLarge { size, limit, setting }) } else { Ok(()) }
}

/// The payload as one stream of bytes.
struct Source {
    rope: Rope,
    segment: usize,
    offset: usize,
}

impl std::io::Read for Source {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let Some(segment) = self.rope.segments().get(self.segment) else { return Ok(0) };
        let rest = segment.get(self.offset..).unwrap_or_default();
        let length = rest.len().min(buf.len());
        buf[..length].copy_from_slice(&rest[..length]);
        self.offset += length;
        if self.offset == segment.len() {
            self.segment += 1;
            self.offset = 0;
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limiter::admission::tests::ticket;
    use std::io::Write as _;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    async fn plain_of(payload: Vec<u8>, encoding: Option<&'static str>, limit: usize) -> Result<Rope, Stop> {
        let frames = payload.chunks(7).map(Bytes::copy_from_slice).collect::<Rope>();
        let mut headers = HeaderMap::new();
        if let Some(encoding) = encoding {
            headers.insert(GRPC_ENCODING, http::HeaderValue::from_static(encoding));
        }
        decompress(frames, &headers, limit, &Offload::default(), &mut ticket(&Limits::default())).await
    }

    #[tokio::test]
    async fn compressed_messages_are_read_across_frames() {
        let data: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        let plain = plain_of(gzip(&data), Some("gzip"), usize::MAX).await.unwrap();
        assert_eq!(plain.to_bytes(), data);
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&data).unwrap();
        let plain = plain_of(encoder.finish().unwrap(), Some("deflate"), usize::MAX).await.unwrap();
        assert_eq!(plain.to_bytes(), data);
    }

    #[tokio::test]
    async fn decompression_stops_at_the_size_limit() {
        let bomb = gzip(&vec![0; 64 << 20]);
        let stop = plain_of(bomb, Some("gzip"), 4 << 20).await.unwrap_err();
        assert!(matches!(stop, Stop::Fault(Fault::TooLarge { size, .. }) if size <= 5 << 20), "{stop:?}");
    }

    #[tokio::test]
    async fn an_unknown_or_wrong_encoding_is_an_error() {
        let text = |stop: Stop| match stop {
            Stop::Fault(fault) => (fault.code(), fault.to_string()),
            Stop::ClientCancelled => unreachable!("the client did not cancel"),
        };
        let (code, message) = text(plain_of(vec![1, 2, 3], Some("snappy"), 1000).await.unwrap_err());
        assert_eq!(code, tonic::Code::Unimplemented, "{message}");
        assert!(message.contains("`snappy`"), "{message}");
        assert_eq!(
            text(plain_of(vec![1, 2, 3], Some("gzip"), 1000).await.unwrap_err()).0,
            tonic::Code::InvalidArgument
        );
        assert_eq!(
            text(plain_of(vec![1, 2, 3], None, 1000).await.unwrap_err()).0,
            tonic::Code::InvalidArgument
        );
    }
}
