//! HTTP/2 frames below `h2`: what it would take for an error of the whole connection, or work on
//! without limit, is dropped, merged or refused on arrival.
//!
//! [`Filter`] walks the frame headers of what was read, in place, before `h2` sees it. Payloads are
//! not touched, apart from those of tiny DATA frames, which are merged.
mod budget;
#[cfg(test)]
mod connection_tests;
mod guard;
mod head;
mod hpack;
mod outgoing;
mod preface;
#[cfg(test)]
mod tests;
mod upstream;
mod violation;

use std::io::IoSlice;
use std::rc::Rc;

use guard::Guard;
use head::{Head, flag, kind};
use preface::Preface;
pub(crate) use upstream::Peer;
use upstream::Upstream;
pub(crate) use violation::Violation;

use super::http2::MAX_FRAME;

/// DATA frames of at most this many bytes are appended to the DATA frame before them. A queued
/// frame costs `h2` and the request's chunks some 100 bytes, however short it is.
const MAX_TINY: usize = 1024;
/// Every peer may send a frame of this size, so a merged one is never too long.
const MAX_MERGED: usize = 16_384;

/// What to do with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Keep,
    Drop,
    /// HEADERS for a stream that has ended. They are dropped if the decoder can do without them,
    /// and made an error of this stream alone otherwise.
    Late,
}

/// The state of one direction of one connection.
#[derive(Debug)]
pub(crate) struct Filter {
    rules: Rules,
    /// Payload bytes of the current frame that have not been walked yet.
    left: usize,
    current: Current,
    /// Within a header block, which only CONTINUATION may go on with.
    in_block: bool,
}

#[derive(Debug)]
enum Rules {
    Client(Box<Guard>),
    Upstream(Box<Upstream>),
    /// No frames: every byte passes.
    #[cfg(test)]
    Off,
}

/// What happens to the payload of the current frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Current {
    Keep,
    Drop,
    /// Keep, and read it: the SETTINGS of the upstream.
    Settings,
}

/// How far a walk went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Walked {
    /// End of what `h2` may see.
    pub ready: usize,
    /// Begin of what was not walked: less than a frame header, unless the walk had no more frames.
    pub rest: usize,
}

/// The DATA frame that the next one may be appended to: its header is at `at`.
#[derive(Debug, Clone, Copy)]
struct Mergeable {
    at: usize,
    head: Head,
}

impl Filter {
    /// For what a client sends.
    pub(crate) fn client() -> Self {
        Self::new(Rules::Client(Box::default()))
    }

    /// For what the upstream sends. `peer` learns from it.
    pub(crate) fn upstream(peer: Rc<Peer>) -> Self {
        Self::new(Rules::Upstream(Box::new(Upstream::new(peer))))
    }

    /// Passes every byte, for tests without frames.
    #[cfg(test)]
    pub(crate) fn off() -> Self {
        Self { left: usize::MAX, ..Self::new(Rules::Off) }
    }

    fn new(rules: Rules) -> Self {
        Self { rules, left: 0, current: Current::Keep, in_block: false }
    }

    /// Whether the next bytes are payload, so many that reading them apart is worth it.
    pub(crate) fn has_payload(&self, at_least: usize) -> bool {
        self.left >= at_least && self.current == Current::Keep
    }

    /// Whether it is still unknown if the client speaks HTTP/2. Nothing is sent before.
    pub(crate) fn awaits_preface(&self) -> bool {
        matches!(&self.rules, Rules::Client(guard) if guard.preface.is_awaited())
    }

