//! The first bytes of a client: HTTP/2's preface, or another protocol.
use super::Violation;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The type of a TLS record that carries a handshake.
const TLS_HANDSHAKE: u8 = 22;

/// How much of the preface has arrived.
#[derive(Debug, Default)]
pub(super) struct PrefaceReader {
    matched: usize,
}

/// What the bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Preface {
    /// This many bytes of the preface.
    Bytes(usize),
    Unknown,
}

impl PrefaceReader {
    pub(super) fn is_awaited(&self) -> bool {
        self.matched < PREFACE.len()
    }

    /// # Errors
    /// The client speaks HTTP/1 or TLS.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<Preface, Violation> {
        let expected = &PREFACE[self.matched..];
        let count = expected.len().min(bytes.len());
        if bytes[..count] == expected[..count] {
            self.matched += count;
            return Ok(Preface::Bytes(count));
        }
        let first = if self.matched > 0 { PREFACE[0] } else { bytes[0] };
        self.matched = PREFACE.len();
        match first {
            TLS_HANDSHAKE => Err(Violation::Tls),
            b'A'..=b'Z' => Err(Violation::Http1),
            _ => Ok(Preface::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http1_and_tls_are_told_from_http2_in_any_fragments() {
        let read = |pieces: &[&[u8]]| {
            let mut reader = PrefaceReader::default();
            let read = pieces.iter().try_fold(0, |sum, piece| match reader.read(piece)? {
                Preface::Bytes(count) => Ok(sum + count),
                Preface::Unknown => Ok(1_000),
            });
            (read, reader.is_awaited())
        };
        assert_eq!(read(&[PREFACE]), (Ok(24), false));
        assert_eq!(read(&[&PREFACE[..5], &PREFACE[5..]]), (Ok(24), false));
        assert_eq!(read(&[&PREFACE[..5]]), (Ok(5), true));
        assert_eq!(read(&[b"GET / HTTP/1.1\r\n"]).0, Err(Violation::Http1));
        assert_eq!(read(&[b"P", b"OST / HTTP/1.1\r\n"]).0, Err(Violation::Http1));
        assert_eq!(read(&[&[22, 3, 1, 2, 0, 1]]).0, Err(Violation::Tls));
        assert_eq!(read(&[b"\0\0\0\x04"]), (Ok(1_000), false));
    }
}
