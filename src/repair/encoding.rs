//! Whether a tensor has as many values as its shape and dtype say. TensorFlow silently replaces
//! missing values with zeros and drops surplus ones, so this is checked before anything is
//! forwarded.
//!
//! The rules are those of `Tensor::FromProto` (tensorflow/core/framework/tensor.cc), confirmed by
//! experiment: `tensor_content` must have exactly elements × size bytes and takes precedence over
//! any list; a list of one value fills the tensor; the last value of a shorter list is repeated.
use super::carriers::{conflict, count};
use super::descriptor::{Descriptor, Encoding};
use super::payload;
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
/// The size of a string object in TensorFlow's memory (`sizeof(tstring)`), without its text.
const STRING_BYTES: u64 = 24;

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
        // The name of an unknown dtype begins with the word.
        let name = tensor.dtype.name();
        let what = format!("dtype {}, which no tensor can have", name.trim_start_matches("dtype "));
        return Encoded::Faulty(descriptor, problem(Reason::DtypeMismatch, what));
    };
    // TensorFlow ignores `unknown_rank` and reads a shape without dimensions as a scalar.
    let values = if tensor.unknown_rank && tensor.shape.rank() == 0 { sent_values(tensor, dtype) } else { 0 };
    if values > 1 {
        let what = format!("{values} values, but unknown_rank without dimensions is read as a scalar");
        let problem = problem(Reason::ShapeNotConcrete, what).hint("send the real sizes");
        return Encoded::Faulty(descriptor, problem);
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
    let claims = || claims_too_much(&tensor.shape, dtype, input, limits, || carried(tensor, dtype));
    if let Some(problem) = too_large(&tensor.shape, input, limits).or_else(claims) {
        return Encoded::Faulty(descriptor, problem);
    }
    if let Err(problem) = encoding(message, tensor, dtype, elements, policy, &mut descriptor) {
        return Encoded::Faulty(descriptor, Problem { input: input.to_owned(), ..problem });
    }
    Encoded::Sound(descriptor)
}

/// Whether the values are of this dtype and in one field, the one that TensorFlow reads for it, so
/// that they are only counted.
pub(super) fn is_plain(tensor: &TensorView, dtype: DataType) -> bool {
    if tensor.dtype != dtype {
        return false;
    }
    match &tensor.content {
        Some(_) => dtype.size().is_some() && !tensor.has_lists(),
        None => {
            let own = dtype.info().map(|info| info.list);
            tensor.lists().iter().all(|(list, _)| Some(*list) == own)
        }
    }
}

/// The problem of a shape that has more elements than the operator allows.
pub(super) fn too_large(shape: &Shape, input: &str, limits: Limits) -> Option<Problem> {
    let elements = shape.elements().ok().filter(|elements| *elements > limits.max_elements)?;
    let what = format!("{elements} elements in {shape}, at most {} are allowed", limits.max_elements);
    let problem = Problem::new(Reason::TooLarge, input, what).hint("the limit is `limits.max_elements`");
    Some(problem.weight(Weight::Shield))
}

/// The problem of a large tensor of which the message carries only `values` elements: TensorFlow
/// fills it with the last one or with zeros, so that a message of a few bytes makes the server
/// allocate any amount.
pub(super) fn claims_too_much(
    shape: &Shape,
    dtype: &DtypeInfo,
    input: &str,
    limits: Limits,
    values: impl Fn() -> u64,
) -> Option<Problem> {
    let elements = shape.elements().ok()?;
    let bytes = elements.saturating_mul(dtype.size.map_or(STRING_BYTES, |size| size as u64));
    if bytes <= limits.max_fill_bytes || values() >= elements {
        return None;
    }
    let what = format!(
        "{} value(s) for the {elements} elements of {shape}: {} that the message does not carry",
        values(),
        mebibytes(bytes)
    );
    let hint = format!(
        "send all values; a tensor that is filled may take {} (`limits.max_fill_bytes`)",
        mebibytes(limits.max_fill_bytes)
    );
    Some(Problem::new(Reason::TooLarge, input, what).hint(hint).weight(Weight::Shield))
}

fn mebibytes(bytes: u64) -> String {
    if bytes < 1 << 20 { format!("{bytes} bytes") } else { format!("{} MiB", bytes >> 20) }
}

/// How many elements the message carries at most, in whichever field.
fn carried(tensor: &TensorView, dtype: &DtypeInfo) -> u64 {
    match (&tensor.content, dtype.size) {
        // If the size is wrong, TensorFlow refuses it before it allocates anything.
        (Some(_), Some(_)) => u64::MAX,
        // A string takes at least the byte of its length.
        (Some(content), None) => content.len() as u64,
        (None, _) => {
            let lists = tensor.lists().into_iter();
            lists.map(|(list, _)| list_elements(tensor, list)).max().unwrap_or(0)
        }
    }
}

/// How many elements were sent, if it can be told.
fn sent_values(tensor: &TensorView, dtype: &DtypeInfo) -> u64 {
    match (&tensor.content, dtype.size) {
        (Some(content), Some(size)) => (content.len() / size) as u64,
        (Some(_), None) => 1,
        (None, _) => carried(tensor, dtype),
    }
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
        match dtype.size {
            Some(size) => content_size(message, tensor, dtype, elements, content.len() as u64, size as u64)?,
            None => string_content(message, tensor, elements)?,
        }
        descriptor.values = elements;
        return conflict(message, tensor, dtype, elements).map_or(Ok(()), Err);
    }
    let own = dtype.list;
    let values = list_elements(tensor, own);
    let foreign = tensor.lists().into_iter().find(|(list, _)| *list != own);
    if let Some((list, _)) = foreign.filter(|_| values == 0) {
        descriptor.encoding = Encoding::List(list);
        descriptor.values = list_elements(tensor, list);
        return Err(wrong_field(tensor, dtype));
    }
    if values > 0 {
        descriptor.encoding = Encoding::List(own);
    }
    descriptor.values = values.min(elements);
    if foreign.is_some()
        && let Some(problem) = conflict(message, tensor, dtype, elements)
    {
        return Err(problem);
    }
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
        _ if let Some(hint) = payload::list(message, tensor, own) => problem.hint(hint),
        _ if short => problem.hint("TensorFlow would repeat the last one"),
        _ => problem.hint("TensorFlow would drop the rest"),
    })
}

/// The problem of values in fields that TensorFlow does not read for the dtype, and in no other.
pub(super) fn wrong_field(tensor: &TensorView, dtype: &DtypeInfo) -> Problem {
    let lists = tensor.lists();
    let sent: Vec<String> = lists.iter().map(|(list, _)| count(tensor, Encoding::List(*list))).collect();
    let own = dtype.list.name();
    let what = format!("{}, but TensorFlow reads {own} for {}", sent.join(" and "), dtype.name);
    Problem::new(Reason::ValueField, "", what).hint(format!("put the values into {own}"))
}

/// Number of elements in a typed list. The complex lists have two values for each element.
pub(super) fn list_elements(tensor: &TensorView, list: ValueList) -> u64 {
    let values = tensor.list_values(list);
    if matches!(list, ValueList::SComplex | ValueList::DComplex) { values / 2 } else { values }
}

fn content_size(
    message: &Rope,
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
    if let Some((list, _)) = tensor.lists().first() {
        let also = count(tensor, Encoding::List(*list));
        return Err(problem.hint(format!("there are {also} too, but TensorFlow reads tensor_content")));
    }
    Err(match payload::content(message, tensor, dtype, elements, length) {
        Some(hint) => problem.hint(hint),
        None => problem,
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
