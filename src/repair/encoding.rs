//! Whether a tensor has as many values as its shape and dtype say. TensorFlow silently replaces
//! missing values with zeros and drops surplus ones, so this is checked before anything is
//! forwarded.
//!
//! The rules are those of `Tensor::FromProto` (tensorflow/core/framework/tensor.cc), confirmed by
//! experiment: `tensor_content` must have exactly elements × size bytes and takes precedence over
//! any list; a list of one value fills the tensor; the last value of a shorter list is repeated.
use super::descriptor::{Descriptor, Encoding};
use super::policy::{Limits, Policy, ShortLists};
use super::problem::{Problem, Weight};
use super::reason::Reason;
use crate::tensor::{Class, DataType, DtypeInfo, Shape, ValueList};
use crate::wire::rope::Rope;
use crate::wire::scan::Reader;
use crate::wire::tensor::MAX_RANK;
use crate::wire::{InputView, TensorView};

/// More bytes than any machine can address: a shape that needs them is not large, it is malformed.
const ABSURD_BYTES: u64 = 1 << 47;
/// Maximum size of a tensor that repeats its last value: a message of a few bytes could otherwise
/// make the server allocate any amount.
const MAX_FILL_BYTES: u64 = 256 << 20;

/// The result of the check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Encoded {
    /// The values match the shape. Planning continues with the descriptor.
    Sound(Descriptor),
    /// They do not. Dtype and shape of the descriptor are still checked, but its values cannot be
    /// read.
    Faulty(Descriptor, Problem),
}

/// Checks one input as it was sent. `input` is its name in error messages.
pub(super) fn check(
    message: &Rope,
    sent: &InputView,
    input: &str,
    policy: &Policy,
    limits: Limits,
) -> Encoded {
    let tensor = &sent.tensor;
    let mut descriptor = Descriptor {
        key: sent.key.clone(),
        dtype: tensor.dtype,
        shape: tensor.shape.clone(),
        encoding: Encoding::Nothing,
        values: 0,
    };
    let problem = |reason, what: String| Problem::new(reason, input, what);
    let Some(dtype) = tensor.dtype.info() else {
        let what = format!("dtype {}, which no tensor can have", tensor.dtype);
        return Encoded::Faulty(descriptor, problem(Reason::DtypeMismatch, what));
    };
    if tensor.unknown_rank {
        let what = "the shape was sent with unknown_rank, expected its sizes".to_owned();
        return Encoded::Faulty(descriptor, problem(Reason::ShapeNotConcrete, what));
    }
    if tensor.shape.rank() > MAX_RANK {
        let what = format!("a shape of more than {MAX_RANK} dimensions");
        return Encoded::Faulty(descriptor, problem(Reason::RankTooHigh, what));
    }
    if !tensor.shape.is_concrete() {
        let what = format!("shape {}, expected a size of at least 0 for every dimension", tensor.shape);
        return Encoded::Faulty(
            descriptor,
            problem(Reason::ShapeNotConcrete, what).hint("send the real sizes"),
        );
    }
    let size = dtype.size.unwrap_or(1) as u64;
    let Some(elements) = tensor
        .shape
        .elements()
        .ok()
        .filter(|all| all.checked_mul(size).is_some_and(|all| all < ABSURD_BYTES))
    else {
        let what = format!("shape {} has more elements than any tensor", tensor.shape);
        return Encoded::Faulty(descriptor, problem(Reason::Malformed, what));
    };
    if matches!(dtype.class, Class::Handle) {
        // Never checked, never changed: clients have no use for these dtypes, and the server
        // refuses them itself.
        return Encoded::Sound(descriptor);
    }
    // Checked before the values: the server allocates memory for the shape, however few values
    // there are.
    if let Some(problem) = too_large(&tensor.shape, input, limits) {
        return Encoded::Faulty(descriptor, problem);
    }
    if let Err(problem) = encoding(message, tensor, dtype, elements, policy, &mut descriptor) {
        return Encoded::Faulty(descriptor, Problem { input: input.to_owned(), ..problem });
    }
    if descriptor.values < elements && elements * size > MAX_FILL_BYTES {
        let what = format!(
            "{} value(s) for the {elements} elements of {}: {} MiB",
            descriptor.values,
            tensor.shape,
            (elements * size) >> 20
        );
        return Encoded::Faulty(descriptor, problem(Reason::TooLarge, what).weight(Weight::Shield));
    }
    Encoded::Sound(descriptor)
}

