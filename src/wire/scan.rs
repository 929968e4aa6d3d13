//! Reads protobuf fields from a rope: tags, lengths and byte ranges. Every length is checked before
//! it is used.
//!
//! The grammar (protobuf encoding, proto3):
//! ```text
//! message := field*
//! field   := tag payload
//! tag     := varint (number << 3 | wire type), number 1..2^29-1
//! payload := varint | 8 bytes | length-delimited (varint n, n bytes)
//!          | group (field* end tag) | 4 bytes
//! varint  := at most 10 bytes, 7 bits each, least significant first
//! ```
use std::cell::Cell;
use std::ops::Range;

use bytes::Bytes;

use super::rope::{Chunks, Rope};

/// Protobuf's own limit on nesting. Only unknown groups can nest here; all known messages have a
/// fixed depth.
const MAX_GROUP_DEPTH: usize = 100;

/// Why bytes are not a valid message. Positions are byte offsets in the message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("the message ends at byte {at} in the middle of a field")]
    Truncated { at: usize },
    #[error("a varint at byte {at} is longer than 10 bytes")]
    LongVarint { at: usize },
    #[error("a field at byte {at} claims {claimed} bytes, but {left} are left")]
    Length { at: usize, claimed: u64, left: usize },
    #[error("a tag at byte {at} has no valid field number")]
    FieldNumber { at: usize },
    #[error("a tag at byte {at} has wire type {wire}, which does not exist")]
    WireType { at: usize, wire: u8 },
    #[error("field {field} at byte {at} has the wrong wire type {wire}")]
    FieldType { at: usize, field: u32, wire: u8 },
    #[error("a group at byte {at} is not closed properly")]
    Group { at: usize },
    #[error("groups nest deeper than {MAX_GROUP_DEPTH} at byte {at}")]
    TooDeep { at: usize },
    #[error("a string at byte {at} is not valid UTF-8")]
    Utf8 { at: usize },
    #[error("a packed list at byte {at} has {length} bytes, which is not a multiple of {size}")]
    Packed { at: usize, length: usize, size: usize },
    #[error("too many {what} (limit {limit}) at byte {at}")]
    TooMany { at: usize, what: &'static str, limit: usize },
    /// The scan had a limit on its work, and reached it.
    #[error("the scan stopped at byte {at}, at the limit of its work")]
    Unfinished { at: usize },
}

/// The wire types of protobuf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    Varint,
    Fixed64,
    Bytes,
    Group,
    Fixed32,
}

impl Wire {
    const fn number(self) -> u8 {
        match self {
            Self::Varint => 0,
            Self::Fixed64 => 1,
            Self::Bytes => 2,
            Self::Group => 3,
            Self::Fixed32 => 5,
        }
    }
}

/// One field of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    pub number: u32,
    pub wire: Wire,
    /// Tag and payload.
    pub span: Range<usize>,
    /// The payload alone, without the length of [`Wire::Bytes`].
    pub payload: Range<usize>,
    /// The value of a varint; 0 for the other wire types.
    pub varint: u64,
}

impl Field {
    /// Checks the wire type.
    ///
    /// # Errors
    /// If the field has another wire type.
    pub fn expect(&self, wire: Wire) -> Result<(), WireError> {
        if self.wire == wire {
            return Ok(());
        }
        Err(WireError::FieldType { at: self.span.start, field: self.number, wire: self.wire.number() })
    }
}

/// Reads the fields of a byte range of a rope, front to back.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    /// What is left of the current chunk, up to the end of the range. Empty at the end alone.
    chunk: &'a [u8],
    /// The chunks after it.
    later: &'a [Bytes],
    /// Offset in the whole rope.
    position: usize,
    end: usize,
    /// `chunk` and `later` at the start of the payload of the last length-delimited field.
    payload_start: (&'a [u8], &'a [Bytes]),
    /// How many fields this reader and those made from it may still read.
    fuel: Option<&'a Cell<usize>>,
}

/// Bytes of names, and of packed numbers that are counted, that take as long as a field.
const BYTES_A_FIELD: usize = 128;

