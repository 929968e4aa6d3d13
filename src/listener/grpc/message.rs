//! Reads the one message of a unary request, within its limits, and decompresses it for judging.
use std::task::{Context, Poll, ready};

use flate2::read::{GzDecoder, ZlibDecoder};
use h2::RecvStream;
use http::HeaderMap;

use super::responder::Stop;
use crate::config::Limits;
use crate::fault::Fault;
use crate::limiter::admission::Ticket;
use crate::listener::arrival::{Arriving, arrive};
use crate::listener::inflate::{Slices, Source, check, inflate};
use crate::pipeline::RequestMessage;
use crate::pipeline::offload::Offload;
use crate::transport::body::BodyReader;
use crate::transport::framing::Assembler;
use crate::upstream::call::GRPC_ENCODING;
use crate::wire::Rope;

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
    let assembler = Assembler::default();
    let mut incoming = Incoming { body: BodyReader::new(body), assembler, arrived: 0, limit };
    arrive(&mut incoming, limits, ticket).await?;
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
    limit: usize,
}

impl Arriving for Incoming {
    type Error = Stop;

    fn poll(&mut self, cx: &mut Context<'_>, ticket: &mut Ticket) -> Poll<Result<(), Stop>> {
        for _ in 0..FRAMES_A_TURN {
            let next = ready!(self.body.poll_next(cx)).map_err(|_| Stop::ClientCancelled)?;
            let Some(frame) = next else { return Poll::Ready(Ok(())) };
            let length = frame.len() as u64;
            self.arrived += length;
            self.assembler.push(frame).map_err(|error| Fault::malformed(error.to_string()))?;
            if let Some(announced) = self.assembler.announced() {
                check(u64::from(announced), self.limit)?;
            }
            ticket.charge(length)?;
        }
        // Other requests get their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn arrived(&self) -> u64 {
        self.arrived
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
    let source = Source::new(payload);
    match headers.get(GRPC_ENCODING).map(http::HeaderValue::as_bytes) {
        Some(b"gzip") => Ok(inflate(GzDecoder::new(source), Slices::Heap, limit, offload, ticket).await?),
        Some(b"deflate") => {
            Ok(inflate(ZlibDecoder::new(source), Slices::Heap, limit, offload, ticket).await?)
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

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
