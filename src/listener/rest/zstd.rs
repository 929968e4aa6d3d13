//! Decompresses zstd, with the memory of its window charged and bounded.
use std::io::Read;

use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use crate::fault::Fault;

/// The largest window that an encoder may use for a body (RFC 9659). Decompressed bytes stay in it,
/// beside those that are charged.
const MAX_WINDOW: u64 = 8 << 20;
/// The largest header: a magic number, a descriptor, a window, a dictionary and a size.
pub(super) const HEADER: usize = 18;

/// How much of the decompressed bytes a frame that begins so keeps (RFC 8878, section 3.1.1.1).
///
/// # Errors
/// It is no frame, or keeps too much.
pub(super) fn window(header: &[u8]) -> Result<u64, Fault> {
    let window =
        declared(header).ok_or_else(|| Fault::malformed("the body is no frame of zstd".to_owned()))?;
    if window > MAX_WINDOW {
        let text = format!("the body needs a zstd window of {window} bytes (limit {MAX_WINDOW})");
        return Err(Fault::malformed(text));
    }
    Ok(window)
}

fn declared(header: &[u8]) -> Option<u64> {
    let [descriptor, rest @ ..] = header.strip_prefix(&[0x28, 0xb5, 0x2f, 0xfd])? else { return None };
    let single_segment = descriptor & 0x20 != 0;
    if !single_segment {
        let window = *rest.first()?;
        let base = 1_u64 << (10 + (window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    // Then the size of the content is the window.
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let length = 1 << (descriptor >> 6);
    let mut size = [0; 8];
    size.get_mut(..length)?.copy_from_slice(rest.get(dictionary..dictionary + length)?);
    Some(u64::from_le_bytes(size).saturating_add(if length == 2 { 256 } else { 0 }))
}

/// A decoder that keeps no more than `window` bytes.
///
/// # Errors
/// It is no frame, or not one that can be read.
pub(super) fn decoder<R: Read>(source: R, window: u64) -> Result<StreamingDecoder<R, FrameDecoder>, Fault> {
    StreamingDecoder::new_with_max_window_size(source, window)
        .map_err(|error| Fault::malformed(format!("the body cannot be decompressed: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

    fn of(rest: &[u8]) -> Option<u64> {
        declared(&[&MAGIC, rest].concat())
    }

    #[test]
    fn a_window_is_what_the_header_declares() {
        assert_eq!(of(&[0, 0]), Some(1 << 10));
        assert_eq!(of(&[0, 13 << 3]), Some(8 << 20));
        assert_eq!(of(&[0, 13 << 3 | 1]), Some(9 << 20));
        assert_eq!(of(&[0, 17 << 3]), Some(128 << 20));
        assert_eq!(of(&[0, 0xff]), Some(15 << 38));
        // A single segment: sizes of 1, 2, 4 and 8 bytes, behind a dictionary of 0 to 4.
        assert_eq!(of(&[0x20, 200]), Some(200));
        assert_eq!(of(&[0x61, 9, 1, 1]), Some(257 + 256));
        assert_eq!(of(&[0xa2, 9, 9, 0, 0, 1, 0]), Some(1 << 16));
        assert_eq!(of(&[0xe3, 9, 9, 9, 9, 1, 0, 0, 0, 0, 0, 0, 0x80]), Some((1 << 63) + 1));
        for cut in [&[][..], &[0], &[0x20], &[0x61, 9, 1], &[0xe3, 9, 9, 9, 9, 1, 0]] {
            assert_eq!(of(cut), None, "{cut:?}");
        }
        assert_eq!(declared(b"{\"instances\": []}"), None);
    }

    #[test]
    fn a_window_is_bounded_before_it_is_allocated() {
        assert!(window(&[&MAGIC[..], &[0, 13 << 3]].concat()).is_ok());
        for byte in [13 << 3 | 1, 17 << 3, 0xff] {
            let text = window(&[&MAGIC[..], &[0, byte]].concat()).unwrap_err().to_string();
            assert!(text.contains("zstd window"), "{text}");
        }
    }

    /// If ours were smaller than that of the decoder, it would refuse the frame.
    #[test]
    fn frames_of_encoders_are_read_with_their_window() {
        for size in [0, 1, 255, 256, 300, 70_000, 3_000_000] {
            let body: Vec<u8> = (0..size).map(|at: u32| (at % 251) as u8).collect();
            let level = ruzstd::encoding::CompressionLevel::Fastest;
            let packed = ruzstd::encoding::compress_to_vec(&body[..], level);
            let window = window(&packed[..packed.len().min(HEADER)]).unwrap();
            let mut read = Vec::new();
            decoder(&packed[..], window).unwrap().read_to_end(&mut read).unwrap();
            assert!(read == body, "{size}");
        }
    }
}
