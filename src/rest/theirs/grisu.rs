//! The decimal digits that RapidJSON writes for a double: Grisu2, which is not always the shortest.

/// A number `f` times a power of two, without rounding until it is multiplied.
#[derive(Debug, Clone, Copy)]
struct Scaled {
    f: u64,
    e: i32,
}

impl Scaled {
    /// With the highest bit set.
    fn normalized(self) -> Self {
        let shift = self.f.leading_zeros();
        Self { f: self.f << shift, e: self.e - shift as i32 }
    }

    /// Rounded to 64 bits (`DiyFp::operator*` in `internal/diyfp.h`).
    fn times(self, other: Self) -> Self {
        let product = u128::from(self.f) * u128::from(other.f);
        let round = product as u64 >> 63;
        Self { f: (product >> 64) as u64 + round, e: self.e + other.e + 64 }
    }
}

/// The digits of a positive finite double, and the power of ten of the last one (`Grisu2` in
/// `internal/dtoa.h`).
pub(super) fn digits(value: f64) -> (Vec<u8>, i32) {
    const HIDDEN: u64 = 1 << 52;
    let bits = value.to_bits();
    let exponent = (bits >> 52 & 0x7ff) as i32;
    let fraction = bits & (HIDDEN - 1);
    let (f, e) = if exponent == 0 { (fraction, -1074) } else { (fraction | HIDDEN, exponent - 1075) };
    // Halfway to the next double on each side.
    let above = Scaled { f: (f << 1) + 1, e: e - 1 }.normalized();
    let below =
        if f == HIDDEN { Scaled { f: (f << 2) - 1, e: e - 2 } } else { Scaled { f: (f << 1) - 1, e: e - 1 } };
    let below = Scaled { f: below.f << (below.e - above.e), e: above.e };

    let (power, decimal) = power(above.e);
    let value = Scaled { f, e }.normalized().times(power);
    let mut high = above.times(power);
    let low = below.times(power).f + 1;
    high.f -= 1;
    let (digits, kappa) = generate(value, high, high.f - low);
    (digits, decimal + kappa)
}

/// A power of ten that brings a number with this exponent to a range where its digits can be read
/// off, and the power's negated exponent (`GetCachedPower`).
fn power(e: i32) -> (Scaled, i32) {
    let k = (f64::from(-61 - e) * 0.301_029_995_663_981_14 + 347.0).ceil() as i32;
    let index = (k >> 3) + 1;
    let decimal = index * 8 - 348;
    let f = usize::try_from(index).ok().and_then(|index| POWERS.get(index)).copied().unwrap_or(1 << 63);
    // 217706 / 2^16 is log2(10).
    (Scaled { f, e: ((decimal * 217_706) >> 16) - 63 }, -decimal)
}

/// Digits of `high` until what is left is less than `delta`, and the power of ten of the last one
/// (`DigitGen`).
fn generate(value: Scaled, high: Scaled, mut delta: u64) -> (Vec<u8>, i32) {
    let shift = -high.e as u32;
    let one = 1_u64 << shift;
    let distance = high.f - value.f;
    let mut whole = high.f >> shift;
    let mut rest = high.f & (one - 1);
    // Below 10^9.
    let mut kappa = whole.checked_ilog10().map_or(1, |log| log as i32 + 1);
    let mut digits = Vec::with_capacity(20);
    while kappa > 0 {
        kappa -= 1;
        let ten = 10_u64.pow(kappa as u32);
        let digit = whole / ten;
        whole %= ten;
        if digit > 0 || !digits.is_empty() {
            digits.push(b'0' + digit as u8);
        }
        let left = (whole << shift) + rest;
        if left <= delta {
            round(&mut digits, delta, left, ten << shift, distance);
            return (digits, kappa);
        }
    }
    loop {
        rest *= 10;
        delta *= 10;
        let digit = rest >> shift;
        if digit > 0 || !digits.is_empty() {
            digits.push(b'0' + digit as u8);
        }
        rest &= one - 1;
        kappa -= 1;
        if rest < delta {
            // With more digits RapidJSON does not round, for its table of powers has 32 bits.
            let distance = if kappa > -9 { distance.wrapping_mul(10_u64.pow(-kappa as u32)) } else { 0 };
            round(&mut digits, delta, rest, one, distance);
            return (digits, kappa);
        }
    }
}

