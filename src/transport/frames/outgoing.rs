//! What is sent to a client: how much, where frames end, and resets for errors of the client's.
use std::io::IoSlice;

use super::{Head, kind};

/// The length of a RST_STREAM frame.
const RST_LEN: usize = Head::LEN + 4;
/// PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED: the client provoked the reset.
const PROVOKED: [u32; 3] = [1, 3, 5];

#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// Bytes sent so far.
    pub(super) bytes: u64,
    /// Payload bytes of the current frame that are still to be sent.
    left: usize,
    /// The begin of a header whose end is still to be sent.
    partial: [u8; Head::LEN],
    partial_len: usize,
    /// Resets since the last [`Outgoing::take_resets`].
    resets: u32,
}

impl Outgoing {
    /// Walks the first `count` bytes of `bufs`.
    pub(super) fn walk(&mut self, bufs: &[IoSlice<'_>], count: usize) {
        self.bytes += count as u64;
        let mut count = count;
        for buf in bufs {
            let taken = count.min(buf.len());
            self.slice(&buf[..taken]);
            count -= taken;
            if count == 0 {
                return;
            }
        }
    }

    pub(super) fn is_between_frames(&self) -> bool {
        self.left == 0 && self.partial_len == 0
    }

    pub(super) fn take_resets(&mut self) -> u32 {
        std::mem::take(&mut self.resets)
    }

    fn slice(&mut self, bytes: &[u8]) {
        // Where the next frame begins, perhaps after these bytes.
        let mut at = if self.partial_len > 0 { self.header(bytes) } else { self.left };
        while let Some(head) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
            let head = Head::parse(head);
            if head.kind == kind::RST_STREAM {
                self.reset(&bytes[at..]);
            }
            at += Head::LEN + head.length;
        }
        self.left = at.saturating_sub(bytes.len());
        if at < bytes.len() {
            let begin = &bytes[at..];
            self.partial[..begin.len()].copy_from_slice(begin);
            self.partial_len = begin.len();
        }
    }

    /// Completes a header that began in an earlier slice; returns where its frame ends.
    #[cold]
    fn header(&mut self, bytes: &[u8]) -> usize {
        let more = (Head::LEN - self.partial_len).min(bytes.len());
        self.partial[self.partial_len..self.partial_len + more].copy_from_slice(&bytes[..more]);
        self.partial_len += more;
        if self.partial_len < Head::LEN {
            return bytes.len();
        }
        self.partial_len = 0;
        more + Head::parse(&self.partial).length
    }

    /// Counts a reset; `h2` writes this frame whole.
    #[cold]
    fn reset(&mut self, frame: &[u8]) {
        let code = frame.get(Head::LEN..RST_LEN).and_then(|code| code.first_chunk());
        if code.is_some_and(|code| PROVOKED.contains(&u32::from_be_bytes(*code))) {
            self.resets += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; Head::LEN];
        Head { length: payload.len(), kind, flags: 0, stream: 1 }.write(&mut frame);
        frame.extend(payload);
        frame
    }

    #[test]
    fn frames_are_followed_through_any_slices() {
        let sent =
            [frame(kind::DATA, &[3; 30]), frame(kind::HEADERS, &[]), frame(kind::DATA, &[3; 5])].concat();
        for cut in 0..sent.len() {
            let mut outgoing = Outgoing::default();
            let (one, two) = sent.split_at(cut);
            outgoing.walk(&[IoSlice::new(one), IoSlice::new(two)], sent.len() - 1);
            assert!(!outgoing.is_between_frames());
            outgoing.walk(&[IoSlice::new(&sent[sent.len() - 1..])], 1);
            assert!(outgoing.is_between_frames(), "{cut}");
            assert_eq!(outgoing.bytes, sent.len() as u64);
        }
    }

    #[test]
    fn resets_that_the_client_provoked_are_counted() {
        let mut outgoing = Outgoing::default();
        for code in [0_u8, 1, 3, 5, 7, 8] {
            outgoing.walk(&[IoSlice::new(&frame(kind::RST_STREAM, &[0, 0, 0, code]))], RST_LEN);
        }
        assert_eq!((outgoing.take_resets(), outgoing.take_resets()), (3, 0));
    }
}