impl<'a> Reader<'a> {
    pub fn new(rope: &'a Rope) -> Self {
        Self::of(&[], rope.segments(), 0, rope.len(), None)
    }

    /// A reader that stops with [`WireError::Unfinished`] after about `fuel` fields, counting those
    /// of all readers made from it.
    pub(super) fn limited(rope: &'a Rope, fuel: &'a Cell<usize>) -> Self {
        Self { fuel: Some(fuel), ..Self::new(rope) }
    }

    /// A reader of the payload of the length-delimited field that was read last. Unlike
    /// [`Self::of_range`] it need not search for its first chunk.
    pub fn inner(&self, field: &Field) -> Self {
        let (chunk, later) = self.payload_start;
        Self::of(chunk, later, field.payload.start, field.payload.end, self.fuel)
    }

    /// A reader of any range of the rope.
    pub fn of_range(rope: &'a Rope, range: &Range<usize>) -> Self {
        let (start, end) = (range.start.min(rope.len()), range.end.min(rope.len()));
        let (chunk, later) = rope.starting_at(start);
        Self::of(chunk, later, start, end, None)
    }

    fn of(
        chunk: &'a [u8],
        later: &'a [Bytes],
        position: usize,
        end: usize,
        fuel: Option<&'a Cell<usize>>,
    ) -> Self {
        let chunk = &chunk[..chunk.len().min(end.saturating_sub(position))];
        let mut reader = Self { chunk, later, position, end, payload_start: (chunk, later), fuel };
        if chunk.is_empty() {
            reader.leave_chunk(0);
        }
        reader
    }

