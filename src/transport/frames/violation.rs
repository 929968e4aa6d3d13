//! Why a client's connection is ended here, and what the client is told.
use super::{Head, kind};

/// What ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Violation {
    #[error("the client sent an HTTP/1.1 request, but this port speaks gRPC (HTTP/2)")]
    Http1,
    #[error("the client began a TLS handshake, but this port has no TLS")]
    Tls,
    #[error("the client sent too many control frames for the calls it makes")]
    ControlFrames,
    #[error("the client reset too many calls in a short time")]
    Resets,
}

const HTTP1_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
content-type: text/plain\r\n\
content-length: 101\r\n\
connection: close\r\n\
\r\n\
This port speaks gRPC (HTTP/2 without TLS). For metrics and the status page, use the admin listener.\n";

/// A fatal alert, `protocol_version`: every TLS client reports it as such.
const TLS_ALERT: &[u8] = &[21, 3, 1, 0, 2, 2, 70];

const ENHANCE_YOUR_CALM: u32 = 11;

impl Violation {
    /// The value of the metric's label.
    pub(crate) fn cause(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Tls => "tls",
            Self::ControlFrames => "control_frames",
            Self::Resets => "resets",
        }
    }

    /// Whether this is why reading the first bytes failed.
    pub(crate) fn is_behind(error: &h2::Error) -> bool {
        matches!(error.get_io().and_then(std::io::Error::get_ref), Some(inner) if inner.is::<Self>())
    }

    /// Whether the client speaks another protocol, so nothing of HTTP/2 may be sent to it.
    pub(crate) fn is_other_protocol(self) -> bool {
        matches!(self, Self::Http1 | Self::Tls)
    }

    /// The last bytes for the client. `last_stream` is the highest stream that it has opened.
    pub(super) fn answer(self, last_stream: u32) -> Vec<u8> {
        let debug: &[u8] = match self {
            Self::Http1 => return HTTP1_ANSWER.to_vec(),
            Self::Tls => return TLS_ALERT.to_vec(),
            Self::ControlFrames => b"too_many_control_frames",
            Self::Resets => b"too_many_resets",
        };
        let head = Head { length: 8 + debug.len(), kind: kind::GOAWAY, flags: 0, stream: 0 };
        let mut frame = vec![0; Head::LEN];
        head.write(&mut frame);
        frame.extend(last_stream.to_be_bytes());
        frame.extend(ENHANCE_YOUR_CALM.to_be_bytes());
        frame.extend(debug);
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_http1_has_the_length_that_it_announces() {
        let text = std::str::from_utf8(HTTP1_ANSWER).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
    }
}
