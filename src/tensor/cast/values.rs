//! The set of numbers that a dtype can hold, and how a number relates to it: exact, rounded or out
//! of range.
use super::{Exactness, FaultKind};

/// The numbers of a real dtype.
#[derive(Clone, Copy, Debug)]
pub(super) enum ValueSet {
    Int(IntRange),
    Float(FloatFormat),
}

/// Every integer from `min` to `max`. Bool is 0 and 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct IntRange {
    pub(super) min: i128,
    pub(super) max: i128,
}

/// A binary floating point format.
#[derive(Clone, Copy, Debug)]
pub(super) struct FloatFormat {
    /// Number of significant bits, including the hidden one.
    pub(super) precision: i32,
    /// The smallest positive number is 2 to this power.
    pub(super) min_exponent: i32,
    /// The largest finite number.
    pub(super) max: f64,
    pub(super) has_infinity: bool,
    pub(super) has_nan: bool,
}

// === impl ValueSet ===

impl ValueSet {
    /// Whether `wider` has every number of `self`. Minus zero counts as zero.
    pub(super) fn is_within(&self, wider: &Self) -> bool {
        match (self, wider) {
            (Self::Int(from), Self::Int(to)) => to.min <= from.min && from.max <= to.max,
            (Self::Int(range), Self::Float(format)) => {
                // All integers up to 2^precision are exact, if they are in the format's range.
                let gapless = (1_i128 << format.precision).min(format.max as i128);
                format.min_exponent <= 0 && -gapless <= range.min && range.max <= gapless
            }
            (Self::Float(_), Self::Int(_)) => false,
            (Self::Float(from), Self::Float(to)) => {
                from.precision <= to.precision
                    && from.min_exponent >= to.min_exponent
                    && from.max <= to.max
                    && from.has_infinity <= to.has_infinity
                    && from.has_nan <= to.has_nan
            }
        }
    }

    /// Why an integer is not in this set, if it is not.
    pub(super) fn fault_of_int(&self, value: i128, exactness: Exactness) -> Option<FaultKind> {
        match self {
            Self::Int(range) => (!range.contains(value)).then_some(FaultKind::OutOfRange),
            Self::Float(format) => {
                let nearest = format.nearest_int(value);
                if nearest.abs() > format.max {
                    return Some(FaultKind::OutOfRange);
                }
                (exactness == Exactness::Exact && nearest as i128 != value).then_some(FaultKind::Inexact)
            }
        }
    }

    /// Why a float is not in this set, if it is not.
    pub(super) fn fault_of_float(&self, value: f64, exactness: Exactness) -> Option<FaultKind> {
        match self {
            Self::Int(range) => {
                // `as` saturates, so values beyond i128 stay out of range. NaN would become 0.
                if !value.is_finite() || !range.contains(value as i128) {
                    return Some(FaultKind::OutOfRange);
                }
                (value.trunc() != value).then_some(FaultKind::Inexact)
            }
            Self::Float(format) if value.is_nan() => (!format.has_nan).then_some(FaultKind::OutOfRange),
            Self::Float(format) if value.is_infinite() => {
                (!format.has_infinity).then_some(FaultKind::OutOfRange)
            }
            Self::Float(format) => {
                let nearest = format.nearest(value);
                if nearest.abs() > format.max {
                    return Some(FaultKind::OutOfRange);
                }
                (exactness == Exactness::Exact && nearest != value).then_some(FaultKind::Inexact)
            }
        }
    }
}

impl From<IntRange> for ValueSet {
    fn from(range: IntRange) -> Self {
        Self::Int(range)
    }
}

impl From<FloatFormat> for ValueSet {
    fn from(format: FloatFormat) -> Self {
        Self::Float(format)
    }
}

impl IntRange {
    fn contains(&self, value: i128) -> bool {
        self.min <= value && value <= self.max
    }
}

// === impl FloatFormat ===

impl FloatFormat {
    pub(super) const DOUBLE: Self =
        Self { precision: 53, min_exponent: -1074, max: f64::MAX, has_infinity: true, has_nan: true };
    pub(super) const FLOAT: Self =
        Self { precision: 24, min_exponent: -149, max: f32::MAX as f64, has_infinity: true, has_nan: true };

    /// The number of the format nearest to `value`, ties to even, as if the exponent had no upper
    /// limit: the caller compares with `max`. NaN and infinities are returned unchanged.
    pub(super) fn nearest(&self, value: f64) -> f64 {
        if self.precision >= Self::DOUBLE.precision || !value.is_finite() {
            return value;
        }
        let exponent = ((value.to_bits() >> 52) & 0x7ff) as i32 - 1023;
        // The distance between the format's numbers around `value`. It is constant below the
        // smallest exponent, which in all formats is above the subnormals of f64.
        let unit = (exponent - (self.precision - 1)).max(self.min_exponent);
        (value * power_of_two(-unit)).round_ties_even() * power_of_two(unit)
    }

    /// Like [`Self::nearest`], for an integer.
    pub(super) fn nearest_int(&self, value: i128) -> f64 {
        if self.precision >= Self::DOUBLE.precision {
            return value as f64;
        }
        // Rounding twice, to f64 and then to the format, could round a value near a tie the wrong
        // way. If the first rounding is to odd, the f64 still tells on which side of the tie the
        // integer was.
        let rounded = value as f64;
        if rounded as i128 == value {
            return self.nearest(rounded);
        }
        let away = (rounded as i128).unsigned_abs() > value.unsigned_abs();
        let towards_zero = rounded.to_bits() - u64::from(away);
        self.nearest(f64::from_bits(towards_zero | 1))
    }
}

/// 2^exponent for the exponents of f64's normal numbers.
pub(super) const fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}