    /// Filters what is in `buffer`, in place, for as many frames as `frames` says.
    ///
    /// # Errors
    /// The peer does not speak HTTP/2, or sends what only costs us time.
    pub(crate) fn walk(&mut self, buffer: &mut [u8], frames: &mut usize) -> Result<Walked, Violation> {
        let (mut ready, mut rest) = (0, 0);
        let mut last = None;
        if let Rules::Client(guard) = &mut self.rules
            && guard.preface.is_awaited()
        {
            match guard.preface.read(buffer)? {
                Preface::Bytes(count) => (ready, rest) = (count, count),
                // Neither HTTP/2 nor anything known: `h2` refuses it.
                Preface::Unknown => self.left = usize::MAX,
            }
        }
        loop {
            if self.left > 0 {
                let count = self.left.min(buffer.len() - rest);
                if self.current == Current::Settings
                    && let Rules::Upstream(upstream) = &mut self.rules
                {
                    upstream.settings(&buffer[rest..rest + count]);
                }
                if self.current != Current::Drop {
                    shift(buffer, rest, ready, count);
                    ready += count;
                }
                rest += count;
                self.left -= count;
            }
            let Some(bytes) = buffer.get(rest..).and_then(|rest| rest.first_chunk()) else { break };
            if *frames == 0 {
                break;
            }
            *frames -= 1;
            let mut head = Head::parse(bytes);
            let mut action = self.action(&head)?;
            if action == Action::Late {
                action = match buffer.get(rest + Head::LEN..rest + Head::LEN + head.length) {
                    Some(block) if hpack::is_whole(&head) && hpack::is_stateless(block) => Action::Drop,
                    // `h2` decodes it, and then resets the stream for trailers without an end.
                    Some(_) | None => Action::Late,
                };
            }
            self.left = head.length;
            self.current = match action {
                Action::Drop => Current::Drop,
                Action::Keep if self.reads_settings(&head) => Current::Settings,
                Action::Keep | Action::Late => Current::Keep,
            };
            if action == Action::Drop {
                rest += Head::LEN;
                continue;
            }
            if merge(buffer, &mut last, &head) {
                rest += Head::LEN;
                continue;
            }
            shift(buffer, rest, ready, Head::LEN);
            if action == Action::Late {
                head.flags &= !flag::END_STREAM;
                head.write(&mut buffer[ready..]);
            }
            last = (head.kind == kind::DATA && head.flags == 0).then_some(Mergeable { at: ready, head });
            ready += Head::LEN;
            rest += Head::LEN;
        }
        Ok(Walked { ready, rest })
    }

    /// Notes what is sent to the peer: the first `count` bytes of `bufs`.
    pub(crate) fn sent(&mut self, bufs: &[IoSlice<'_>], count: usize) {
        if let Rules::Client(guard) = &mut self.rules {
            guard.sent(bufs, count);
        }
    }

    /// The last words to the peer, or nothing if they cannot be said now.
    pub(crate) fn farewell(&self, violation: Violation) -> Vec<u8> {
        match &self.rules {
            Rules::Client(guard) => guard.farewell(violation),
            Rules::Upstream(_) => Vec::new(),
            #[cfg(test)]
            Rules::Off => Vec::new(),
        }
    }

    fn action(&mut self, head: &Head) -> Result<Action, Violation> {
        if head.length > MAX_FRAME as usize {
            // `h2` ends the connection for it.
            return Ok(Action::Keep);
        }
        if self.in_block {
            // Anything but CONTINUATION within a header block is an error, which `h2` reports.
            self.in_block = head.kind == kind::CONTINUATION && head.flags & flag::END_HEADERS == 0;
            return Ok(Action::Keep);
        }
        let action = match &mut self.rules {
            Rules::Client(guard) => guard.action(head)?,
            Rules::Upstream(upstream) => upstream.action(head),
            #[cfg(test)]
            Rules::Off => Action::Keep,
        };
        let opens = matches!(head.kind, kind::HEADERS | kind::PUSH_PROMISE);
        self.in_block = opens && head.flags & flag::END_HEADERS == 0;
        Ok(action)
    }

    fn reads_settings(&self, head: &Head) -> bool {
        head.kind == kind::SETTINGS && head.flags & flag::ACK == 0 && matches!(self.rules, Rules::Upstream(_))
    }
}

/// Moves `count` bytes to the front, over what was dropped.
fn shift(buffer: &mut [u8], from: usize, to: usize, count: usize) {
    if from != to {
        buffer.copy_within(from..from + count, to);
    }
}

/// Appends a tiny DATA frame to the one before. Flow control counts payloads, so it stays exact.
fn merge(buffer: &mut [u8], last: &mut Option<Mergeable>, head: &Head) -> bool {
    let Some(Mergeable { at, head: into }) = last else { return false };
    let is_tiny = head.kind == kind::DATA
        && head.length <= MAX_TINY
        && head.flags & !flag::END_STREAM == 0
        && head.stream == into.stream
        && into.length + head.length <= MAX_MERGED;
    if is_tiny {
        into.length += head.length;
        into.flags = head.flags;
        into.write(&mut buffer[*at..]);
        if into.flags != 0 {
            *last = None;
        }
    }
    is_tiny
}
