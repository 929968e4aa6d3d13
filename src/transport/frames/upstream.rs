//! What the upstream sends: frames for streams that it has ended do not end the connection, and its
//! settings are remembered.
//!
//! gRPC's C++ server answers a call whose deadline has passed with HEADERS and END_STREAM,
//! RST_STREAM, and HEADERS with END_STREAM once more. `h2` takes the last for an error of the
//! connection, which ends the calls of everybody else.
use std::cell::Cell;
use std::rc::Rc;

use super::{Action, Head, flag, kind};

/// Streams of the past whose end is remembered.
const WINDOW: u32 = 8_192;
const WORD: u32 = u64::BITS;

const MAX_HEADER_LIST_SIZE: u16 = 6;
const SETTING_LEN: usize = 6;

/// What is known of the upstream's side of a connection.
#[derive(Debug)]
pub(crate) struct Peer {
    /// The server's SETTINGS_MAX_HEADER_LIST_SIZE; [`u32::MAX`] without one.
    pub max_header_list: Cell<u32>,
    /// HEADERS frames so far: the server is alive when this grows.
    pub answers: Cell<u64>,
}

impl Default for Peer {
    fn default() -> Self {
        Self { max_header_list: Cell::new(u32::MAX), answers: Cell::new(0) }
    }
}

#[derive(Debug)]
pub(super) struct Upstream {
    peer: Rc<Peer>,
    ended: Ended,
    setting: [u8; SETTING_LEN],
    setting_len: usize,
}

impl Upstream {
    pub(super) fn new(peer: Rc<Peer>) -> Self {
        Self { peer, ended: Ended::default(), setting: [0; SETTING_LEN], setting_len: 0 }
    }

    #[inline]
    pub(super) fn action(&mut self, head: &Head) -> Action {
        match head.kind {
            kind::DATA | kind::HEADERS => {
                if head.kind == kind::HEADERS {
                    if self.ended.contains(head.stream) {
                        return Action::Late;
                    }
                    self.peer.answers.set(self.peer.answers.get() + 1);
                }
                if head.flags & flag::END_STREAM != 0 {
                    self.ended.insert(head.stream);
                }
            }
            kind::RST_STREAM => self.ended.insert(head.stream),
            kind::SETTINGS if head.flags & flag::ACK == 0 => {
                self.setting_len = 0;
                return Action::Settings;
            }
            _ => {}
        }
        Action::Keep
    }

    /// Reads a part of the payload of a SETTINGS frame.
    pub(super) fn settings(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.setting[self.setting_len] = *byte;
            self.setting_len += 1;
            if self.setting_len == SETTING_LEN {
                self.setting_len = 0;
                let [a, b, value @ ..] = self.setting;
                if u16::from_be_bytes([a, b]) == MAX_HEADER_LIST_SIZE {
                    self.peer.max_header_list.set(u32::from_be_bytes(value));
                }
            }
        }
    }
}

/// Which of the last [`WINDOW`] streams the peer has ended: one bit each, in a ring.
#[derive(Debug)]
struct Ended {
    bits: [u64; (WINDOW / WORD) as usize],
    /// The number after the highest stream's, which is half its ID.
    next: u32,
}

impl Default for Ended {
    fn default() -> Self {
        Self { bits: [0; (WINDOW / WORD) as usize], next: 0 }
    }
}

impl Ended {
    fn contains(&self, stream: u32) -> bool {
        let number = stream / 2;
        let is_remembered = number < self.next && self.next - number <= WINDOW;
        is_remembered && stream % 2 == 1 && self.bits[word(number)] & bit(number) != 0
    }

    fn insert(&mut self, stream: u32) {
        let number = stream / 2;
        if stream.is_multiple_of(2) || number + WINDOW < self.next {
            return;
        }
        if number >= self.next {
            // The numbers in between reuse the bits of older streams.
            let new = (number + 1 - self.next).min(WINDOW);
            for skipped in number + 1 - new..=number {
                self.bits[word(skipped)] &= !bit(skipped);
            }
            self.next = number + 1;
        }
        self.bits[word(number)] |= bit(number);
    }
}

fn word(number: u32) -> usize {
    (number % WINDOW / WORD) as usize
}

fn bit(number: u32) -> u64 {
    1 << (number % WORD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_recent_streams_are_remembered_and_no_others() {
        let mut ended = Ended::default();
        for stream in [3, 9, 2 * WINDOW + 5] {
            ended.insert(stream);
        }
        // 3 shares its bit with a stream that came later, and 9 is still in the window.
        let all: Vec<u32> = (0..4 * WINDOW).filter(|stream| ended.contains(*stream)).collect();
        assert_eq!(all, [9, 2 * WINDOW + 5]);
        ended.insert(3);
        assert!(!ended.contains(3), "too old to be remembered");
        ended.insert(100 * WINDOW + 1);
        let all: Vec<u32> = (0..101 * WINDOW).filter(|stream| ended.contains(*stream)).collect();
        assert_eq!(all, [100 * WINDOW + 1]);
    }

    #[test]
    fn the_header_list_limit_is_read_from_settings_in_any_fragments() {
        let payload = [0, 4, 0, 64, 0, 0, 0, 6, 0, 0, 0x20, 0, 0, 3, 0, 0, 0, 1];
        for cut in 0..payload.len() {
            let peer = Rc::new(Peer::default());
            let mut upstream = Upstream::new(Rc::clone(&peer));
            upstream.action(&Head { length: payload.len(), kind: kind::SETTINGS, flags: 0, stream: 0 });
            upstream.settings(&payload[..cut]);
            upstream.settings(&payload[cut..]);
            assert_eq!(peer.max_header_list.get(), 8_192, "{cut}");
        }
    }
}
