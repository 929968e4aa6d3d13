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
    /// Keep, and read its payload: the SETTINGS of the upstream.
    Settings,
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
        let start = self.preface(buffer)?;
        let (mut ready, mut rest) = self.payload(buffer, start, start);
        // Where the frame before has its header, if it is DATA that goes on.
        let mut data = None;
        while let Some(bytes) = buffer.get(rest..).and_then(|rest| rest.first_chunk())
            && *frames > 0
        {
            *frames -= 1;
            let head = Head::parse(bytes);
            let action = self.action(&head)?;
            let goes_on = head.kind == kind::DATA && head.flags == 0;
            let end = rest + Head::LEN + head.length;
            let is_merged = head.kind == kind::DATA && data.is_some_and(|at| merge(buffer, at, &head));
            if action == Action::Keep && ready == rest && end <= buffer.len() && !is_merged {
                // Most frames: nothing changes and all of it is here.
                data = goes_on.then_some(ready);
                (ready, rest) = (end, end);
                continue;
            }
            if is_merged {
                self.begin(&head, Current::Keep);
                data = data.filter(|_| goes_on);
            } else if self.keep(buffer, rest, ready, &head, action) {
                data = goes_on.then_some(ready);
                ready += Head::LEN;
            }
            (ready, rest) = self.payload(buffer, ready, rest + Head::LEN);
        }
        Ok(Walked { ready, rest })
    }

    /// Reads what is missing of the client's preface; returns its length.
    fn preface(&mut self, buffer: &[u8]) -> Result<usize, Violation> {
        let Rules::Client(guard) = &mut self.rules else { return Ok(0) };
        if !guard.preface.is_awaited() {
            return Ok(0);
        }
        match guard.preface.read(buffer)? {
            Preface::Bytes(count) => Ok(count),
            Preface::Unknown => {
                // Neither HTTP/2 nor anything known: `h2` refuses it.
                self.left = usize::MAX;
                Ok(0)
            }
        }
    }

    /// Decides about a frame whose header is at `rest`, and moves the header to `ready`. Returns
    /// whether the frame is kept.
    #[inline(never)]
    fn keep(&mut self, buffer: &mut [u8], rest: usize, ready: usize, head: &Head, action: Action) -> bool {
        let mut head = *head;
        let block = buffer.get(rest + Head::LEN..rest + Head::LEN + head.length);
        let is_droppable = |block| hpack::is_whole(&head) && hpack::is_stateless(block);
        if action == Action::Drop || (action == Action::Late && block.is_some_and(is_droppable)) {
            self.begin(&head, Current::Drop);
            return false;
        }
        self.begin(&head, if action == Action::Settings { Current::Settings } else { Current::Keep });
        if action == Action::Late {
            // `h2` decodes it, and then resets the stream for trailers without an end.
            head.flags &= !flag::END_STREAM;
        }
        head.write(&mut buffer[ready..]);
        true
    }

    fn begin(&mut self, head: &Head, current: Current) {
        self.left = head.length;
        self.current = current;
    }

    /// Moves what there is of the payload at `rest` to `ready`; returns what follows each of them.
    #[inline(never)]
    fn payload(&mut self, buffer: &mut [u8], ready: usize, rest: usize) -> (usize, usize) {
        let count = self.left.min(buffer.len() - rest);
        if let Rules::Upstream(upstream) = &mut self.rules
            && self.current == Current::Settings
        {
            upstream.settings(&buffer[rest..rest + count]);
        }
        self.left -= count;
        if self.current == Current::Drop {
            return (ready, rest + count);
        }
        if ready != rest {
            buffer.copy_within(rest..rest + count, ready);
        }
        (ready + count, rest + count)
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

    #[inline]
    fn action(&mut self, head: &Head) -> Result<Action, Violation> {
        if self.in_block || head.length > MAX_FRAME as usize {
            // `h2` ends the connection for anything but CONTINUATION within a header block, and for
            // a frame that is too long.
            self.in_block = head.kind == kind::CONTINUATION && head.flags & flag::END_HEADERS == 0;
            return Ok(Action::Keep);
        }
        if matches!(head.kind, kind::HEADERS | kind::PUSH_PROMISE) {
            self.in_block = head.flags & flag::END_HEADERS == 0;
        }
        match &mut self.rules {
            Rules::Client(guard) => guard.action(head),
            Rules::Upstream(upstream) => Ok(upstream.action(head)),
            #[cfg(test)]
            Rules::Off => Ok(Action::Keep),
        }
    }
}

/// Appends a tiny DATA frame to the one whose header is at `at`. Flow control counts payloads, so
/// it stays exact.
fn merge(buffer: &mut [u8], at: usize, head: &Head) -> bool {
    let Some(bytes) = buffer[at..].first_chunk() else { return false };
    let mut into = Head::parse(bytes);
    let is_tiny = head.length <= MAX_TINY
        && head.flags & !flag::END_STREAM == 0
        && head.stream == into.stream
        && into.length + head.length <= MAX_MERGED;
    if is_tiny {
        into.length += head.length;
        into.flags = head.flags;
        into.write(&mut buffer[at..]);
    }
    is_tiny
}
