//! Reads arrays that NumPy has saved (`.npy`), in a block at a time.
use std::io::Read;

use super::collect::{Collector, Side};
use super::fault::Fault;
use crate::tensor::{Cast, DataType, Exactness};

/// NumPy itself refuses longer headers (`max_header_size`).
const MAX_HEADER: usize = 10_000;
/// Axes of an array: `NPY_MAXDIMS`, since NumPy 2.
const MAX_RANK: usize = 64;
/// Bytes of one string. NumPy pads all to the longest.
const MAX_ITEM: usize = 1 << 20;
/// Bytes that are read at once, at least one element.
const BLOCK: usize = 1 << 16;

/// The header of an array.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    kind: Kind,
    /// Bytes of an element.
    size: usize,
    big_endian: bool,
    fortran: bool,
    shape: Vec<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number(DataType),
    /// Bytes, padded with zeros.
    Bytes,
    /// UTF-32, padded with zeros.
    Unicode,
}

/// Reads an array as the input of this name.
///
/// # Errors
/// If the bytes are not an array of numbers, booleans or strings, or end early.
pub(super) fn read(
    reader: &mut (impl Read + ?Sized),
    name: &str,
    collector: &mut Collector,
) -> Result<(), Fault> {
    let header = header(reader)?;
    let elements = header.shape.iter().try_fold(1_u64, |all, size| all.checked_mul(*size));
    let elements = elements
        .filter(|elements| elements.checked_mul(header.size as u64).is_some())
        .ok_or_else(|| Fault::new("the shape is too large"))?;
    let dtype = if let Kind::Number(dtype) = header.kind { dtype } else { DataType::STRING };
    let tensor = collector.tensor(Side::Input, name, dtype, &header.shape)?;
    tensor.add_rows(header.shape.first().copied().unwrap_or(1));
    let cast = Cast::new(dtype, DataType::DOUBLE, Exactness::Round);
    // In Fortran order, the last axis is the slowest.
    let last_axis = header.shape.last().copied().unwrap_or(1).max(1);
    let run =
        if header.fortran && header.shape.len() > 1 { Some((elements / last_axis).max(1)) } else { None };
    let item = header.size;
    let mut block = vec![0; (BLOCK / item).max(1) * item];
    let (mut doubles, mut numbers, mut at) = (Vec::new(), Vec::new(), 0);
    while at < elements {
        let left = (elements - at).saturating_mul(item as u64);
        let length = left.min(block.len() as u64) as usize;
        let Some(bytes) = block.get_mut(..length) else { break };
        reader.read_exact(bytes).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                Fault::new(format!("the file ends before all {elements} elements of its shape"))
            }
            _ => error.into(),
        })?;
        if header.big_endian {
            let unit = if header.kind == Kind::Unicode { 4 } else { item };
            bytes.chunks_exact_mut(unit).for_each(<[u8]>::reverse);
        }
        if let (Kind::Number(_), Some(cast)) = (header.kind, &cast) {
            doubles.clear();
            cast.convert(bytes, &mut doubles);
            numbers.clear();
            numbers.extend(doubles.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)));
            match run {
                None => tensor.add(at, &numbers),
                Some(run) => {
                    let mut rest = numbers.as_slice();
                    let mut at = at;
                    while !rest.is_empty() {
                        let take = (run - at % run).min(rest.len() as u64);
                        let (own, others) = rest.split_at(take as usize);
                        tensor.add_to((at / run) as usize, own);
                        rest = others;
                        at += take;
                    }
                }
            }
        } else {
            bytes.chunks_exact(item).for_each(|item| match header.kind {
                Kind::Unicode => tensor.add_text(utf32(item).as_bytes()),
                _ => tensor.add_text(item.trim_ascii_end_zeros()),
            });
        }
        at += (length / item) as u64;
    }
    Ok(())
}

trait TrimZeros {
    fn trim_ascii_end_zeros(&self) -> &[u8];
}

impl TrimZeros for [u8] {
    /// Without the zeros that NumPy pads with.
    fn trim_ascii_end_zeros(&self) -> &[u8] {
        let end = self.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        self.get(..end).unwrap_or_default()
    }
}