/// Lowers the last digit while that brings the digits closer to the value (`GrisuRound`).
fn round(digits: &mut [u8], delta: u64, mut rest: u64, ten: u64, distance: u64) {
    let Some(last) = digits.last_mut() else { return };
    while rest < distance
        && delta - rest >= ten
        && (rest + ten < distance || distance - rest > rest + ten - distance)
    {
        *last -= 1;
        rest += ten;
    }
}

/// The highest 64 bits of 10^-348, 10^-340, … 10^340.
#[rustfmt::skip]
static POWERS: [u64; 87] = [
    0xfa8f_d5a0_081c_0288, 0xbaae_e17f_a23e_bf76, 0x8b16_fb20_3055_ac76,
    0xcf42_894a_5dce_35ea, 0x9a6b_b0aa_5565_3b2d, 0xe61a_cf03_3d1a_45df,
    0xab70_fe17_c79a_c6ca, 0xff77_b1fc_bebc_dc4f, 0xbe56_91ef_416b_d60c,
    0x8dd0_1fad_907f_fc3c, 0xd351_5c28_3155_9a83, 0x9d71_ac8f_ada6_c9b5,
    0xea9c_2277_23ee_8bcb, 0xaecc_4991_4078_536d, 0x823c_1279_5db6_ce57,
    0xc210_9436_4dfb_5637, 0x9096_ea6f_3848_984f, 0xd774_85cb_2582_3ac7,
    0xa086_cfcd_97bf_97f4, 0xef34_0a98_172a_ace5, 0xb238_67fb_2a35_b28e,
    0x84c8_d4df_d2c6_3f3b, 0xc5dd_4427_1ad3_cdba, 0x936b_9fce_bb25_c996,
    0xdbac_6c24_7d62_a584, 0xa3ab_6658_0d5f_daf6, 0xf3e2_f893_dec3_f126,
    0xb5b5_ada8_aaff_80b8, 0x8762_5f05_6c7c_4a8b, 0xc9bc_ff60_34c1_3053,
    0x964e_858c_91ba_2655, 0xdff9_7724_7029_7ebd, 0xa6df_bd9f_b8e5_b88f,
    0xf8a9_5fcf_8874_7d94, 0xb944_7093_8fa8_9bcf, 0x8a08_f0f8_bf0f_156b,
    0xcdb0_2555_6531_31b6, 0x993f_e2c6_d07b_7fac, 0xe45c_10c4_2a2b_3b06,
    0xaa24_2499_6973_92d3, 0xfd87_b5f2_8300_ca0e, 0xbce5_0864_9211_1aeb,
    0x8cbc_cc09_6f50_88cc, 0xd1b7_1758_e219_652c, 0x9c40_0000_0000_0000,
    0xe8d4_a510_0000_0000, 0xad78_ebc5_ac62_0000, 0x813f_3978_f894_0984,
    0xc097_ce7b_c907_15b3, 0x8f7e_32ce_7bea_5c70, 0xd5d2_38a4_abe9_8068,
    0x9f4f_2726_179a_2245, 0xed63_a231_d4c4_fb27, 0xb0de_6538_8cc8_ada8,
    0x83c7_088e_1aab_65db, 0xc45d_1df9_4271_1d9a, 0x924d_692c_a61b_e758,
    0xda01_ee64_1a70_8dea, 0xa26d_a399_9aef_774a, 0xf209_787b_b47d_6b85,
    0xb454_e4a1_79dd_1877, 0x865b_8692_5b9b_c5c2, 0xc835_53c5_c896_5d3d,
    0x952a_b45c_fa97_a0b3, 0xde46_9fbd_99a0_5fe3, 0xa59b_c234_db39_8c25,
    0xf6c6_9a72_a398_9f5c, 0xb7dc_bf53_54e9_bece, 0x88fc_f317_f222_41e2,
    0xcc20_ce9b_d35c_78a5, 0x9816_5af3_7b21_53df, 0xe2a0_b5dc_971f_303a,
    0xa8d9_d153_5ce3_b396, 0xfb9b_7cd9_a4a7_443c, 0xbb76_4c4c_a7a4_4410,
    0x8bab_8eef_b640_9c1a, 0xd01f_ef10_a657_842c, 0x9b10_a4e5_e991_3129,
    0xe710_9bfb_a19c_0c9d, 0xac28_20d9_623b_f429, 0x8044_4b5e_7aa7_cf85,
    0xbf21_e440_03ac_dd2d, 0x8e67_9c2f_5e44_ff8f, 0xd433_179d_9c8c_b841,
    0x9e19_db92_b4e3_1ba9, 0xeb96_bf6e_badf_77d9, 0xaf87_023b_9bf0_ee6b,
];
