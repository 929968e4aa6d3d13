//! gRPC message framing: a prefix of five bytes (compressed flag, length) before each message,
//! which may be split across HTTP/2 frames.
use bytes::{BufMut as _, Bytes, BytesMut};
use smallvec::SmallVec;

use crate::wire::Rope;

/// Length of the prefix of a message.
pub(crate) const PREFIX: usize = 5;

/// The message of a unary call, as it was received.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// The DATA frames, prefix included: forwarded as they are when nothing changes.
    pub frames: SmallVec<[Bytes; 4]>,
    /// The message without its prefix; still compressed if `compressed` is set.
    pub payload: Rope,
    pub compressed: bool,
}

/// Why a body is not a single gRPC message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FramingError {
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
}

/// Collects the frames of a body that must hold exactly one message. Only the prefix is copied.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    frames: SmallVec<[Bytes; 4]>,
    received: u64,
    prefix: [u8; PREFIX],
}

impl Assembler {
    /// Takes the next frame. [`Assembler::announced`] may be known after it; check it against
    /// limits before reading more.
    ///
    /// # Errors
    /// The flag is invalid, or there are bytes after the message.
    pub(crate) fn push(&mut self, frame: Bytes) -> Result<(), FramingError> {
        if frame.is_empty() {
            return Ok(());
        }
        if let Some(have) = usize::try_from(self.received).ok().filter(|have| *have < PREFIX) {
            for (slot, byte) in self.prefix[have..].iter_mut().zip(frame.iter()) {
                *slot = *byte;
            }
        }
        self.received += frame.len() as u64;
        self.frames.push(frame);
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

    /// The length of the message, once its prefix is complete.
    pub(crate) fn announced(&self) -> Option<u32> {
        let [_, length @ ..] = self.prefix;
        (self.received >= PREFIX as u64).then(|| u32::from_be_bytes(length))
    }

    /// The message, to be called at the end of the body.
    ///
    /// # Errors
    /// The message is not complete.
    pub(crate) fn finish(self) -> Result<Message, FramingError> {
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

/// An uncompressed message, ready to send. Small segments (descriptors rewritten between slices)
/// are joined, so that each does not become an HTTP/2 frame; large ones are not copied.
pub(crate) fn frames(message: Rope) -> SmallVec<[Bytes; 4]> {
    /// Up to this size, a copy costs less than a frame.
    const SMALL: usize = 16 * 1024;
    let mut out = SmallVec::new();
    let mut joined = BytesMut::with_capacity(PREFIX + message.len().min(SMALL));
    joined.put_u8(0);
    joined.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    for segment in message.into_segments() {
        if segment.len() > SMALL {
            if !joined.is_empty() {
                out.push(joined.split().freeze());
            }
            out.push(segment);
        } else {
            joined.put_slice(&segment);
        }
    }
    if !joined.is_empty() {
        out.push(joined.freeze());
    }
    out
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
        let out = frames(rope);
        assert_eq!(out.len(), 3);
        assert_eq!(&out[0][..], [0, 0, 1, 0x86, 0xa4, b'a', b'b', b'c']);
        assert_eq!(out[1].as_ptr(), large.as_ptr());
        assert_eq!(&out[2][..], b"d");
        assert_eq!(&frames(Rope::new())[0][..], [0; 5]);
    }
}
