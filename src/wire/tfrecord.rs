//! TFRecord files (tsl/lib/io/record_writer.h): records with masked CRC-32C, read with bounds.
use std::io::{ErrorKind, Read};

use crc32c::crc32c;

/// Why a file is not a sequence of records.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("record {record} cannot be read: {error}")]
    Io { record: usize, error: std::io::Error },
    #[error("record {record} is cut off")]
    Truncated { record: usize },
    #[error("the checksum of record {record} does not match: this is no TFRecord file, or it is damaged")]
    Checksum { record: usize },
    #[error("record {record} has {bytes} bytes (limit {limit})")]
    TooLong { record: usize, bytes: u64, limit: u64 },
}

/// Reads records one by one.
#[derive(Debug)]
pub struct Records<R> {
    input: R,
    limit: u64,
    read: usize,
}

impl<R: Read> Records<R> {
    /// Records of at most `limit` bytes.
    pub fn new(input: R, limit: u64) -> Self {
        Self { input, limit, read: 0 }
    }

    /// The next record; `None` at the end of the file.
    ///
    /// # Errors
    /// As for [`Records::read`].
    pub fn next_record(&mut self) -> Result<Option<Vec<u8>>, RecordError> {
        let mut content = Vec::new();
        Ok(self.read(&mut content)?.then_some(content))
    }

    /// Reads the next record into a buffer; false at the end of the file.
    ///
    /// # Errors
    /// If the bytes are no record. Nothing can be read after it.
    pub fn read(&mut self, content: &mut Vec<u8>) -> Result<bool, RecordError> {
        let record = self.read + 1;
        let mut head = [0; 12];
        let mut got = 0;
        while got < head.len() {
            let Some(rest) = head.get_mut(got..) else { break };
            match self.input.read(rest) {
                Ok(0) if got == 0 => return Ok(false),
                Ok(0) => return Err(RecordError::Truncated { record }),
                Ok(read) => got += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(RecordError::Io { record, error }),
            }
        }
        let (length, crc) = head.split_at(8);
        Self::check(length, crc, record)?;
        let bytes = length.first_chunk().map_or(0, |length: &[u8; 8]| u64::from_le_bytes(*length));
        if bytes > self.limit {
            return Err(RecordError::TooLong { record, bytes, limit: self.limit });
        }
        content.clear();
        // Grows with what arrives, not with what the length claims.
        let read = self.input.by_ref().take(bytes + 4).read_to_end(content);
        read.map_err(|error| RecordError::Io { record, error })?;
        if content.len() as u64 != bytes + 4 {
            return Err(RecordError::Truncated { record });
        }
        let (content_bytes, crc) = content.split_at(bytes as usize);
        Self::check(content_bytes, crc, record)?;
        content.truncate(bytes as usize);
        self.read = record;
        Ok(true)
    }

    fn check(content: &[u8], crc: &[u8], record: usize) -> Result<(), RecordError> {
        if crc == checksum(content).to_le_bytes() { Ok(()) } else { Err(RecordError::Checksum { record }) }
    }
}

/// The masked checksum of bytes.
pub fn checksum(bytes: &[u8]) -> u32 {
    mask(crc32c(bytes))
}

/// A checksum as it is stored beside data that may contain checksums (tsl/lib/hash/crc32c.h).
pub fn mask(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Appends a record.
pub fn write(to: &mut Vec<u8>, record: &[u8]) {
    let length = (record.len() as u64).to_le_bytes();
    to.extend(length);
    to.extend(checksum(&length).to_le_bytes());
    to.extend(record);
    to.extend(checksum(record).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<Vec<u8>>, RecordError> {
        let mut records = Records::new(bytes, 1 << 20);
        std::iter::from_fn(|| records.next_record().transpose()).collect()
    }

    #[test]
    fn what_is_written_is_read_and_every_change_is_noticed() {
        let mut file = Vec::new();
        write(&mut file, b"first");
        write(&mut file, b"");
        // Written by tf.io.TFRecordWriter.
        assert_eq!(
            file[..21],
            [5, 0, 0, 0, 0, 0, 0, 0, 0xea, 0xb2, 0x04, 0x3e, b'f', b'i', b'r', b's', b't', 85, 255, 35, 229]
        );
        assert_eq!(read(&file).unwrap(), [b"first".to_vec(), Vec::new()]);
        for at in 0..file.len() {
            let mut bytes = file.clone();
            bytes[at] ^= 0x10;
            assert!(read(&bytes).is_err(), "{at}");
            assert!(at == 0 || at == 21 || read(&file[..at]).is_err(), "{at}");
        }
    }

    #[test]
    fn a_length_is_not_believed() {
        let length = u64::MAX.to_le_bytes();
        let head = [length.as_slice(), &checksum(&length).to_le_bytes()].concat();
        assert!(matches!(read(&head), Err(RecordError::TooLong { record: 1, .. })));
    }
}
