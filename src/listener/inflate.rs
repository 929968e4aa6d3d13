//! Decompresses a message or body: in place what is small, the rest on another thread, and never
//! more than the limit.
use std::io::Read;

use crate::fault::Fault;
use crate::limiter::admission::Ticket;
use crate::listener::pages::{Buffer, LARGE};
use crate::pipeline::offload::Offload;
use crate::wire::Rope;

/// Decompressed in place, which takes less than a millisecond. The rest of a message is
/// decompressed on another thread.
const INLINE: usize = 64 << 10;
/// Decompressed at a time there, before it is charged.
const SLICE: usize = 1 << 20;

/// Where the slices of what is decompressed are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slices {
    /// On the heap: it is not slower for messages that come again and again.
    Heap,
    /// In pages of their own, once there are many.
    Pages,
}

/// What `decoder` gives, charged for as it grows.
///
/// # Errors
/// It cannot be decompressed, it is larger than `limit`, or it takes more memory than there is.
pub(super) async fn inflate(
    mut decoder: impl Read + Send + 'static,
    slices: Slices,
    limit: usize,
    offload: &Offload,
    ticket: &mut Ticket,
) -> Result<Rope, Fault> {
    let mut plain = Rope::new();
    let mut slice = next_slice(&mut decoder, Buffer::heap(INLINE));
    loop {
        let read = slice
            .map_err(|error| Fault::malformed(format!("the message cannot be decompressed: {error}")))?;
        if read.len() == 0 {
            return Ok(plain);
        }
        ticket.reserve(read.len() as u64)?;
        plain.push(read.into_bytes());
        check(plain.len() as u64, limit)?;
        // The buffer comes from this thread, which frees it: an allocator does not soon use again
        // what one thread has taken and another one has freed.
        let buffer = match slices {
            Slices::Pages if plain.len() >= LARGE => Buffer::pages(SLICE),
            _ => Buffer::heap(SLICE),
        };
        (decoder, slice) = offload
            .run(move || {
                let slice = next_slice(&mut decoder, buffer);
                (decoder, slice)
            })
            .await?;
    }
}

/// Fills an empty buffer with the next bytes; it stays empty at the end.
fn next_slice(decoder: &mut impl Read, mut buffer: Buffer) -> std::io::Result<Buffer> {
    buffer.fill(decoder)?;
    Ok(buffer)
}

/// # Errors
/// A message of so many bytes is larger than `limits.max_message_bytes`.
pub(super) fn check(size: u64, limit: usize) -> Result<(), Fault> {
    let limit = limit as u64;
    let setting = "limits.max_message_bytes";
    if size > limit { Err(Fault::TooLarge { size, limit, setting }) } else { Ok(()) }
}

/// A payload as one stream of bytes.
#[derive(Debug)]
pub(super) struct Source {
    rope: Rope,
    segment: usize,
    offset: usize,
}

impl Source {
    pub(super) fn new(rope: Rope) -> Self {
        Self { rope, segment: 0, offset: 0 }
    }
}

impl Read for Source {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let Some(segment) = self.rope.segments().get(self.segment) else { return Ok(0) };
        let rest = segment.get(self.offset..).unwrap_or_default();
        let length = rest.len().min(buf.len());
        buf[..length].copy_from_slice(&rest[..length]);
        self.offset += length;
        if self.offset == segment.len() {
            self.segment += 1;
            self.offset = 0;
        }
        Ok(length)
    }
}
