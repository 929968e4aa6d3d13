//! Casts between numeric dtypes: what a cast can lose, the check that it loses nothing, and the
//! cast.
mod kernels;
mod lanes;
mod values;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;

use std::fmt;

use self::kernels::{Kernel, kernel};
use self::lanes::{BLOCK, Codec, Lane, lane};
use super::dtype::{Class, DataType};

/// What a cast from one dtype to another can lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Relation {
    /// The same dtype. Also for non-numeric dtypes, which have no [`Cast`].
    Same,
    /// The target has every value of the source exactly. The sign of a zero may be lost: some
    /// float8 formats have no -0.0.
    Widens,
    /// The target lacks some values: integers to a smaller range, integers to floats, floats to
    /// narrower floats.
    Narrows,
    /// Only whole numbers in range are exact. -0.0 is 0; NaN and infinities are out of range.
    FloatToInt,
    /// False is 0 and true is 1.
    BoolToNumber,
    /// 0 is false and 1 is true; nothing else is exact.
    NumberToBool,
}

/// What a cast from one dtype to another can lose. `None` if there is no such cast: for strings,
/// quantized dtypes, handles, reference and unknown dtypes, from complex to real, and between bool
/// and complex.
pub fn relation(from: DataType, to: DataType) -> Option<Relation> {
    let (source, target) = (from.info()?, to.info()?);
    if from == to {
        return Some(Relation::Same);
    }
    let ((source_lane, source_lanes), (target_lane, target_lanes)) = (lane(from)?, lane(to)?);
    let widens = source_lane.values().is_within(&target_lane.values());
    match (source.class, target.class) {
        _ if source_lanes > target_lanes => None,
        (Class::Bool, Class::Complex) => None,
        (Class::Bool, _) => Some(Relation::BoolToNumber),
        (_, Class::Bool) => Some(Relation::NumberToBool),
        (Class::Float, Class::Signed | Class::Unsigned) => Some(Relation::FloatToInt),
        _ if widens => Some(Relation::Widens),
        _ => Some(Relation::Narrows),
    }
}

/// Calls `sink` with each real element of `src`, which is little-endian as in `tensor_content`.
/// Integers above 2^53 are rounded. Nothing is read of dtypes that are not real numbers.
pub(crate) fn each_f64(dtype: DataType, src: &[u8], mut sink: impl FnMut(f64)) {
    let Some((lane, 1)) = lane(dtype) else { return };
    for bytes in src.chunks(BLOCK * lane.size) {
        let count = bytes.len() / lane.size;
        match lane.codec {
            Codec::Int { read, .. } => {
                let mut block = [0_i128; BLOCK];
                read(bytes, &mut block[..count]);
                block[..count].iter().for_each(|value| sink(*value as f64));
            }
            Codec::Float { read, .. } => {
                let mut block = [0_f64; BLOCK];
                read(bytes, &mut block[..count]);
                block[..count].iter().for_each(|value| sink(*value));
            }
        }
    }
}

/// How exact a cast must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exactness {
    /// The target must have each value. Between floats, NaN and infinities are exact if the target
    /// has them; the payload of a NaN may be lost.
    Exact,
    /// To a float or complex dtype: rounded to the nearest value, ties to even. A finite value out
    /// of the target's range is refused. To any other dtype the same as [`Exactness::Exact`].
    Round,
}

/// A value that a cast would change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("element {index} ({value}) is {kind}")]
pub struct CastFault {
    /// Index of the element in the source.
    pub index: usize,
    pub kind: FaultKind,
    /// The value as text: `300`, `0.1`, `1e300`, `NaN`, `1.5-2.0j`.
    pub value: String,
}

/// Why a value would change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// Beyond the smallest or largest value of the target, or a NaN or infinity that it does not
    /// have.
    OutOfRange,
    /// Within the range, but between two values of the target.
    Inexact,
}

