//! How gRPC puts messages and texts on the wire: length prefixes, gzip, and the percent-encoding of
//! `grpc-message`.
//!
//! Written for the tests alone, so that they do not check the proxy's code with itself.
use std::fmt::Write as _;
use std::io::Read as _;
use std::io::Write as _;

use prost::bytes::{Buf as _, Bytes, BytesMut};

/// One message behind its prefix: the flag "compressed" and the length.
pub(crate) fn frame(message: &[u8], compressed: bool) -> Bytes {
    let mut framed = BytesMut::with_capacity(5 + message.len());
    framed.extend_from_slice(&[u8::from(compressed)]);
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(message);
    framed.freeze()
}

/// Takes the first message out of the buffer and decompresses it; `None` while it is incomplete.
pub(crate) fn unframe(buffer: &mut BytesMut) -> Option<Bytes> {
    let prefix = buffer.first_chunk::<5>()?;
    let compressed = prefix[0] == 1;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
    if buffer.len() < 5 + length {
        return None;
    }
    buffer.advance(5);
    let message = buffer.split_to(length).freeze();
    if !compressed {
        return Some(message);
    }
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&message[..]).read_to_end(&mut plain).expect("a compressed message is gzip");
    Some(plain.into())
}

/// gzip.
pub(crate) fn compress(message: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(message).unwrap();
    encoder.finish().unwrap()
}

/// The value of `grpc-message`: everything but printable ASCII is escaped, and `%` too.
pub(crate) fn percent_encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b' '..=b'$' | b'&'..=b'~' => encoded.push(char::from(byte)),
            _ => write!(encoded, "%{byte:02X}").expect("writing to a String cannot fail"),
        }
    }
    encoded
}

pub(crate) fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match (first, hex.and_then(|two| u8::from_str_radix(two, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