fn utf32(item: &[u8]) -> String {
    let units = item.as_chunks::<4>().0.iter().map(|unit| u32::from_le_bytes(*unit));
    let text: String =
        units.map(|unit| char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    text.trim_end_matches('\0').to_owned()
}

fn header(reader: &mut (impl Read + ?Sized)) -> Result<Header, Fault> {
    let mut start = [0; 8];
    reader.read_exact(&mut start)?;
    let [b'\x93', b'N', b'U', b'M', b'P', b'Y', version, _] = start else {
        return Err(Fault::new("this is no NumPy array (`.npy`)"));
    };
    let length = if version == 1 {
        let mut length = [0; 2];
        reader.read_exact(&mut length)?;
        u32::from(u16::from_le_bytes(length))
    } else {
        let mut length = [0; 4];
        reader.read_exact(&mut length)?;
        u32::from_le_bytes(length)
    };
    let length = usize::try_from(length).ok().filter(|length| *length <= MAX_HEADER);
    let mut text =
        vec![0; length.ok_or_else(|| Fault::new(format!("the header is too long (limit {MAX_HEADER})")))?];
    reader.read_exact(&mut text)?;
    parse(&String::from_utf8_lossy(&text))
}

/// A Python dictionary: `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`.
fn parse(text: &str) -> Result<Header, Fault> {
    let wrong = || Fault::new(format!("the header cannot be read: `{}`", text.trim_end().escape_default()));
    let value = |key: &str| {
        let (_, after) = text.split_once(&format!("'{key}'")).ok_or_else(wrong)?;
        after.trim_start().strip_prefix(':').map(str::trim_start).ok_or_else(wrong)
    };
    let descr = value("descr")?;
    if descr.starts_with('[') {
        return Err(Fault::new("arrays with named fields are not read (save each field as an array)"));
    }
    let descr = descr.strip_prefix('\'').and_then(|rest| rest.split('\'').next()).ok_or_else(wrong)?;
    let fortran = value("fortran_order")?.starts_with("True");
    let shape = value("shape")?.strip_prefix('(').and_then(|rest| rest.split_once(')')).ok_or_else(wrong)?.0;
    let sizes = shape.split(',').map(str::trim).filter(|size| !size.is_empty());
    let shape: Vec<u64> = sizes.map(str::parse).collect::<Result<_, _>>().map_err(|_| wrong())?;
    if shape.len() > MAX_RANK {
        return Err(wrong());
    }
    let mut chars = descr.chars();
    let big_endian = chars.next() == Some('>');
    let (kind, size) = (chars.next(), chars.as_str());
    let size: usize = size.parse().map_err(|_| unreadable(descr))?;
    let dtype = match (kind, size) {
        (Some('f'), 2) => DataType::HALF,
        (Some('f'), 4) => DataType::FLOAT,
        (Some('f'), 8) => DataType::DOUBLE,
        (Some('i'), 1) => DataType::INT8,
        (Some('i'), 2) => DataType::INT16,
        (Some('i'), 4) => DataType::INT32,
        (Some('i'), 8) => DataType::INT64,
        (Some('u'), 1) => DataType::UINT8,
        (Some('u'), 2) => DataType::UINT16,
        (Some('u'), 4) => DataType::UINT32,
        (Some('u'), 8) => DataType::UINT64,
        (Some('b'), 1) => DataType::BOOL,
        (Some('S'), size) if (1..=MAX_ITEM).contains(&size) => {
            return Ok(Header { kind: Kind::Bytes, size, big_endian: false, fortran, shape });
        }
        (Some('U'), length) if (1..=MAX_ITEM / 4).contains(&length) => {
            return Ok(Header { kind: Kind::Unicode, size: 4 * length, big_endian, fortran, shape });
        }
        _ => return Err(unreadable(descr)),
    };
    Ok(Header { kind: Kind::Number(dtype), size, big_endian, fortran, shape })
}

fn unreadable(descr: &str) -> Fault {
    let hint = if descr.contains('O') { " (save strings with dtype `str`, not `object`)" } else { "" };
    Fault::new(format!("arrays of dtype `{}` are not read{hint}", descr.escape_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header_of(text: &str) -> Result<Header, Fault> {
        parse(text)
    }

    #[test]
    fn headers_are_read_as_numpy_writes_them() {
        let found = header_of("{'descr': '>i8', 'fortran_order': True, 'shape': (10, 3), }   \n").unwrap();
        let kind = Kind::Number(DataType::INT64);
        assert_eq!(found, Header { kind, size: 8, big_endian: true, fortran: true, shape: vec![10, 3] });
        let found = header_of("{'descr': '<U5', 'fortran_order': False, 'shape': (7,), }").unwrap();
        assert_eq!((found.kind, found.size, found.shape), (Kind::Unicode, 20, vec![7]));
        assert!(
            header_of("{'descr': '|b1', 'fortran_order': False, 'shape': (), }").unwrap().shape.is_empty()
        );
    }

    #[test]
    fn other_arrays_are_refused_with_a_reason() {
        for (header, expected) in [
            ("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", "save strings with dtype `str`"),
            ("{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }", "dtype `<c8` are not read"),
            ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", "named fields"),
            ("{'descr': '<f4'}", "the header cannot be read"),
            ("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", "the header cannot be read"),
            ("{'descr': '|S0', 'fortran_order': False, 'shape': (9,), }", "are not read"),
            ("{'descr': '|S9999999', 'fortran_order': False, 'shape': (1,), }", "are not read"),
        ] {
            let fault = header_of(header).unwrap_err();
            assert!(fault.text.contains(expected), "{header}: {fault}");
        }
        let huge = "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }";
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((huge.len() as u16).to_le_bytes());
        bytes.extend(huge.as_bytes());
        let fault = read(&mut bytes.as_slice(), "x", &mut Collector::default()).unwrap_err();
        assert_eq!(fault.text, "the shape is too large");
    }
}
