//! Reads the records of a TFRecord file: `record_writer.h` of TensorFlow describes the format.
use std::io::{BufRead, Read as _};

use super::Fault;
use super::fault::Place;

/// Bytes of a record. TF Serving's own requests are smaller.
pub const MAX_RECORD: u64 = 256 << 20;
/// `kMaskDelta` in `crc32c.h`.
const MASK_DELTA: u32 = 0xa282_ead8;

/// Passes each record to `each`, in a buffer that is used again.
///
/// # Errors
/// If a checksum is wrong, a record is longer than [`MAX_RECORD`], or the file ends inside one; or
/// what `each` says. The record is named, counted from 1.
pub fn read(
    reader: &mut dyn BufRead,
    each: &mut dyn FnMut(&mut Vec<u8>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let (mut record, mut count) = (Vec::new(), 0);
    loop {
        count += 1;
        let at = |fault: Fault| fault.at(Place::Entry(count));
        if reader.fill_buf().map_err(|error| at(error.into()))?.is_empty() {
            return Ok(());
        }
        one(reader, &mut record).map_err(at)?;
        each(&mut record).map_err(at)?;
    }
}

/// Whether the bytes start with a length and its checksum. They stay unread.
pub(super) fn is_one(reader: &mut dyn BufRead) -> Result<bool, Fault> {
    let start = reader.fill_buf()?;
    let (length, rest) = start.split_at(start.len().min(8));
    Ok(length.len() == 8 && rest.starts_with(&masked(length).to_le_bytes()))
}

/// `uint64 length`, its checksum, the bytes, their checksum; all little-endian.
fn one(reader: &mut dyn BufRead, record: &mut Vec<u8>) -> Result<(), Fault> {
    let mut length = [0; 8];
    reader.read_exact(&mut length)?;
    if checksum(reader)? != masked(&length) {
        return Err(Fault::new("the checksum of the length is wrong (no TFRecord file, or a damaged one)"));
    }
    let length = u64::from_le_bytes(length);
    if length > MAX_RECORD {
        return Err(Fault::new(format!("the record has {length} bytes (limit {MAX_RECORD})")));
    }
    record.clear();
    // Grows with what is there, not with what the length claims.
    if reader.take(length).read_to_end(record)? as u64 != length {
        return Err(Fault::new("the file ends too early"));
    }
    if checksum(reader)? != masked(record) {
        return Err(Fault::new("the checksum of the record is wrong (the file is damaged)"));
    }
    Ok(())
}

fn checksum(reader: &mut dyn BufRead) -> Result<u32, Fault> {
    let mut bytes = [0; 4];
    reader.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

/// `Mask` in `crc32c.h`: the checksum of bytes that contain checksums would be weak.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(MASK_DELTA)
}

/// A record as it is in a file, for tests.
pub fn framed(record: &[u8]) -> Vec<u8> {
    let length = (record.len() as u64).to_le_bytes();
    let (of_length, of_record) = (masked(&length).to_le_bytes(), masked(record).to_le_bytes());
    [&length, &of_length[..], record, &of_record].concat()
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
            let file = [&length, &masked(&length).to_le_bytes()[..]].concat();
            assert!(records(&file).unwrap_err().text.contains("limit 268435456"));
        }
        let length = MAX_RECORD.to_le_bytes();
        let file = [&length, &masked(&length).to_le_bytes()[..]].concat();
        assert_eq!(records(&file).unwrap_err().text, "the file ends too early");
    }
}
