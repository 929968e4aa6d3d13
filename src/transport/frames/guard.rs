//! What a client may send: frames without effect are dropped, and those that only cost us time have
//! a budget.
//!
//! The budgets fit honest clients with a wide margin. They replace counts of `h2` that a connection
//! uses up over its lifetime, or in one burst of expired deadlines.
use std::io::IoSlice;

use super::budget::Budget;
use super::outgoing::Outgoing;
use super::preface::PrefaceReader;
use super::{Action, Head, Violation, kind};

/// Control frames at once, and per second beyond those that useful frames pay for.
const CONTROL_FRAMES: u32 = 4_096;
const CONTROL_FRAMES_PER_SECOND: u32 = 1_000;
/// What a call and a DATA frame pay for. A client that follows RFC 9113 sends a few control frames
/// per call: window updates, a PING to measure the bandwidth, a PRIORITY of an older browser.
const PER_CALL: u32 = 16;
const PER_DATA: u32 = 2;
/// A client acknowledges what it receives with window updates. Those of two per this many bytes
/// are paid for.
const BYTES_PER_UPDATE: u64 = 512;
/// Calls that may be cancelled at once (twice as many as may be open), and per second. A storm of
/// expired deadlines is some thousands a second; a flood is tens of thousands.
const RESETS: u32 = 8_192;
const RESETS_PER_SECOND: u32 = 5_000;

/// Watches one client's connection.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) preface: PrefaceReader,
    /// The highest stream that the client has opened.
    highest: u32,
    control: Budget,
    resets: Budget,
    outgoing: Outgoing,
    /// How much of `outgoing.bytes` has paid for control frames.
    paid: u64,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            preface: PrefaceReader::default(),
            highest: 0,
            control: Budget::new(CONTROL_FRAMES, CONTROL_FRAMES_PER_SECOND),
            resets: Budget::new(RESETS, RESETS_PER_SECOND),
            outgoing: Outgoing::default(),
            paid: 0,
        }
    }
}

impl Guard {
    /// # Errors
    /// A budget is spent.
    pub(super) fn action(&mut self, head: &Head) -> Result<Action, Violation> {
        match head.kind {
            kind::DATA if head.length == 0 && head.flags == 0 && !self.is_idle(head.stream) => {
                self.control().map(|()| Action::Drop)
            }
            kind::DATA => {
                self.control.earn(PER_DATA);
                Ok(Action::Keep)
            }
            kind::HEADERS => {
                if head.stream > self.highest {
                    self.highest = head.stream;
                    self.control.earn(PER_CALL);
                }
                // Each of our own resets for an error of the client's counts like one of the
                // client.
                for _ in 0..self.outgoing.take_resets() {
                    self.reset()?;
                }
                Ok(Action::Keep)
            }
            kind::CONTINUATION => Ok(Action::Keep),
            // gRPC's C++ stack resets calls whose deadline passes before their HEADERS are out.
            // That RST_STREAM names a stream which was never opened, an error of the connection for
            // `h2`.
            kind::RST_STREAM | kind::WINDOW_UPDATE if self.is_idle(head.stream) => {
                self.control().map(|()| Action::Drop)
            }
            kind::RST_STREAM => self.reset().map(|()| Action::Keep),
            kind::WINDOW_UPDATE | kind::SETTINGS | kind::PING | kind::GOAWAY | kind::PUSH_PROMISE => {
                self.control().map(|()| Action::Keep)
            }
            // PRIORITY and extensions have no effect here.
            _ => self.control().map(|()| Action::Drop),
        }
    }

    pub(super) fn sent(&mut self, bufs: &[IoSlice<'_>], count: usize) {
        self.outgoing.walk(bufs, count);
    }

    pub(super) fn farewell(&self, violation: Violation) -> Vec<u8> {
        if violation.is_other_protocol() || self.outgoing.is_between_frames() {
            violation.answer(self.highest)
        } else {
            Vec::new()
        }
    }

    /// Whether the client could have opened this stream, but has not.
    fn is_idle(&self, stream: u32) -> bool {
        stream > self.highest && stream % 2 == 1
    }

    fn control(&mut self) -> Result<(), Violation> {
        if self.control.is_spent() {
            let updates = (self.outgoing.bytes - self.paid) / BYTES_PER_UPDATE;
            self.paid = self.outgoing.bytes;
            self.control.earn(u32::try_from(updates).unwrap_or(u32::MAX));
        }
        if self.control.spend() { Ok(()) } else { Err(Violation::ControlFrames) }
    }

    fn reset(&mut self) -> Result<(), Violation> {
        if self.resets.spend() { Ok(()) } else { Err(Violation::Resets) }
    }
}
