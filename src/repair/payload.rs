//! What the bytes of a tensor look like, for hints: a file, text, or numbers of another width.
use super::descriptor::Encoding;
use crate::tensor::{Class, DataType, DtypeInfo, ValueList};
use crate::wire::TensorView;
use crate::wire::rope::Rope;
use crate::wire::values::{self, Carrier};

/// Bytes that are looked at.
const HEAD: usize = 64;

/// Offset, first bytes, name, what to do.
const FILES: &[(usize, &[u8], &str, &str)] = &[
    (0, b"\x89PNG\r\n\x1a\n", "a PNG file", DECODE),
    (0, b"\xff\xd8\xff", "a JPEG file", DECODE),
    (0, b"GIF8", "a GIF file", DECODE),
    (8, b"WEBP", "a WebP file", DECODE),
    (0, b"II*\0", "a TIFF file", DECODE),
    (0, b"MM\0*", "a TIFF file", DECODE),
    (8, b"WAVE", "a WAV file", DECODE),
    (0, b"\x93NUMPY", "a .npy file", "send the array's bytes without the header"),
    (0, b"PK\x03\x04", "a ZIP or .npz file", "send the values of one array"),
    (0, b"\x1f\x8b\x08", "gzip data", "decompress it"),
];
const DECODE: &str = "decode it";

/// `a PNG file` and what to do with it, if the bytes are one. Integers in a list count as bytes.
pub(super) fn file(
    message: &Rope,
    tensor: &TensorView,
    encoding: Encoding,
) -> Option<(&'static str, &'static str)> {
    let head = head(message, tensor, encoding);
    let (.., name, advice) =
        FILES.iter().find(|(at, first, ..)| head.get(*at..).is_some_and(|bytes| bytes.starts_with(first)))?;
    Some((name, advice))
}

/// The hint for a typed list of the wrong length.
pub(super) fn list(message: &Rope, tensor: &TensorView, list: ValueList) -> Option<String> {
    let (name, advice) = file(message, tensor, Encoding::List(list))?;
    Some(format!("these bytes are {name}: {advice}"))
}

/// The hint for `tensor_content` of the wrong length.
pub(super) fn content(
    message: &Rope,
    tensor: &TensorView,
    dtype: &DtypeInfo,
    elements: u64,
    length: u64,
) -> Option<String> {
    let size = dtype.size? as u64;
    let each = Some(length).filter(|length| elements > 0 && length.is_multiple_of(elements));
    let each = each.map(|length| length / elements);
    let head = || head(message, tensor, Encoding::Content);
    let only = |set: fn(u8) -> bool| head().iter().all(|byte| set(*byte));
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_=".contains(&byte);
    let number = |byte: u8| byte.is_ascii_digit() || b"+-.,eE[] \r\n\t".contains(&byte);
    let file = file(message, tensor, Encoding::Content);
    let file = file.map(|(name, advice)| format!("these bytes are {name}: {advice}"));
    file.or_else(|| match (dtype.dtype, each) {
        _ if length == (elements * size).div_ceil(3) * 4 && only(base64) => {
            Some("these bytes are base64 text: decode it".to_owned())
        }
        (DataType::FLOAT, Some(8)) => {
            Some("looks like float64 data labelled float: send dtype double, or cast to float32".to_owned())
        }
        (DataType::DOUBLE, Some(4)) => {
            Some("looks like float32 data labelled double: send dtype float".to_owned())
        }
        (_, Some(1)) => Some(format!("{length} bytes for {elements} values: one byte each, expected {size}")),
        (_, Some(each)) if let Some(other) = other_width(dtype, each) => {
            Some(format!("looks like {other} data labelled {}: send dtype {other}", dtype.name))
        }
        _ if length > size && only(number) => {
            Some(format!("these bytes are text: send each number as {size} bytes"))
        }
        _ if length > 0 && length.is_multiple_of(size) => Some(format!("that is {} values", length / size)),
        _ => None,
    })
}

/// The dtype of the same kind with elements of this size.
fn other_width(dtype: &DtypeInfo, size: u64) -> Option<&'static str> {
    let name = match (dtype.class, size) {
        (Class::Float, 2) => "half",
        (Class::Float, 4) => "float",
        (Class::Float, 8) => "double",
        (Class::Signed, 2) => "int16",
        (Class::Signed, 4) => "int32",
        (Class::Signed, 8) => "int64",
        (Class::Unsigned, 2) => "uint16",
        (Class::Unsigned, 4) => "uint32",
        (Class::Unsigned, 8) => "uint64",
        _ => return None,
    };
    Some(name)
}

/// The first bytes.
fn head(message: &Rope, tensor: &TensorView, encoding: Encoding) -> Vec<u8> {
    match encoding {
        Encoding::Nothing => Vec::new(),
        Encoding::Content => {
            let Some(content) = tensor.content.clone() else { return Vec::new() };
            message.chunks(content).flatten().copied().take(HEAD).collect()
        }
        Encoding::List(list) => {
            let mut head = Vec::new();
            if !matches!(list, ValueList::Int | ValueList::Int64 | ValueList::Uint32 | ValueList::Uint64) {
                return head;
            }
            // It ends at the first number that is no byte.
            let read = values::read(message, tensor, Carrier::List(list), &mut |block| {
                for value in block.chunks_exact(values::width(list)) {
                    match value {
                        [byte, rest @ ..] if head.len() < HEAD && rest.iter().all(|byte| *byte == 0) => {
                            head.push(*byte);
                        }
                        _ => return Err(()),
                    }
                }
                Ok(())
            });
            // Values that cannot be read are the problem of the check.
            drop(read);
            head
        }
    }
}
