//! Reads protobuf fields from a file without holding it in memory.
use std::io::{BufRead as _, BufReader, Read, Seek, SeekFrom};

/// Most bytes of one name: of a node, an operation, an attribute, a file.
const MAX_NAME: u64 = 64 << 10;
/// Bytes that are read at once.
const BUFFER: usize = 64 << 10;

/// Why a file is not a SavedModel. Positions are byte offsets in the file.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    #[error("ends at byte {at} in the middle of a field")]
    Truncated { at: u64 },
    #[error("has an invalid {what} at byte {at}")]
    Invalid { at: u64, what: &'static str },
    #[error("has a {what} of {length} bytes at byte {at} (limit {limit})")]
    TooLong { at: u64, what: &'static str, length: u64, limit: u64 },
    #[error("has signatures that cannot be read: {0}")]
    Signatures(#[from] crate::signature::MetadataError),
}

/// The payload of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Payload {
    Varint(u64),
    /// So many bytes follow. They must be read, skipped or walked before the next field.
    Bytes(u64),
    /// 4 or 8 bytes, which have been skipped.
    Fixed,
}

/// A reader of fields, and where it is.
pub(super) struct Fields<R> {
    input: BufReader<R>,
    position: u64,
    length: u64,
}

impl<R: Read + Seek> Fields<R> {
    pub(super) fn new(mut input: R) -> Result<Self, ReadError> {
        let length = input.seek(SeekFrom::End(0))?;
        input.seek(SeekFrom::Start(0))?;
        Ok(Self { input: BufReader::with_capacity(BUFFER, input), position: 0, length })
    }

    /// Bytes of the whole file.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Where a message ends whose `length` bytes start here.
    pub(super) fn end_of(&self, length: u64) -> u64 {
        self.position + length
    }

    /// The next field of a message that ends at `end`; `None` at its end.
    pub(super) fn next(&mut self, end: u64) -> Result<Option<(u32, Payload)>, ReadError> {
        if self.position >= end {
            return Ok(None);
        }
        let at = self.position;
        let tag = self.varint(end)?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| (1..1 << 29).contains(number));
        let Some(number) = number else { return Err(ReadError::Invalid { at, what: "field number" }) };
        let payload = match tag & 7 {
            0 => Payload::Varint(self.varint(end)?),
            1 => self.fixed(8, end)?,
            5 => self.fixed(4, end)?,
            2 => {
                let length = self.varint(end)?;
                if length > end - self.position {
                    return Err(ReadError::Truncated { at: end });
                }
                Payload::Bytes(length)
            }
            _ => return Err(ReadError::Invalid { at, what: "wire type" }),
        };
        Ok(Some((number, payload)))
    }

    fn fixed(&mut self, size: u64, end: u64) -> Result<Payload, ReadError> {
        if size > end - self.position {
            return Err(ReadError::Truncated { at: end });
        }
        self.skip(size)?;
        Ok(Payload::Fixed)
    }

    /// Skips what a field brought, unread.
    pub(super) fn pass(&mut self, payload: Payload) -> Result<(), ReadError> {
        match payload {
            Payload::Bytes(length) => self.skip(length),
            Payload::Varint(_) | Payload::Fixed => Ok(()),
        }
    }

    fn skip(&mut self, length: u64) -> Result<(), ReadError> {
        let distance = i64::try_from(length).map_err(|_| ReadError::Truncated { at: self.position })?;
        self.input.seek_relative(distance)?;
        self.position += length;
        Ok(())
    }

    /// Goes to `end`, which is not behind the reader.
    pub(super) fn skip_to(&mut self, end: u64) -> Result<(), ReadError> {
        self.skip(end.saturating_sub(self.position))
    }

    /// The `length` bytes that follow, at most `limit`.
    pub(super) fn bytes(
        &mut self,
        length: u64,
        limit: u64,
        what: &'static str,
    ) -> Result<Vec<u8>, ReadError> {
        let at = self.position;
        if length > limit {
            return Err(ReadError::TooLong { at, what, length, limit });
        }
        let mut bytes = vec![0; length as usize];
        self.input.read_exact(&mut bytes)?;
        self.position += length;
        Ok(bytes)
    }

    /// A name of `length` bytes. Bytes that are not UTF-8 are replaced, as nothing depends on them.
    pub(super) fn name(&mut self, length: u64) -> Result<String, ReadError> {
        let bytes = self.bytes(length, MAX_NAME, "name")?;
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// The next number of a packed list that ends at `end`; `None` at its end.
    pub(super) fn packed(&mut self, end: u64) -> Result<Option<u64>, ReadError> {
        if self.position < end { self.varint(end).map(Some) } else { Ok(None) }
    }

    fn varint(&mut self, end: u64) -> Result<u64, ReadError> {
        let at = self.position;
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            if self.position >= end {
                return Err(ReadError::Truncated { at: end });
            }
            let Some(&byte) = self.input.fill_buf()?.first() else {
                return Err(ReadError::Truncated { at: self.position });
            };
            self.input.consume(1);
            self.position += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(ReadError::Invalid { at, what: "number" })
    }
}
