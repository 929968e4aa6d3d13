//! Compares what a member got from a shared run with the answer of a lone run.
use std::collections::{HashMap, HashSet};

use smallvec::{SmallVec, smallvec};

use super::values::decode;
use crate::tensor::{Cast, Class, DataType, DtypeInfo, Exactness, ValueList};
use crate::wire::reply::ReplyView;
use crate::wire::scan::Reader;
use crate::wire::{InputView, Rope, TensorView};

/// The first difference that is larger than the tolerance. It is logged, so it has no value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Divergence {
    pub output: String,
    pub problem: String,
    /// All differences are between floats and small beside the largest value of their row, so they
    /// may be rounding that depends on the number of rows.
    pub is_small: bool,
}

/// How two tensors differ.
#[derive(Debug)]
struct Difference {
    problem: String,
    is_small: bool,
}

impl From<String> for Difference {
    fn from(problem: String) -> Self {
        Self { problem, is_small: false }
    }
}

impl std::fmt::Display for Divergence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "output `{}`: {}", self.output, self.problem)
    }
}

/// By how much two floats may differ: `absolute + relative * |larger|`. The difference is small up
/// to `absolute + row * |largest of its row|`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Tolerance {
    relative: f64,
    row: f64,
    absolute: f64,
}

/// The tolerance for a float or complex dtype.
///
/// A kernel sums in another order for another number of rows, so the last bits differ, and the
/// differences grow from layer to layer. On GPUs, TensorFlow multiplies float32 in TF32, which has
/// as many bits as half, but only in some of its kernels: the largest difference measured, for
/// bert-base, is 1.9e-3 of the largest value of the row.
const fn tolerance(dtype: DataType) -> Tolerance {
    match dtype {
        DataType::DOUBLE | DataType::COMPLEX128 => Tolerance { relative: 1e-6, row: 1e-6, absolute: 1e-9 },
        DataType::FLOAT | DataType::COMPLEX64 => Tolerance { relative: 1e-3, row: 1e-2, absolute: 1e-5 },
        DataType::HALF => Tolerance { relative: 1e-2, row: 1e-2, absolute: 1e-3 },
        DataType::BFLOAT16 => Tolerance { relative: 5e-2, row: 5e-2, absolute: 1e-3 },
        // Float8: two steps of the coarsest format.
        _ => Tolerance { relative: 0.5, row: 0.5, absolute: 1e-2 },
    }
}

/// Compares two `PredictResponse` messages: integers, booleans and strings exactly, floats within a
/// tolerance by dtype. The order and the encoding of the outputs may differ.
///
/// # Errors
/// They differ.
pub(crate) fn compare(shared: &Rope, alone: &Rope) -> Result<(), Divergence> {
    compare_with(shared, alone, false)
}

/// Compares two `PredictResponse` messages bit by bit. The order and the encoding of the outputs
/// may differ.
///
/// # Errors
/// They differ.
pub(crate) fn identical(shared: &Rope, copies: &Rope) -> Result<(), Divergence> {
    compare_with(shared, copies, true)
}

fn compare_with(shared: &Rope, alone: &Rope, exact: bool) -> Result<(), Divergence> {
    let scan = |message: &Rope, which| {
        ReplyView::scan(message).map_err(|error| Divergence {
            output: String::new(),
            problem: format!("the answer of the {which} run cannot be read: {error}"),
            is_small: false,
        })
    };
    let (left, right) = (scan(shared, "shared")?, scan(alone, "lone")?);
    let others: HashMap<&str, &InputView> =
        right.outputs.iter().map(|output| (output.key.as_str(), output)).collect();
    let mut small = None;
    for output in &left.outputs {
        let diverges =
            |Difference { problem, is_small }| Divergence { output: output.key.clone(), problem, is_small };
        let Some(other) = others.get(output.key.as_str()) else {
            return Err(diverges("only the shared run has this output".to_owned().into()));
        };
        match same_tensor(shared, &output.tensor, alone, &other.tensor, exact).map_err(diverges) {
            Ok(()) => {}
            Err(divergence) if divergence.is_small => drop(small.get_or_insert(divergence)),
            Err(divergence) => return Err(divergence),
        }
    }
    let known: HashSet<&str> = left.outputs.iter().map(|output| output.key.as_str()).collect();
    match right.outputs.iter().find(|output| !known.contains(output.key.as_str())) {
        Some(missing) => Err(Divergence {
            output: missing.key.clone(),
            problem: "only the lone run has this output".to_owned(),
            is_small: false,
        }),
        None => small.map_or(Ok(()), Err),
    }
}

