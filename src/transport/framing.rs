//! gRPC message framing: a prefix of five bytes (compressed flag, length) before each message,
//! which may be split across HTTP/2 frames.
use bytes::{BufMut as _, Bytes, BytesMut};
use smallvec::SmallVec;

use crate::wire::Rope;

/// Length of the prefix of a message.
pub(crate) const PREFIX: usize = 5;

/// The message of a unary call, as it was received.
#[derive(Debug, Clone)]
pub struct Message {
    /// The bytes as they came, prefix included: forwarded as they are when nothing changes. Large
    /// DATA frames are not copied, small ones are joined.
    pub frames: SmallVec<[Bytes; 4]>,
    /// The message without its prefix; still compressed if `compressed` is set.
    pub payload: Rope,
    pub compressed: bool,
}

/// Why a body is not a single gRPC message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    #[error("expected one message, got an empty body")]
    Empty,
    #[error("expected one message, got {extra} more bytes after it")]
    More { extra: u64 },
    #[error("expected a message of {announced} bytes, got {found}")]
    Truncated { announced: u32, found: u64 },
    #[error("expected a message prefix of 5 bytes, got {found}")]
    TruncatedPrefix { found: u64 },
    #[error("expected a compressed flag of 0 or 1, got {found}")]
    Flag { found: u8 },
    #[error("a message of {size} bytes does not fit a gRPC frame (limit {MAX_LENGTH})")]
    TooLong { size: usize },
}

/// The largest length that a prefix can say.
const MAX_LENGTH: usize = u32::MAX as usize;

/// This many frames of a message are kept as they are, however small. The usual message has fewer,
/// and more would not fit the inline storage of the list.
const UNJOINED: usize = 4;
/// Later frames below this size are joined. A frame costs about 100 bytes of bookkeeping and may
/// keep the whole buffer alive that it was read into, so a message of tiny frames would take many
/// times its size.
const SMALL_FRAME: usize = 4 * 1024;
/// Size of the buffers that small frames are joined in.
const JOINED: usize = 16 * 1024;

/// Collects the frames of a body that must hold exactly one message. Copies the prefix, and small
/// frames of a message that has many.
#[derive(Debug, Default)]
pub struct Assembler {
    frames: SmallVec<[Bytes; 4]>,
    /// Small frames, joined. They come after those in `frames`.
    tail: BytesMut,
    received: u64,
    prefix: [u8; PREFIX],
}

impl Assembler {
    /// Takes the next frame. [`Assembler::announced`] may be known after it; check it against
    /// limits before reading more.
    ///
    /// # Errors
    /// The flag is invalid, or there are bytes after the message.
    pub fn push(&mut self, frame: Bytes) -> Result<(), FramingError> {
        if frame.is_empty() {
            return Ok(());
        }
        if let Some(have) = usize::try_from(self.received).ok().filter(|have| *have < PREFIX) {
            for (slot, byte) in self.prefix[have..].iter_mut().zip(frame.iter()) {
                *slot = *byte;
            }
        }
        self.received += frame.len() as u64;
        self.keep(frame);
        if self.prefix[0] > 1 {
            return Err(FramingError::Flag { found: self.prefix[0] });
        }
        match self.announced() {
            Some(announced) if self.received > PREFIX as u64 + u64::from(announced) => {
                Err(FramingError::More { extra: self.received - PREFIX as u64 - u64::from(announced) })
            }
            Some(_) | None => Ok(()),
        }
    }

    fn keep(&mut self, frame: Bytes) {
        if frame.len() >= SMALL_FRAME || self.tail.is_empty() && self.frames.len() < UNJOINED {
            self.seal();
            self.frames.push(frame);
            return;
        }
        if self.tail.capacity() - self.tail.len() < frame.len() {
            self.seal();
            // The last buffer of a message is no larger than what is left of it.
            let whole = self.announced().map_or(u64::MAX, |length| u64::from(length) + PREFIX as u64);
            let left = whole.saturating_sub(self.received).saturating_add(frame.len() as u64);
            self.tail.reserve(usize::try_from(left).map_or(JOINED, |left| left.min(JOINED)));
        }
        self.tail.extend_from_slice(&frame);
    }

