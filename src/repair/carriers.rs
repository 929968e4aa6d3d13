//! Tensors with values in more than one field. TensorFlow reads one and ignores the others, so they
//! must hold the same values: a message that is built anew in place keeps the fields of the last
//! call.
use std::ops::Range;

use super::cast_chain::CastChain;
use super::descriptor::{Descriptor, Encoding};
use super::encoding::list_elements;
use super::problem::Problem;
use super::reason::Reason;
use crate::tensor::{DtypeInfo, Exactness, ValueList};
use crate::wire::TensorView;
use crate::wire::rope::Rope;
use crate::wire::rows::Values;

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
    let field = |encoding| Elements::new(message, tensor, dtype, elements, encoding);
    if ignored().all(|other| agree(field(read), field(other)).is_some()) {
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

/// Elements that are compared at a time, so that comparing takes little memory.
const WINDOW: u64 = 32 * 1024;

/// The elements of one field, in the encoding of the dtype, some at a time.
struct Elements<'a> {
    /// Number of elements in the field.
    count: u64,
    source: Source<'a>,
}

#[expect(clippy::large_enum_variant, reason = "short-lived, and only two of them")]
enum Source<'a> {
    Content {
        message: &'a Rope,
        left: Range<usize>,
        size: usize,
    },
    List {
        values: Values<'a>,
        chain: CastChain,
        per_element: u64,
    },
    /// One that stands for all.
    Single(Vec<u8>),
}

impl<'a> Elements<'a> {
    /// `None` if they are not as many as the shape says, or not comparable.
    fn new(
        message: &'a Rope,
        tensor: &'a TensorView,
        dtype: &DtypeInfo,
        elements: u64,
        encoding: Encoding,
    ) -> Option<Self> {
        let list = match encoding {
            Encoding::List(list) if list == dtype.list && list != ValueList::String => list,
            Encoding::List(list) if list.native().is_some() => list,
            // Strings are not compared, nor are bits of another dtype.
            Encoding::List(_) | Encoding::Nothing => return None,
            Encoding::Content => {
                let source = Source::Content { message, left: tensor.content.clone()?, size: dtype.size? };
                return Some(Self { count: elements, source });
            }
        };
        let count = list_elements(tensor, list);
        if count != elements && count != 1 {
            return None;
        }
        let (key, shape) = (String::new(), tensor.shape.clone());
        let sent = Descriptor { key, dtype: dtype.dtype, shape, encoding, values: count };
        let chain = CastChain::new(&sent).then(&sent, dtype.dtype, Exactness::Round)?;
        let per_element = if matches!(list, ValueList::SComplex | ValueList::DComplex) { 2 } else { 1 };
        let mut found = Self {
            count,
            source: Source::List { values: Values::new(message, tensor, list), chain, per_element },
        };
        if count == 1 {
            found.source = Source::Single(found.next(1)?);
        }
        Some(found)
    }

    /// The next elements. `None` if they cannot be read, or not as values of the dtype.
    fn next(&mut self, count: u64) -> Option<Vec<u8>> {
        match &mut self.source {
            Source::Content { message, left, size } => {
                let start = left.start;
                left.start = left.end.min(start + usize::try_from(count).ok()? * *size);
                Some(message.chunks(start..left.start).collect::<Vec<_>>().concat())
            }
            Source::List { values, chain, per_element } => {
                let fields = values.take(count * *per_element).ok()?;
                let tensor = TensorView::of(&fields).ok()?;
                chain.check(&fields, &tensor).ok()?;
                chain.convert(&fields, &tensor, count).ok()
            }
            Source::Single(value) => Some(value.repeat(usize::try_from(count).ok()?)),
        }
    }
}

/// Whether two fields have the same elements.
fn agree(left: Option<Elements<'_>>, right: Option<Elements<'_>>) -> Option<()> {
    let (mut left, mut right) = (left?, right?);
    let mut rest = left.count.max(right.count);
    while rest > 0 {
        let count = rest.min(WINDOW);
        if left.next(count)? != right.next(count)? {
            return None;
        }
        rest -= count;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{DataType, Shape};
    use crate::wire::emit;

    /// The problem of a tensor of int32 with these fields.
    fn problem(elements: i64, fields: &[Rope]) -> Option<Problem> {
        let mut message = Rope::new();
        fields.iter().cloned().for_each(|field| message.append(field));
        let mut tensor = TensorView::of(&message).unwrap();
        (tensor.dtype, tensor.shape) = (DataType::INT32, Shape::from([elements]));
        conflict(&message, &tensor, DataType::INT32.info().unwrap(), elements as u64)
    }

    #[test]
    fn fields_of_many_elements_are_compared_to_their_end() {
        let count = 2 * WINDOW as usize + 100;
        let values = |last: i32| -> Vec<u8> {
            (0..count as i32 - 1).chain([last]).flat_map(i32::to_le_bytes).collect()
        };
        let content = |last| emit::content(Rope::from(values(last)));
        let own = |last| emit::packed(ValueList::Int, DataType::INT32, &values(last));
        let wide = |last: i32| {
            let wide: Vec<u8> =
                (0..count as i64 - 1).chain([i64::from(last)]).flat_map(i64::to_le_bytes).collect();
            emit::packed(ValueList::Int64, DataType::INT64, &wide)
        };
        let count = count as i64;
        for (fields, agree) in [
            ([content(7), own(7)], true),
            ([content(7), own(8)], false),
            ([own(-7), wide(-7)], true),
            ([own(7), wide(8)], false),
        ] {
            assert_eq!(problem(count, &fields).is_none(), agree, "{:?}", problem(count, &fields));
        }
    }

    #[test]
    fn a_single_value_stands_for_all() {
        let seven = emit::packed(ValueList::Int, DataType::INT32, &7_i32.to_le_bytes());
        let content = |value: i32| emit::content(Rope::from(value.to_le_bytes().repeat(5)));
        assert_eq!(problem(5, &[content(7), seven.clone()]), None);
        assert!(problem(5, &[content(6), seven]).is_some());
    }
}
