//! The records of a TFRecord file as data.
use std::io::BufRead;

use super::Fault;
use super::fault::Place;
use crate::wire::tfrecord::{self, RecordError, Records};

/// Bytes of a record. TF Serving's own requests are smaller.
pub const MAX_RECORD: u64 = 256 << 20;

/// Passes each record to `each`, in a buffer that is used again.
///
/// # Errors
/// If a checksum is wrong, a record is longer than [`MAX_RECORD`], or the file ends inside one; or
/// what `each` says. The record is named, counted from 1.
pub fn read(
    reader: &mut dyn BufRead,
    each: &mut dyn FnMut(&mut Vec<u8>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut records = Records::new(reader, MAX_RECORD);
    let (mut record, mut count) = (Vec::new(), 0);
    while records.read(&mut record)? {
        count += 1;
        each(&mut record).map_err(|fault| fault.at(Place::Entry(count)))?;
    }
    Ok(())
}

impl From<RecordError> for Fault {
    fn from(error: RecordError) -> Self {
        let (record, text) = match error {
            RecordError::Io { record, error } => (record, Self::from(error).text),
            RecordError::Truncated { record } => (record, "the file ends too early".to_owned()),
            RecordError::Checksum { record } => {
                (record, "the checksum does not match: this is no TFRecord file, or it is damaged".to_owned())
            }
            RecordError::TooLong { record, bytes, limit } => {
                (record, format!("the record has {bytes} bytes (limit {limit})"))
            }
        };
        Self::new(text).at(Place::Entry(record as u64))
    }
}

/// Whether the bytes start with a length and its checksum. They stay unread.
pub(super) fn is_one(reader: &mut dyn BufRead) -> Result<bool, Fault> {
    let start = reader.fill_buf()?;
    let (length, rest) = start.split_at(start.len().min(8));
    Ok(length.len() == 8 && rest.starts_with(&tfrecord::checksum(length).to_le_bytes()))
}

/// A record as it is in a file, for tests.
pub fn framed(record: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    tfrecord::write(&mut file, record);
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(bytes: &[u8]) -> Result<Vec<Vec<u8>>, Fault> {
        let mut all = Vec::new();
        read(&mut &*bytes, &mut |record| {
            all.push(record.clone());
            Ok(())
        })
        .map(|()| all)
    }

    #[test]
    fn records_are_read_and_their_checksums_compared() {
        let file = [framed(b"one"), framed(b""), framed(&[7; 3000])].concat();
        assert_eq!(records(&file).unwrap(), [b"one".to_vec(), vec![], vec![7; 3000]]);
        for at in 0..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 1;
            assert!(records(&damaged).is_err(), "byte {at}");
        }
        let fault = records(file.split_last().unwrap().1).unwrap_err();
        assert_eq!(fault.to_string(), "record 3: the file ends too early");
    }

    #[test]
    fn a_length_is_not_believed() {
        for length in [MAX_RECORD + 1, u64::MAX] {
            let length = length.to_le_bytes();
            let file = [&length, &tfrecord::checksum(&length).to_le_bytes()[..]].concat();
            assert!(records(&file).unwrap_err().text.contains("limit 268435456"));
        }
        let length = MAX_RECORD.to_le_bytes();
        let file = [&length, &tfrecord::checksum(&length).to_le_bytes()[..]].concat();
        assert_eq!(records(&file).unwrap_err().text, "the file ends too early");
    }
}