/// A cast between two numeric dtypes, selected once for each tensor.
#[derive(Clone, Copy, Debug)]
pub struct Cast {
    exactness: Exactness,
    relation: Relation,
    source: &'static Lane,
    target: &'static Lane,
    source_lanes: usize,
    target_lanes: usize,
    kernel: Option<&'static Kernel>,
}

// === impl Cast ===

impl Cast {
    /// The cast from one dtype to another. It exists if [`relation`] does, except between equal
    /// non-numeric dtypes. Between equal numeric dtypes it copies.
    pub fn new(from: DataType, to: DataType, exactness: Exactness) -> Option<Self> {
        let relation = relation(from, to)?;
        let ((source, source_lanes), (target, target_lanes)) = (lane(from)?, lane(to)?);
        let real = |dtype| match dtype {
            DataType::COMPLEX64 => DataType::FLOAT,
            DataType::COMPLEX128 => DataType::DOUBLE,
            real => real,
        };
        let kernel = kernel(real(from), real(to));
        Some(Self { exactness, relation, source, target, source_lanes, target_lanes, kernel })
    }

    /// Size of a source element in bytes.
    pub fn from_size(&self) -> usize {
        self.source.size * self.source_lanes
    }

    /// Size of a target element in bytes.
    pub fn to_size(&self) -> usize {
        self.target.size * self.target_lanes
    }

    /// Checks that the cast keeps every value. `src` has whole elements, little-endian, as in
    /// `tensor_content`. Allocates nothing except the text of the fault.
    ///
    /// # Errors
    /// The first value that the cast would change.
    pub fn check(&self, src: &[u8]) -> Result<(), CastFault> {
        // A bool byte other than 0 and 1 is invalid, so casts from bool are checked.
        if matches!(self.relation, Relation::Same | Relation::Widens) {
            return Ok(());
        }
        let src = self.whole_elements(src);
        let test = self.kernel.map(|kernel| kernel.test(self.exactness));
        for (block, bytes) in src.chunks(BLOCK * self.source.size).enumerate() {
            if test.is_some_and(|passes| passes(bytes)) {
                continue;
            }
            if let Some((lane, kind)) = self.first_fault(bytes) {
                let index = (block * BLOCK + lane) / self.source_lanes;
                let element = &src[index * self.from_size()..][..self.from_size()];
                return Err(CastFault { index, kind, value: self.print(element) });
            }
        }
        Ok(())
    }

    /// Appends the converted elements of `src` to `dst`. The result for values that [`Self::check`]
    /// refuses is unspecified.
    pub fn convert(&self, src: &[u8], dst: &mut Vec<u8>) {
        let src = self.whole_elements(src);
        if self.relation == Relation::Same {
            dst.extend_from_slice(src);
            return;
        }
        dst.reserve(src.len() / self.from_size() * self.to_size());
        if self.source_lanes == self.target_lanes
            && let Some(kernel) = self.kernel
        {
            (kernel.convert)(src, dst);
            return;
        }
        let mut converted = Vec::with_capacity(BLOCK * self.target.size);
        for bytes in src.chunks(BLOCK * self.source.size) {
            converted.clear();
            match self.kernel {
                Some(kernel) => (kernel.convert)(bytes, &mut converted),
                None => {
                    converted.resize(bytes.len() / self.source.size * self.target.size, 0);
                    self.convert_block(bytes, &mut converted);
                }
            }
            if self.source_lanes == self.target_lanes {
                dst.extend_from_slice(&converted);
            } else {
                match self.target.size {
                    4 => append_with_zeros::<4>(&converted, dst),
                    _ => append_with_zeros::<8>(&converted, dst),
                }
            }
        }
    }