/// # Errors
/// How the tensors differ.
fn same_tensor(
    shared: &Rope,
    left: &TensorView,
    alone: &Rope,
    right: &TensorView,
    exact: bool,
) -> Result<(), Difference> {
    if left.dtype != right.dtype {
        return Err(format!("{} in the shared run, {} alone", left.dtype, right.dtype).into());
    }
    if left.shape != right.shape {
        return Err(format!("shape {} in the shared run, {} alone", left.shape, right.shape).into());
    }
    if left.content.is_some() && right.content.is_some() && content(shared, left) == content(alone, right) {
        return Ok(());
    }
    let Some(dtype) = left.dtype.info() else {
        return Err("the dtype is unknown".to_owned().into());
    };
    let elements = left.shape.elements().map_err(|error| error.to_string())?;
    match dtype.size {
        Some(size) => {
            let view = left;
            let (left, right) = (numbers(shared, left, dtype, size), numbers(alone, right, dtype, size));
            let rows = view.shape.first().map_or(1, |rows| rows.unsigned_abs()).max(1);
            let of = Numbers { dtype, size, elements, per_row: (elements / rows).max(1) as usize, exact };
            of.same(&left?, &right?)
        }
        None if left.content.is_none() && right.content.is_none() => {
            Ok(same_fields((shared, left), (alone, right), dtype.list)?)
        }
        None => Err("the strings are encoded differently".to_owned().into()),
    }
}

fn content(message: &Rope, tensor: &TensorView) -> Rope {
    message.slice(tensor.content.clone().unwrap_or_default())
}

/// The elements in little-endian order. A list may be shorter than the shape.
fn numbers(message: &Rope, tensor: &TensorView, dtype: &DtypeInfo, size: usize) -> Result<Vec<u8>, String> {
    if tensor.content.is_some() {
        return Ok(content(message, tensor).to_bytes().to_vec());
    }
    let mut all = Vec::new();
    decode(message, tensor, dtype.list, size, &mut all).map_err(|error| error.to_string())?;
    Ok(all)
}

/// The elements of two tensors of numbers, and how they are compared.
struct Numbers<'a> {
    dtype: &'a DtypeInfo,
    /// Bytes of an element.
    size: usize,
    elements: u64,
    per_row: usize,
    exact: bool,
}

impl Numbers<'_> {
    /// # Errors
    /// Elements differ by more than is allowed.
    fn same(&self, left: &[u8], right: &[u8]) -> Result<(), Difference> {
        let size = self.size;
        // In a list the last value stands for those that follow.
        let count = (left.len().max(right.len()) / size) as u64;
        let common = count.min(self.elements) as usize;
        let (Some(left_last), Some(right_last)) =
            ((left.len() / size).checked_sub(1), (right.len() / size).checked_sub(1))
        else {
            let same = left.len() == right.len();
            return if same { Ok(()) } else { Err("only one of the answers has values".to_owned().into()) };
        };
        let own = |at: usize| &left[at.min(left_last) * size..][..size];
        let other = |at: usize| &right[at.min(right_last) * size..][..size];
        let differs = |at| format!("element {at} differs");
        let mut small = None;
        let mut largest = (usize::MAX, 0.0);
        for at in 0..common {
            let (own, this) = (own(at), other(at));
            if own == this || !self.exact && near(own, this, self.dtype) {
                continue;
            }
            if self.exact || !is_float(self.dtype) {
                return Err(differs(at).into());
            }
            let row = at / self.per_row;
            if largest.0 != row {
                let range = row * self.per_row..((row + 1) * self.per_row).min(common);
                let each = range.flat_map(|at| floats(other(at), self.dtype));
                largest = (row, each.map(f64::abs).filter(|value| value.is_finite()).fold(0.0, f64::max));
            }
            let Tolerance { row, absolute, .. } = tolerance(self.dtype.dtype);
            if !within(own, this, self.dtype, |_, _| absolute + row * largest.1) {
                return Err(differs(at).into());
            }
            small.get_or_insert(at);
        }
        small.map_or(Ok(()), |at| Err(Difference { problem: differs(at), is_small: true }))
    }
}

