//! Reads the index of a checkpoint, `variables.index`, and checks its shards.
//!
//! The index is a table of LevelDB (tsl/lib/io/format.h) with a `BundleHeaderProto` under the empty
//! key and a `BundleEntryProto` under the name of each tensor (tensor_bundle.proto).
use std::io::{Read, Seek, SeekFrom};

use bytes::Bytes;

use crate::sorting;
use crate::wire::Rope;
use crate::wire::scan::{Reader, Wire};
use crate::wire::tfrecord;

/// The last 8 bytes of a table, in little-endian order.
const MAGIC: u64 = 0xdb47_7524_8b80_fb57;
const FOOTER: usize = 48;
/// After each block: one byte for its compression, four for its checksum.
const TRAILER: usize = 5;
/// Tensors of one checkpoint.
const MAX_ENTRIES: usize = 1 << 20;
/// Bytes of a name.
const MAX_NAME: usize = 64 << 10;
/// Bytes of all names together: those of a key are repeated for the key after it.
const MAX_NAMES: usize = 64 << 20;
const MAX_SHARDS: u64 = 100_000;
/// Largest index that is read, in bytes.
pub const MAX_INDEX: u64 = 64 << 20;
/// `DT_STRING`: its checksum covers more than the bytes in the shard.
const STRING: u64 = 7;
const CHUNK: usize = 256 << 10;

/// Why an index cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    #[error("is not the index of a checkpoint (its last bytes are not those of a table)")]
    NotATable,
    #[error("is damaged: {0}")]
    Damaged(&'static str),
    #[error("is compressed, which TensorFlow does not do")]
    Compressed,
    #[error("has too many tensors (limit {MAX_ENTRIES})")]
    TooMany,
}

/// What an index says.
#[derive(Debug, Default)]
pub struct Index {
    pub shards: u64,
    pub tensors: Vec<Tensor>,
}

/// Where the bytes of one tensor are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    pub name: String,
    pub shard: u64,
    pub offset: u64,
    pub size: u64,
    dtype: u64,
    /// Masked; 0 if there is none.
    crc32c: u32,
}

type Block<'a> = Vec<(Vec<u8>, &'a [u8])>;

impl Index {
    /// Reads the bytes of a `variables.index`.
    ///
    /// # Errors
    /// If they are no table, or one whose checksums do not match.
    pub fn read(bytes: &[u8]) -> Result<Self, IndexError> {
        let footer = bytes.len().checked_sub(FOOTER).and_then(|at| bytes.get(at..));
        let footer = footer.ok_or(IndexError::NotATable)?;
        let magic = footer.last_chunk().map(|magic: &[u8; 8]| u64::from_le_bytes(*magic));
        if magic != Some(MAGIC) {
            return Err(IndexError::NotATable);
        }
        let mut handles = footer;
        let damaged = || IndexError::Damaged("its footer");
        let mut number = || varint(&mut handles).ok_or_else(damaged);
        let _metaindex = (number()?, number()?);
        let (mut names, mut left) = (MAX_NAMES, MAX_ENTRIES);
        let blocks = block(bytes, number()?, number()?, &mut names, &mut left)?;
        let mut index = Self::default();
        let mut entries = MAX_ENTRIES;
        for (_, mut handle) in blocks {
            let (Some(offset), Some(size)) = (varint(&mut handle), varint(&mut handle)) else {
                return Err(IndexError::Damaged("its list of blocks"));
            };
            for (key, value) in block(bytes, offset, size, &mut names, &mut entries)? {
                index.add(key, value)?;
            }
        }
        Ok(index)
    }

    fn add(&mut self, key: Vec<u8>, value: &[u8]) -> Result<(), IndexError> {
        let rope = Rope::from(Bytes::copy_from_slice(value));
        let mut reader = Reader::new(&rope);
        let mut numbers = [0_u64; 6];
        let mut crc32c = 0;
        let damaged = |_| IndexError::Damaged("an entry");
        while let Some(field) = reader.next_field().map_err(damaged)? {
            match (field.number, field.wire) {
                (number @ 1..=5, Wire::Varint) => numbers[number as usize] = field.varint,
                (6, Wire::Fixed32) => {
                    let bytes = rope.slice(field.payload).to_bytes();
                    crc32c = bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
                }
                _ => {}
            }
        }
        if key.is_empty() {
            self.shards = numbers[1];
            return if self.shards <= MAX_SHARDS { Ok(()) } else { Err(IndexError::Damaged("its header")) };
        }
        let [_, dtype, _, shard, offset, size] = numbers;
        let name = String::from_utf8_lossy(&key).into_owned();
        self.tensors.push(Tensor { name, shard, offset, size, dtype, crc32c });
        Ok(())
    }

    /// Bytes that a shard must have at least.
    pub fn size_of(&self, shard: u64) -> u64 {
        let own = self.tensors.iter().filter(|tensor| tensor.shard == shard);
        own.map(|tensor| tensor.offset.saturating_add(tensor.size)).max().unwrap_or(0)
    }

    /// Bytes that every shard must have at least, in one pass.
    pub fn sizes(&self) -> Vec<u64> {
        let mut sizes = vec![0_u64; self.shards as usize];
        for tensor in &self.tensors {
            if let Some(size) = sizes.get_mut(tensor.shard as usize) {
                *size = (*size).max(tensor.offset.saturating_add(tensor.size));
            }
        }
        sizes
    }