    /// Ends the buffer of joined frames.
    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.frames.push(std::mem::take(&mut self.tail).freeze());
        }
    }

    /// The length of the message, once its prefix is complete.
    pub fn announced(&self) -> Option<u32> {
        let [_, length @ ..] = self.prefix;
        (self.received >= PREFIX as u64).then(|| u32::from_be_bytes(length))
    }

    /// The message, to be called at the end of the body.
    ///
    /// # Errors
    /// The message is not complete.
    pub fn finish(mut self) -> Result<Message, FramingError> {
        self.seal();
        let Some(announced) = self.announced() else {
            return Err(match self.received {
                0 => FramingError::Empty,
                found => FramingError::TruncatedPrefix { found },
            });
        };
        let found = self.received - PREFIX as u64;
        if found < u64::from(announced) {
            return Err(FramingError::Truncated { announced, found });
        }
        let mut payload = Rope::new();
        let mut skip = PREFIX;
        for frame in &self.frames {
            if skip < frame.len() {
                payload.push(if skip == 0 { frame.clone() } else { frame.slice(skip..) });
            }
            skip = skip.saturating_sub(frame.len());
        }
        Ok(Message { frames: self.frames, payload, compressed: self.prefix[0] == 1 })
    }
}

/// Bytes of a message that [`frames`] copies.
pub(crate) fn copied_bytes(message: &Rope) -> usize {
    let small = max_copied(message.len());
    message.segments().iter().map(Bytes::len).filter(|length| *length <= small).sum()
}

/// Up to this size, a copy of a segment costs less than a frame. In a large message the copies
/// would add up.
fn max_copied(length: usize) -> usize {
    if length <= 64 * 1024 { 16 * 1024 } else { SMALL_FRAME }
}