/// The problem of a shape that has more elements than the operator allows.
pub(super) fn too_large(shape: &Shape, input: &str, limits: Limits) -> Option<Problem> {
    let elements = shape.elements().ok().filter(|elements| *elements > limits.max_elements)?;
    let what = format!("{elements} elements in {shape}, at most {} are allowed", limits.max_elements);
    Some(Problem::new(Reason::TooLarge, input, what).weight(Weight::Shield))
}

fn encoding(
    message: &Rope,
    tensor: &TensorView,
    dtype: &DtypeInfo,
    elements: u64,
    policy: &Policy,
    descriptor: &mut Descriptor,
) -> Result<(), Problem> {
    if let Some(content) = &tensor.content {
        descriptor.encoding = Encoding::Content;
        return match dtype.size {
            Some(size) => content_size(tensor, dtype, elements, content.len() as u64, size as u64)
                .map(|()| descriptor.values = elements),
            None => string_content(message, tensor, elements).map(|()| descriptor.values = elements),
        };
    }
    let own = dtype.list;
    let values = list_elements(tensor, own);
    let foreign = tensor.lists().into_iter().find(|(list, _)| *list != own);
    if let Some((list, count)) = foreign {
        let what = format!(
            "{count} value(s) in {}, but TensorFlow reads {} for {}",
            list.name(),
            own.name(),
            dtype.name
        );
        let problem =
            Problem::new(Reason::ValueField, "", what).hint(format!("put the values into {}", own.name()));
        descriptor.encoding = Encoding::List(list);
        descriptor.values = list_elements(tensor, list);
        return Err(problem);
    }
    if values > 0 {
        descriptor.encoding = Encoding::List(own);
    }
    descriptor.values = values.min(elements);
    let short = 1 < values && values < elements;
    if values == elements
        || (values == 1 && elements > 1)
        || (short && policy.short_lists == ShortLists::Allow)
    {
        return Ok(());
    }
    let what = format!("{values} value(s) in {}, expected {elements} for {}", own.name(), tensor.shape);
    let problem = Problem::new(Reason::ValueCount, "", what);
    Err(match values {
        0 => problem.hint("TensorFlow would read zeros"),
        _ if short => problem.hint("TensorFlow would repeat the last one"),
        _ => problem.hint("TensorFlow would drop the rest"),
    })
}

/// Number of elements in a typed list. The complex lists have two values for each element.
pub(super) fn list_elements(tensor: &TensorView, list: ValueList) -> u64 {
    let values = tensor.list_values(list);
    if matches!(list, ValueList::SComplex | ValueList::DComplex) { values / 2 } else { values }
}

fn content_size(
    tensor: &TensorView,
    dtype: &DtypeInfo,
    elements: u64,
    length: u64,
    size: u64,
) -> Result<(), Problem> {
    if elements * size == length {
        return Ok(());
    }
    let expected = elements * size;
    let what = format!(
        "{length} bytes in tensor_content, expected {expected} for {} of {} ({size} bytes each)",
        tensor.shape, dtype.name
    );
    let problem = Problem::new(Reason::ContentSize, "", what);
    Err(match dtype.dtype {
        DataType::FLOAT if length == 2 * expected => {
            problem.hint("looks like float64 data labelled float: send dtype double, or cast to float32")
        }
        DataType::DOUBLE if 2 * length == expected => {
            problem.hint("looks like float32 data labelled double: send dtype float")
        }
        _ if length > 0 && length.is_multiple_of(size) => {
            problem.hint(format!("that is {} values", length / size))
        }
        _ => problem,
    })
}

/// Checks TensorFlow's encoding of a string tensor (`DecodeStringList`): the lengths of all strings
/// as varints, then the bytes of all strings, and nothing else.
fn string_content(message: &Rope, tensor: &TensorView, elements: u64) -> Result<(), Problem> {
    let Some(content) = &tensor.content else { return Ok(()) };
    let mut reader = Reader::of_range(message, content);
    let sound = (|| {
        let mut bytes = 0_u64;
        for _ in 0..elements {
            bytes = bytes.checked_add(reader.varint().ok()?)?;
            if bytes > content.len() as u64 {
                return None;
            }
        }
        (bytes == (content.end - reader.position()) as u64).then_some(())
    })();
    sound.ok_or_else(|| {
        let what =
            format!("{} bytes in tensor_content that do not encode {elements} string(s)", content.len());
        Problem::new(Reason::StringInContent, "", what).hint("put strings into string_val")
    })
}