    /// The chunks that are left.
    pub(super) fn chunks(&self) -> Chunks<'a> {
        Chunks::new(self.chunk, self.later, self.remaining())
    }

    /// Counts the work on so many bytes of the field that was read last.
    pub(super) fn burn_bytes(&self, bytes: usize) -> Result<(), WireError> {
        self.burn(bytes / BYTES_A_FIELD)
    }

    fn burn(&self, fields: usize) -> Result<(), WireError> {
        let Some(fuel) = self.fuel else { return Ok(()) };
        let left = fuel.get().checked_sub(fields).ok_or(WireError::Unfinished { at: self.position })?;
        fuel.set(left);
        Ok(())
    }

    pub fn position(&self) -> usize {
        self.position
    }

    /// Bytes that are left.
    pub fn remaining(&self) -> usize {
        self.end - self.position
    }

    pub fn is_at_end(&self) -> bool {
        self.position >= self.end
    }

    /// The next field, or `None` at the end of the range.
    ///
    /// # Errors
    /// If the bytes are not a valid field.
    pub fn next_field(&mut self) -> Result<Option<Field>, WireError> {
        if self.is_at_end() {
            return Ok(None);
        }
        let start = self.position;
        let (number, wire) = self.tag()?;
        if wire == 4 {
            return Err(WireError::Group { at: start });
        }
        self.payload(start, number, wire).map(Some)
    }

    fn tag(&mut self) -> Result<(u32, u8), WireError> {
        let at = self.position;
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| (1..1 << 29).contains(number));
        Ok((number.ok_or(WireError::FieldNumber { at })?, (tag & 7) as u8))
    }

    #[expect(clippy::inline_always, reason = "its large result need not be copied then")]
    #[inline(always)]
    fn payload(&mut self, start: usize, number: u32, wire: u8) -> Result<Field, WireError> {
        self.burn(1)?;
        let mut body = self.position;
        let mut varint = 0;
        let wire = match wire {
            0 => {
                varint = self.varint()?;
                Wire::Varint
            }
            1 => {
                self.skip(8)?;
                Wire::Fixed64
            }
            2 => {
                let length = self.varint()?;
                body = self.position;
                self.payload_start = (self.chunk, self.later);
                let left = self.end - body;
                let inside = usize::try_from(length).ok().filter(|length| *length <= left);
                self.advance(inside.ok_or(WireError::Length { at: start, claimed: length, left })?);
                Wire::Bytes
            }
            3 => {
                self.skip_group(start, number)?;
                Wire::Group
            }
            5 => {
                self.skip(4)?;
                Wire::Fixed32
            }
            wire => return Err(WireError::WireType { at: start, wire }),
        };
        Ok(Field { number, wire, span: start..self.position, payload: body..self.position, varint })
    }

    /// Skips an unknown group without recursion, so that hostile nesting cannot overflow the stack.
    #[inline(never)]
    fn skip_group(&mut self, start: usize, number: u32) -> Result<(), WireError> {
        let mut open = [0_u32; MAX_GROUP_DEPTH];
        open[0] = number;
        let mut depth = 1;
        while depth > 0 {
            let at = self.position;
            if self.is_at_end() {
                return Err(WireError::Group { at: start });
            }
            match self.tag()? {
                (number, 3) => {
                    *open.get_mut(depth).ok_or(WireError::TooDeep { at })? = number;
                    depth += 1;
                }
                (number, 4) if open[depth - 1] == number => depth -= 1,
                (_, 4) => return Err(WireError::Group { at }),
                (number, wire) => {
                    self.payload(at, number, wire)?;
                }
            }
        }
        Ok(())
    }

    /// Reads a varint.
    ///
    /// # Errors
    /// If it is longer than 10 bytes, or the range ends inside it.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, WireError> {
        // Most are tags and lengths of one byte.
        if let [byte, left @ ..] = self.chunk
            && *byte < 0x80
            && !left.is_empty()
        {
            self.chunk = left;
            self.position += 1;
            return Ok(u64::from(*byte));
        }
        self.long_varint()
    }

    #[inline(never)]
    fn long_varint(&mut self) -> Result<u64, WireError> {
        let at = self.position;
        let mut value = 0_u64;
        if let Some(window) = self.chunk.first_chunk::<10>() {
            for (shift, byte) in window.iter().enumerate() {
                value |= u64::from(byte & 0x7f) << (7 * shift);
                if *byte < 0x80 {
                    self.advance(shift + 1);
                    return Ok(value);
                }
            }
            return Err(WireError::LongVarint { at });
        }
        // It may lie in several chunks.
        for shift in 0..10 {
            let Some(byte) = self.chunk.first() else { return Err(WireError::Truncated { at: self.end }) };
            self.advance(1);
            value |= u64::from(byte & 0x7f) << (7 * shift);
            if *byte < 0x80 {
                return Ok(value);
            }
        }
        Err(WireError::LongVarint { at })
    }

    #[inline]
    pub(super) fn skip(&mut self, bytes: usize) -> Result<(), WireError> {
        if bytes > self.end - self.position {
            return Err(WireError::Truncated { at: self.end });
        }
        self.advance(bytes);
        Ok(())
    }

    /// Skips bytes that are known to be there.
    #[inline]
    fn advance(&mut self, bytes: usize) {
        self.position += bytes;
        match self.chunk.get(bytes..) {
            Some(left) if !left.is_empty() => self.chunk = left,
            _ => self.leave_chunk(bytes),
        }
    }

    /// Ends [`Self::advance`] in a later chunk.
    #[inline(never)]
    fn leave_chunk(&mut self, bytes: usize) {
        let mut beyond = bytes - self.chunk.len();
        self.chunk = &[];
        if self.is_at_end() {
            return;
        }
        while let Some((next, later)) = self.later.split_first() {
            self.later = later;
            match next.get(beyond..) {
                Some(left) if !left.is_empty() => {
                    self.chunk = &left[..left.len().min(self.remaining())];
                    return;
                }
                _ => beyond -= next.len(),
            }
        }
    }
}

/// Reads the field as a proto3 string, which must be UTF-8 as protobuf's own parsers require.
/// `reader` has just read the field.
pub(super) fn text(reader: &Reader<'_>, field: &Field) -> Result<String, WireError> {
    reader.burn_bytes(field.payload.len())?;
    let bytes = match reader.payload_start.0.get(..field.payload.len()) {
        Some(bytes) => bytes.to_vec(),
        None => reader.inner(field).chunks().collect::<Vec<_>>().concat(),
    };
    String::from_utf8(bytes).map_err(|_| WireError::Utf8 { at: field.payload.start })
}