/// An uncompressed message, ready to send. Small segments (descriptors rewritten between slices)
/// are joined, so that each does not become an HTTP/2 frame; large ones are not copied.
///
/// # Errors
/// The message is longer than a prefix can say.
pub fn frames(message: Rope) -> Result<SmallVec<[Bytes; 4]>, FramingError> {
    let length = message.len();
    let announced = u32::try_from(length).map_err(|_| FramingError::TooLong { size: length })?;
    let small = max_copied(length);
    let mut out = SmallVec::new();
    let mut joined = BytesMut::with_capacity(PREFIX + length.min(JOINED));
    joined.put_u8(0);
    joined.put_u32(announced);
    for segment in message.into_segments() {
        if segment.len() > small {
            if !joined.is_empty() {
                out.push(joined.split().freeze());
            }
            out.push(segment);
        } else {
            joined.put_slice(&segment);
            // A buffer that grew without end would be copied each time, and hold twice its size.
            if joined.len() >= 64 * 1024 {
                out.push(std::mem::take(&mut joined).freeze());
            }
        }
    }
    if !joined.is_empty() {
        out.push(joined.freeze());
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(flag: u8, announced: u32, payload: &[u8]) -> Vec<u8> {
        [&[flag], announced.to_be_bytes().as_slice(), payload].concat()
    }

    fn assemble(parts: &[&[u8]]) -> Result<Message, FramingError> {
        let mut assembler = Assembler::default();
        for part in parts {
            assembler.push(Bytes::copy_from_slice(part))?;
        }
        assembler.finish()
    }

    #[test]
    fn a_message_is_assembled_however_it_is_split_into_frames() {
        let whole = body(0, 6, b"abcdef");
        for first in 0..=whole.len() {
            for second in first..=whole.len() {
                let message = assemble(&[&whole[..first], &whole[first..second], &whole[second..]]).unwrap();
                assert_eq!(message.payload.to_bytes(), "abcdef", "{first} {second}");
                assert_eq!(message.frames.concat(), whole);
                assert!(!message.compressed);
            }
        }
    }

    #[test]
    fn the_length_is_known_as_soon_as_the_prefix_is_complete() {
        let mut assembler = Assembler::default();
        assembler.push(Bytes::from_static(&[0, 0, 0])).unwrap();
        assert_eq!(assembler.announced(), None);
        assembler.push(Bytes::from_static(&[1, 2])).unwrap();
        assert_eq!(assembler.announced(), Some(258));
    }

    #[test]
    fn anything_but_one_message_is_an_error() {
        assert_eq!(assemble(&[]).unwrap_err(), FramingError::Empty);
        assert_eq!(assemble(&[&[0, 0]]).unwrap_err(), FramingError::TruncatedPrefix { found: 2 });
        assert_eq!(
            assemble(&[&body(0, 3, b"ab")]).unwrap_err(),
            FramingError::Truncated { announced: 3, found: 2 }
        );
        assert_eq!(assemble(&[&body(0, 1, b"ab")]).unwrap_err(), FramingError::More { extra: 1 });
        assert_eq!(assemble(&[&body(2, 1, b"a")]).unwrap_err(), FramingError::Flag { found: 2 });
        assert_eq!(assemble(&[&body(0, 0, b"")]).unwrap().payload.len(), 0);
        assert!(assemble(&[&body(1, 1, b"z")]).unwrap().compressed);
    }

    #[test]
    fn small_segments_are_joined_and_large_ones_are_not_copied() {
        let large = Bytes::from(vec![7; 100_000]);
        let rope: Rope =
            [Bytes::from_static(b"ab"), Bytes::from_static(b"c"), large.clone(), Bytes::from_static(b"d")]
                .into_iter()
                .collect();
        let out = frames(rope).unwrap();
        assert_eq!(out.len(), 3);
        assert_eq!(&out[0][..], [0, 0, 1, 0x86, 0xa4, b'a', b'b', b'c']);
        assert_eq!(out[1].as_ptr(), large.as_ptr());
        assert_eq!(&out[2][..], b"d");
        assert_eq!(&frames(Rope::new()).unwrap()[0][..], [0; 5]);
    }

    /// The message in frames of this size.
    fn cut(message: &[u8], size: usize) -> Message {
        let mut assembler = Assembler::default();
        for frame in message.chunks(size) {
            assembler.push(Bytes::copy_from_slice(frame)).unwrap();
        }
        assembler.finish().unwrap()
    }

    #[test]
    fn the_number_of_segments_is_bounded_by_the_length_of_the_message() {
        let payload: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 251) as u8).collect();
        let whole = body(0, 1_000_000, &payload);
        for size in [1, 2, 99, 1000, SMALL_FRAME - 1, SMALL_FRAME, 16_384] {
            let message = cut(&whole, size);
            let most = UNJOINED + whole.len().div_ceil(SMALL_FRAME) + 1;
            assert!(message.frames.len() <= most, "{size}: {} frames", message.frames.len());
            assert!(message.payload.segments().len() <= most, "{size}");
            assert_eq!(message.frames.concat(), whole, "{size}");
            assert_eq!(message.payload.to_bytes(), payload, "{size}");
        }
    }

    #[test]
    fn large_frames_between_small_ones_are_not_copied() {
        let large = Bytes::from(vec![7; SMALL_FRAME]);
        let rounds = 50;
        let mut assembler = Assembler::default();
        assembler.push(Bytes::from(body(0, rounds * (SMALL_FRAME as u32 + 3), b""))).unwrap();
        for _ in 0..rounds {
            for small in [b"a", b"b", b"c"] {
                assembler.push(Bytes::from_static(small)).unwrap();
            }
            assembler.push(large.clone()).unwrap();
        }
        let message = assembler.finish().unwrap();
        let shared = message.frames.iter().filter(|frame| frame.as_ptr() == large.as_ptr()).count();
        assert_eq!(shared, rounds as usize);
        assert!(message.frames.len() <= UNJOINED + 2 * rounds as usize, "{}", message.frames.len());
    }

    #[test]
    fn a_message_of_few_frames_is_not_copied() {
        let whole = Bytes::from(body(0, 100_000, &vec![9; 100_000]));
        for size in [25_002, 30_000, 100_005] {
            let mut assembler = Assembler::default();
            let frames: Vec<Bytes> = (0..whole.len())
                .step_by(size)
                .map(|at| whole.slice(at..whole.len().min(at + size)))
                .collect();
            for frame in &frames {
                assembler.push(frame.clone()).unwrap();
            }
            let kept = assembler.finish().unwrap().frames;
            assert!(
                kept.iter().map(|frame| frame.as_ptr()).eq(frames.iter().map(|frame| frame.as_ptr())),
                "{size}"
            );
        }
    }

    #[test]
    fn a_message_that_no_prefix_can_describe_is_an_error() {
        let piece = Bytes::from(vec![0; 1 << 20]);
        let rope = |pieces| std::iter::repeat_n(piece.clone(), pieces).collect::<Rope>();
        assert_eq!(frames(rope(4096)).unwrap_err(), FramingError::TooLong { size: 1 << 32 });
        let mut most = rope(4095);
        most.push(piece.slice(1..));
        assert_eq!(&frames(most).unwrap()[0][..], [0, 255, 255, 255, 255]);
    }

    #[test]
    fn joined_segments_are_not_collected_in_one_buffer() {
        let rope: Rope = std::iter::repeat_n(Bytes::from(vec![1; 1000]), 1000).collect();
        let out = frames(rope).unwrap();
        assert!(out.iter().all(|frame| frame.len() < 70_000), "{:?}", out.len());
        assert_eq!(out.iter().map(Bytes::len).sum::<usize>(), PREFIX + 1_000_000);
    }
}