fn is_float(dtype: &DtypeInfo) -> bool {
    matches!(dtype.class, Class::Float | Class::Complex)
}

/// Whether two elements that have different bytes are equal within the tolerance.
fn near(left: &[u8], right: &[u8], dtype: &DtypeInfo) -> bool {
    let Tolerance { relative, absolute, .. } = tolerance(dtype.dtype);
    let most = |left: f64, right: f64| absolute + relative * left.abs().max(right.abs());
    is_float(dtype) && within(left, right, dtype, most)
}

/// Whether two floats differ by no more than `most` of them, or are no numbers in the same way.
fn within(left: &[u8], right: &[u8], dtype: &DtypeInfo, most: impl Fn(f64, f64) -> f64) -> bool {
    let (left, right) = (floats(left, dtype), floats(right, dtype));
    left.len() == right.len()
        && left.iter().zip(&right).all(|(&left, &right)| {
            // The difference of infinities is no number, and an infinite tolerance allows anything.
            left == right
                || left.is_nan() && right.is_nan()
                || left.is_finite() && right.is_finite() && (left - right).abs() <= most(left, right)
        })
}

/// A float as a double, or the two of a complex number.
fn floats(element: &[u8], dtype: &DtypeInfo) -> SmallVec<[f64; 2]> {
    let single = |bytes: &[u8; 4]| f64::from(f32::from_le_bytes(*bytes));
    match (dtype.dtype, element) {
        (DataType::FLOAT | DataType::COMPLEX64, _) => element.as_chunks().0.iter().map(single).collect(),
        (DataType::DOUBLE | DataType::COMPLEX128, _) => {
            element.as_chunks().0.iter().copied().map(f64::from_le_bytes).collect()
        }
        (DataType::HALF, &[low, high]) => smallvec![half::f16::from_le_bytes([low, high]).to_f64()],
        (DataType::BFLOAT16, &[low, high]) => smallvec![half::bf16::from_le_bytes([low, high]).to_f64()],
        _ => {
            let mut doubles = Vec::with_capacity(8);
            if let Some(cast) = Cast::new(dtype.dtype, DataType::DOUBLE, Exactness::Round) {
                cast.convert(element, &mut doubles);
            }
            doubles.as_chunks().0.iter().copied().map(f64::from_le_bytes).collect()
        }
    }
}

/// Compares the fields of a list of strings one by one.
fn same_fields(
    (shared, left): (&Rope, &TensorView),
    (alone, right): (&Rope, &TensorView),
    list: ValueList,
) -> Result<(), String> {
    let fields = |message: &Rope, tensor: &TensorView| {
        let mut all = Rope::new();
        for run in tensor.runs.iter().filter(|run| run.field == list.field()) {
            all.append(message.slice(run.span.clone()));
        }
        all
    };
    let (left, right) = (fields(shared, left), fields(alone, right));
    let (mut ours, mut theirs) = (Reader::new(&left), Reader::new(&right));
    let mut at = 0_u64;
    loop {
        let next = |reader: &mut Reader<'_>| reader.next_field().map_err(|error| error.to_string());
        match (next(&mut ours)?, next(&mut theirs)?) {
            (None, None) => return Ok(()),
            (Some(own), Some(other))
                if left.slice(own.payload.clone()) == right.slice(other.payload.clone()) =>
            {
                at += 1;
            }
            (Some(_), Some(_)) => return Err(format!("element {at} differs")),
            _ => return Err(format!("one of the answers has only {at} strings")),
        }
    }
}
