//! Tensors with values in more than one field. TensorFlow reads one and ignores the others, so they
//! must hold the same values: a message that is built anew in place keeps the fields of the last
//! call.
use super::cast_chain::CastChain;
use super::descriptor::{Descriptor, Encoding};
use super::encoding::list_elements;
use super::problem::Problem;
use super::reason::Reason;
use crate::tensor::{DtypeInfo, Exactness, ValueList};
use crate::wire::TensorView;
use crate::wire::rope::Rope;

/// The problem of a tensor whose other fields do not hold the values that TensorFlow reads: those
/// in `tensor_content`, or otherwise those in the dtype's own list.
pub(super) fn conflict(
    message: &Rope,
    tensor: &TensorView,
    dtype: &DtypeInfo,
    elements: u64,
) -> Option<Problem> {
    if !tensor.has_lists() {
        return None;
    }
    let lists = tensor.lists();
    let read = if tensor.content.is_some() { Encoding::Content } else { Encoding::List(dtype.list) };
    let ignored = || lists.iter().map(|(list, _)| Encoding::List(*list)).filter(|other| *other != read);
    ignored().next()?;
    if let Some(values) = values(message, tensor, dtype, elements, read)
        && ignored().all(|other| {
            self::values(message, tensor, dtype, elements, other)
                .is_some_and(|ignored| agree(&values, &ignored, dtype))
        })
    {
        return None;
    }
    let others: Vec<String> = ignored().map(|other| count(tensor, other)).collect();
    let what =
        format!("{} and {}, but TensorFlow reads only {read}", count(tensor, read), others.join(" and "));
    let hint = "put the values into one field: a reused message still has those of the last call";
    Some(Problem::new(Reason::ValueField, "", what).hint(hint))
}

/// `3 value(s) in float_val`, `12 bytes in tensor_content`.
pub(super) fn count(tensor: &TensorView, encoding: Encoding) -> String {
    match encoding {
        Encoding::List(list) => format!("{} value(s) in {}", list_elements(tensor, list), list.name()),
        Encoding::Content | Encoding::Nothing => {
            format!("{} bytes in tensor_content", tensor.content.as_ref().map_or(0, std::ops::Range::len))
        }
    }
}

/// The elements in one field, in the encoding of the dtype. `None` if they are not as many as the
/// shape says, or not values of the dtype.
fn values(
    message: &Rope,
    tensor: &TensorView,
    dtype: &DtypeInfo,
    elements: u64,
    encoding: Encoding,
) -> Option<Vec<u8>> {
    let list = match encoding {
        Encoding::List(list) if list == dtype.list && list != ValueList::String => list,
        Encoding::List(list) if list.native().is_some() => list,
        // Strings are not compared, nor are bits of another dtype.
        Encoding::List(_) | Encoding::Nothing => return None,
        Encoding::Content => {
            dtype.size?;
            return Some(message.slice(tensor.content.clone()?).to_bytes().to_vec());
        }
    };
    let values = list_elements(tensor, list);
    if values != elements && values != 1 {
        return None;
    }
    let sent =
        Descriptor { key: String::new(), dtype: dtype.dtype, shape: tensor.shape.clone(), encoding, values };
    let chain = CastChain::new(&sent).then(&sent, dtype.dtype, Exactness::Round)?;
    chain.check(message, tensor).ok()?;
    chain.convert(message, tensor, values).ok()
}

/// Whether the elements are the same; a single one stands for all.
fn agree(left: &[u8], right: &[u8], dtype: &DtypeInfo) -> bool {
    let (short, long) = if left.len() <= right.len() { (left, right) } else { (right, left) };
    let fills = || dtype.size == Some(short.len()) && long.chunks_exact(short.len()).all(|one| one == short);
    short == long || fills()
}
