//! The one-byte floats (five float8 formats and float4), as tables of the value of each byte.

/// How a format encodes NaN and infinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Specials {
    /// As IEEE 754: the top exponent is infinity (mantissa 0) or NaN.
    Ieee,
    /// `FN`, finite and NaN: only the all-ones pattern of each sign is NaN.
    NanAtAllOnes,
    /// `FNUZ`, finite, NaN, unsigned zero: the pattern of minus zero is the only NaN.
    NanAtMinusZero,
    /// Every pattern is a finite value.
    None,
}

/// A one-byte format: sign, exponent and mantissa from high to low, in the low bits of the byte.
#[derive(Debug)]
pub(super) struct TinyFloat {
    /// Number of bits used. The others are ignored when reading and 0 when writing.
    width: u32,
    mantissa_bits: u32,
    bias: i32,
    specials: Specials,
    values: [f32; 256],
}

pub(super) static E5M2: TinyFloat = TinyFloat::new(8, 2, 15, Specials::Ieee);
pub(super) static E4M3FN: TinyFloat = TinyFloat::new(8, 3, 7, Specials::NanAtAllOnes);
pub(super) static E4M3FNUZ: TinyFloat = TinyFloat::new(8, 3, 8, Specials::NanAtMinusZero);
pub(super) static E4M3B11FNUZ: TinyFloat = TinyFloat::new(8, 3, 11, Specials::NanAtMinusZero);
pub(super) static E5M2FNUZ: TinyFloat = TinyFloat::new(8, 2, 16, Specials::NanAtMinusZero);
pub(super) static E2M1FN: TinyFloat = TinyFloat::new(4, 1, 1, Specials::None);

impl TinyFloat {
    const fn new(width: u32, mantissa_bits: u32, bias: i32, specials: Specials) -> Self {
        let mut format = Self { width, mantissa_bits, bias, specials, values: [0.0; 256] };
        let mut byte = 0;
        while byte < 256 {
            format.values[byte] = format.compute(byte as u32);
            byte += 1;
        }
        format
    }

    /// The value of a byte.
    pub(super) fn decode(&self, byte: u8) -> f32 {
        self.values[usize::from(byte)]
    }

    /// The byte of a value, or `None` if the format does not have it exactly. Minus zero becomes
    /// zero if the format has no minus zero.
    pub(super) fn encode(&self, value: f64) -> Option<u8> {
        let mut pattern = if value.is_nan() {
            (0..1 << self.width).find(|&byte| self.decode(byte as u8).is_nan())?
        } else {
            // Values of one sign ascend with their patterns, and NaN comes last.
            let half = &self.values[..1 << (self.width - 1)];
            half.partition_point(|&known| f64::from(known) < value.abs())
        };
        let minus_zero_is_nan = value == 0.0 && self.specials == Specials::NanAtMinusZero;
        if value.is_sign_negative() && !value.is_nan() && !minus_zero_is_nan {
            pattern |= 1 << (self.width - 1);
        }
        let byte = u8::try_from(pattern).ok()?;
        let known = f64::from(self.decode(byte));
        (known == value || known.is_nan() && value.is_nan()).then_some(byte)
    }

    /// The value of a pattern, by the definition of the format.
    const fn compute(&self, byte: u32) -> f32 {
        let exponent_bits = self.width - 1 - self.mantissa_bits;
        let mantissa = byte & ((1 << self.mantissa_bits) - 1);
        let exponent = (byte >> self.mantissa_bits) & ((1 << exponent_bits) - 1);
        let negative = (byte >> (self.width - 1)) & 1 == 1;
        let top = exponent == (1 << exponent_bits) - 1;
        let special = match self.specials {
            Specials::Ieee if top && mantissa == 0 => Some(f32::INFINITY),
            Specials::Ieee if top => Some(f32::NAN),
            Specials::NanAtAllOnes if top && mantissa == (1 << self.mantissa_bits) - 1 => Some(f32::NAN),
            Specials::NanAtMinusZero if negative && exponent == 0 && mantissa == 0 => Some(f32::NAN),
            _ => None,
        };
        let magnitude = match special {
            Some(special) => special,
            // Subnormal: the unit of exponent 1, no hidden bit.
            None if exponent == 0 => {
                mantissa as f32 * power_of_two(1 - self.bias - self.mantissa_bits as i32)
            }
            None => {
                let significand = (1 << self.mantissa_bits) | mantissa;
                significand as f32 * power_of_two(exponent as i32 - self.bias - self.mantissa_bits as i32)
            }
        };
        if negative { -magnitude } else { magnitude }
    }
}

/// 2^exponent for the exponents of f32's normal numbers.
const fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits(((exponent + 127) as u32) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One line for each format: its name and, for each byte, the bits of the float32 value
    /// according to ml_dtypes.
    const ML_DTYPES: &str = include_str!("../../tests/fixtures/casts/float8.txt");

    fn formats() -> [(&'static str, &'static TinyFloat); 6] {
        [
            ("float8_e5m2", &E5M2),
            ("float8_e4m3fn", &E4M3FN),
            ("float8_e4m3fnuz", &E4M3FNUZ),
            ("float8_e4m3b11fnuz", &E4M3B11FNUZ),
            ("float8_e5m2fnuz", &E5M2FNUZ),
            ("float4_e2m1fn", &E2M1FN),
        ]
    }

    #[test]
    fn every_byte_has_the_same_value_as_in_ml_dtypes() {
        for (name, format) in formats() {
            let line = ML_DTYPES.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap();
            let bits: Vec<u32> = line.split(' ').map(|hex| u32::from_str_radix(hex, 16).unwrap()).collect();
            assert_eq!(bits.len(), 1 << format.width);
            for byte in 0..=255_u8 {
                let expected = f32::from_bits(bits[usize::from(byte) % bits.len()]);
                let found = format.decode(byte);
                let same = found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan();
                assert!(same, "{name} {byte:#04x}: expected {expected}, got {found}");
            }
        }
    }

    #[test]
    fn encode_is_the_inverse_of_decode() {
        for (name, format) in formats() {
            for byte in 0..1_u32 << format.width {
                let value = f64::from(format.decode(byte as u8));
                let again = format.encode(value).unwrap();
                assert!(u32::from(again) == byte || value.is_nan(), "{name} {byte:#04x} {again:#04x}");
                assert_eq!(format.decode(again).is_nan(), value.is_nan());
            }
        }
    }

    #[test]
    fn values_that_a_format_does_not_have_are_refused() {
        for (name, format) in formats() {
            for value in [1.03, -1.03, 1e-30, 1e30, -1e300, f64::MIN_POSITIVE] {
                assert_eq!(format.encode(value), None, "{name} {value}");
            }
        }
        assert_eq!(E4M3FN.encode(f64::INFINITY), None);
        assert_eq!(E4M3FNUZ.encode(f64::NEG_INFINITY), None);
        assert_eq!(E2M1FN.encode(f64::NAN), None);
        assert_eq!(E5M2.encode(f64::NEG_INFINITY), Some(0xfc));
        assert_eq!(E4M3FNUZ.encode(-0.0), Some(0));
        assert_eq!(E2M1FN.encode(-0.0), Some(8));
    }
}