    /// `src` without an incomplete element at the end. Such a tensor has been refused before.
    fn whole_elements<'a>(&self, src: &'a [u8]) -> &'a [u8] {
        &src[..src.len() - src.len() % self.from_size()]
    }

    /// The first lane of a block that the target does not have.
    fn first_fault(&self, bytes: &[u8]) -> Option<(usize, FaultKind)> {
        let target = self.target.values();
        let lanes = bytes.len() / self.source.size;
        match self.source.codec {
            Codec::Int { read, .. } => {
                let mut ints = [0; BLOCK];
                read(bytes, &mut ints);
                first(&ints[..lanes], |&value| {
                    let not_a_bool = self.relation == Relation::BoolToNumber && value > 1;
                    let fault = || target.fault_of_int(value, self.exactness);
                    if not_a_bool { Some(FaultKind::OutOfRange) } else { fault() }
                })
            }
            Codec::Float { read, .. } => {
                let mut floats = [0.0; BLOCK];
                read(bytes, &mut floats);
                first(&floats[..lanes], |&value| target.fault_of_float(value, self.exactness))
            }
        }
    }

    /// Converts a block through wide numbers.
    fn convert_block(&self, bytes: &[u8], converted: &mut [u8]) {
        let lanes = bytes.len() / self.source.size;
        let (mut ints, mut floats) = ([0; BLOCK], [0.0; BLOCK]);
        let (ints, floats) = (&mut ints[..lanes], &mut floats[..lanes]);
        match self.source.codec {
            Codec::Int { read, .. } => read(bytes, ints),
            Codec::Float { read, .. } => read(bytes, floats),
        }
        match (&self.source.codec, &self.target.codec) {
            (Codec::Int { .. }, Codec::Float { format, write, .. }) => {
                for (float, int) in floats.iter_mut().zip(&*ints) {
                    *float = format.nearest_int(*int);
                }
                write(floats, converted);
            }
            (Codec::Float { .. }, Codec::Float { format, write, .. }) => {
                for float in &mut *floats {
                    *float = format.nearest(*float);
                }
                write(floats, converted);
            }
            (Codec::Float { .. }, Codec::Int { write, .. }) => {
                for (int, float) in ints.iter_mut().zip(&*floats) {
                    *int = *float as i128;
                }
                write(ints, converted);
            }
            (Codec::Int { .. }, Codec::Int { write, .. }) => write(ints, converted),
        }
    }

    /// A source element as text, with floats as short as possible.
    fn print(&self, element: &[u8]) -> String {
        let lanes: Vec<String> =
            element.chunks_exact(self.source.size).map(|lane| self.print_lane(lane)).collect();
        match lanes.as_slice() {
            [real, imaginary] => {
                let plus = if imaginary.starts_with('-') { "" } else { "+" };
                format!("{real}{plus}{imaginary}j")
            }
            _ => lanes.concat(),
        }
    }

    fn print_lane(&self, bytes: &[u8]) -> String {
        match self.source.codec {
            Codec::Int { read, .. } => {
                let mut value = [0];
                read(bytes, &mut value);
                value[0].to_string()
            }
            Codec::Float { read, .. } => {
                let mut value = [0.0];
                read(bytes, &mut value);
                // `{:?}` writes large and small numbers with an exponent.
                if self.source.size < size_of::<f64>() {
                    format!("{:?}", value[0] as f32)
                } else {
                    format!("{:?}", value[0])
                }
            }
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutOfRange => "out of range",
            Self::Inexact => "not exact",
        })
    }
}

/// Real to complex: each lane of `N` bytes, then an imaginary lane that is zero.
fn append_with_zeros<const N: usize>(lanes: &[u8], dst: &mut Vec<u8>) {
    let start = dst.len();
    dst.resize(start + 2 * lanes.len(), 0);
    for (real, lane) in dst[start..].as_chunks_mut::<N>().0.iter_mut().step_by(2).zip(lanes.as_chunks().0) {
        *real = *lane;
    }
}

fn first<T>(values: &[T], fault: impl Fn(&T) -> Option<FaultKind>) -> Option<(usize, FaultKind)> {
    values.iter().enumerate().find_map(|(lane, value)| fault(value).map(|kind| (lane, kind)))
}