    /// The tensors of a shard whose bytes do not match their checksum.
    ///
    /// # Errors
    /// If the shard cannot be read.
    pub fn damaged(&self, shard: u64, mut file: impl Read + Seek) -> std::io::Result<Vec<&str>> {
        let mut own: Vec<&Tensor> = self.tensors.iter().filter(|tensor| tensor.shard == shard).collect();
        sorting::by_key(&mut own, |tensor| tensor.offset);
        let mut damaged = Vec::new();
        let mut buffer = vec![0; CHUNK];
        let mut read = 0_u64;
        let length = file.seek(SeekFrom::End(0))?;
        for tensor in own.iter().filter(|tensor| tensor.crc32c != 0 && tensor.dtype != STRING) {
            // Tensors that overlap are not read twice without end.
            read = read.saturating_add(tensor.size);
            if read > length {
                damaged.push(tensor.name.as_str());
                continue;
            }
            file.seek(SeekFrom::Start(tensor.offset))?;
            let (mut left, mut crc) = (tensor.size, 0);
            while left > 0 {
                let part = buffer.get_mut(..left.min(CHUNK as u64) as usize).unwrap_or_default();
                file.read_exact(part)?;
                crc = crc32c::crc32c_append(crc, part);
                left -= part.len() as u64;
            }
            if tfrecord::mask(crc) != tensor.crc32c {
                damaged.push(tensor.name.as_str());
            }
        }
        Ok(damaged)
    }
}

/// The entries of a block: keys share their beginning with the key before.
fn block<'a>(
    bytes: &'a [u8],
    offset: u64,
    size: u64,
    names: &mut usize,
    left: &mut usize,
) -> Result<Block<'a>, IndexError> {
    let damaged = || IndexError::Damaged("a block ends too early");
    let start = usize::try_from(offset).map_err(|_| damaged())?;
    let end = usize::try_from(size).ok().and_then(|size| start.checked_add(size)).ok_or_else(damaged)?;
    let stored = bytes.get(start..end.checked_add(1).ok_or_else(damaged)?).ok_or_else(damaged)?;
    let trailer = bytes.get(end..end.checked_add(TRAILER).ok_or_else(damaged)?).ok_or_else(damaged)?;
    let crc = trailer.last_chunk().map(|crc: &[u8; 4]| u32::from_le_bytes(*crc));
    if crc != Some(tfrecord::mask(crc32c::crc32c(stored))) {
        return Err(IndexError::Damaged("a checksum does not match"));
    }
    if trailer.first() != Some(&0) {
        return Err(IndexError::Compressed);
    }
    let content = bytes.get(start..end).ok_or_else(damaged)?;
    let restarts = content.last_chunk().map(|count: &[u8; 4]| u32::from_le_bytes(*count) as usize);
    let tail = restarts.and_then(|count| count.checked_mul(4)?.checked_add(4)).ok_or_else(damaged)?;
    let mut rest = content.len().checked_sub(tail).and_then(|at| content.get(..at)).ok_or_else(damaged)?;
    let mut entries = Vec::new();
    let mut key: Vec<u8> = Vec::new();
    while !rest.is_empty() {
        let mut number =
            || varint(&mut rest).and_then(|number| usize::try_from(number).ok()).ok_or_else(damaged);
        let (shared, own, length) = (number()?, number()?, number()?);
        if shared > key.len() || own > MAX_NAME || shared + own > MAX_NAME {
            return Err(IndexError::Damaged("a name"));
        }
        *names = names.checked_sub(shared + own).ok_or(IndexError::TooMany)?;
        *left = left.checked_sub(1).ok_or(IndexError::TooMany)?;
        key.truncate(shared);
        key.extend(rest.get(..own).ok_or_else(damaged)?);
        let value_end = own.checked_add(length).ok_or_else(damaged)?;
        entries.push((key.clone(), rest.get(own..value_end).ok_or_else(damaged)?));
        rest = rest.get(value_end..).unwrap_or_default();
    }
    Ok(entries)
}

fn varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn fixture(name: &str) -> Vec<u8> {
        let path = format!("{}/tests/fixtures/saved_models/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(path).unwrap()
    }

    #[test]
    fn the_index_of_a_real_export_is_read_and_its_shard_verified() {
        for model in ["tf2.4/module", "tf2.4/keras", "tf2.16/keras", "tf2.21/module", "tf2.15/v1"] {
            let index = Index::read(&fixture(&format!("{model}/variables/variables.index"))).unwrap();
            let shard = fixture(&format!("{model}/variables/variables.data-00000-of-00001"));
            assert_eq!((index.shards, index.size_of(0)), (1, shard.len() as u64), "{model}");
            assert_eq!(index.sizes(), [shard.len() as u64]);
            assert!(!index.tensors.is_empty(), "{model}");
            assert_eq!(index.damaged(0, Cursor::new(&shard)).unwrap(), [""; 0], "{model}");
            let mut changed = shard.clone();
            let tensor = index.tensors.iter().find(|tensor| tensor.dtype != STRING).unwrap();
            changed[tensor.offset as usize] ^= 1;
            assert_eq!(index.damaged(0, Cursor::new(&changed)).unwrap(), [&tensor.name], "{model}");
            assert!(
                index.damaged(0, Cursor::new(&shard[..3])).is_err()
                    || !index.damaged(0, Cursor::new(&shard[..3])).unwrap().is_empty()
            );
        }
    }

    #[test]
    fn no_bytes_panic_and_every_change_is_noticed() {
        let good = fixture("tf2.4/module/variables/variables.index");
        for cut in 0..good.len() {
            assert!(Index::read(&good[..cut]).is_err(), "{cut}");
        }
        let known = format!("{:?}", Index::read(&good).unwrap());
        for at in 0..good.len() {
            for change in [1, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[at] ^= change;
                if let Ok(index) = Index::read(&bytes) {
                    assert_eq!(format!("{index:?}"), known, "only in the padding: {at}");
                }
            }
        }
        assert_eq!(Index::read(b"").unwrap_err(), IndexError::NotATable);
    }
}
