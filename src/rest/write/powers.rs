//! Powers of ten with 128 bits, for printing numbers exactly.

/// The lowest and the highest power in the table: what 17 digits of any float64 take.
const LOWEST: i32 = -292;
const HIGHEST: i32 = 340;
pub(super) const LEN: usize = (HIGHEST - LOWEST + 1) as usize;

/// Limbs for 5^340, and for 2^1151 / 5^292 with far more than 128 bits left.
const LIMBS: usize = 18;

static POWERS: [u128; LEN] = table();

/// The 128 leading bits of 10^`power`, rounded down: 10^`power` = result * 2^([`exponent`] - 127).
pub(super) const fn leading_bits(power: i32) -> u128 {
    POWERS[(power - LOWEST) as usize]
}

/// [`leading_bits`] for constants, which may not read a static.
pub(super) const fn leading_64_bits(table: &[u128; LEN], power: i32) -> u64 {
    (table[(power - LOWEST) as usize] >> 64) as u64
}

/// The exponent of the highest power of two that is not above 10^`power`.
pub(super) const fn exponent(power: i32) -> i32 {
    // log2(10) in fixed point; exact for |power| <= 1233.
    (power * 1_741_647) >> 19
}

/// The exponent of the highest power of ten that is not above 2^`power`.
pub(super) const fn decimal_exponent(power: i32) -> i32 {
    // log10(2) in fixed point; exact for |power| <= 1650.
    (power * 315_653) >> 20
}

/// 10^n has the leading bits of 5^n.
pub(super) const fn table() -> [u128; LEN] {
    let mut table = [0; LEN];
    let mut limbs = [0_u64; LIMBS];
    limbs[0] = 1;
    let mut power = 0;
    while power <= HIGHEST {
        table[(power - LOWEST) as usize] = top(&limbs);
        let mut carry = 0;
        let mut at = 0;
        while at < LIMBS {
            let product = limbs[at] as u128 * 5 + carry;
            limbs[at] = product as u64;
            carry = product >> 64;
            at += 1;
        }
        power += 1;
    }
    // Dividing repeatedly and rounding down each time is dividing once and rounding down.
    limbs = [0; LIMBS];
    limbs[LIMBS - 1] = 1 << 63;
    power = 0;
    while power >= LOWEST {
        table[(power - LOWEST) as usize] = top(&limbs);
        let mut rest = 0;
        let mut at = LIMBS;
        while at > 0 {
            at -= 1;
            let dividend = (rest << 64) | limbs[at] as u128;
            limbs[at] = (dividend / 5) as u64;
            rest = dividend % 5;
        }
        power -= 1;
    }
    table
}

/// The 128 highest bits, the first of which is 1.
const fn top(limbs: &[u64; LIMBS]) -> u128 {
    let mut high = LIMBS - 1;
    while limbs[high] == 0 {
        high -= 1;
    }
    let second = if high >= 1 { limbs[high - 1] } else { 0 };
    let third = if high >= 2 { limbs[high - 2] } else { 0 };
    let both = (limbs[high] as u128) << 64 | second as u128;
    match limbs[high].leading_zeros() {
        0 => both,
        shift => both << shift | (third >> (64 - shift)) as u128,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_exact_as_far_as_they_fit() {
        for power in 0..=38_u32 {
            let exact = 10_u128.pow(power);
            let shift = exact.leading_zeros();
            assert_eq!(leading_bits(power as i32), exact << shift, "{power}");
            assert_eq!(exponent(power as i32), 127 - shift as i32, "{power}");
        }
    }

    #[test]
    fn every_power_agrees_with_its_double() {
        for power in -250..=308 {
            let value: f64 = format!("1e{power}").parse().unwrap();
            let approximate = leading_bits(power) as f64 * 2_f64.powi(exponent(power) - 127);
            assert!((approximate / value - 1.0).abs() < 1e-15, "{power}");
            assert!(leading_bits(power) >> 127 == 1);
        }
        for power in -1074..=1023 {
            let bits = if power < -1022 { 1 << (power + 1074) } else { ((power + 1023) as u64) << 52 };
            let digits = format!("{:.20e}", f64::from_bits(bits));
            assert_eq!(decimal_exponent(power).to_string(), digits.split('e').nth(1).unwrap());
        }
    }
}
