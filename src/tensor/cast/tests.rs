//! Properties of all casts, and the texts of faults.
use proptest::prelude::*;

use super::values::power_of_two;
use super::{Cast, CastFault, Exactness, FaultKind, Relation, relation};
use crate::tensor::DataType;

fn numbers() -> Vec<DataType> {
    DataType::all().filter(|&dtype| Cast::new(dtype, dtype, Exactness::Exact).is_some()).collect()
}

fn cast(from: DataType, to: DataType) -> Cast {
    Cast::new(from, to, Exactness::Exact).unwrap()
}

fn converted(cast: Cast, src: &[u8]) -> Vec<u8> {
    let mut dst = Vec::new();
    cast.convert(src, &mut dst);
    dst
}

/// Whether two tensors hold the same numbers, where NaN equals NaN.
fn same_numbers(dtype: DataType, left: &[u8], right: &[u8]) -> bool {
    // No float has all 64-bit integers, so their bytes are compared.
    if left == right || matches!(dtype, DataType::INT64 | DataType::UINT64) {
        return left == right;
    }
    let numbers = |bytes: &[u8]| -> Vec<f64> {
        let wide = converted(cast(dtype, DataType::COMPLEX128), bytes);
        wide.as_chunks().0.iter().map(|part| f64::from_le_bytes(*part)).collect()
    };
    let (left, right) = (numbers(left), numbers(right));
    left.len() == right.len() && left.iter().zip(&right).all(|(l, r)| l == r || l.is_nan() && r.is_nan())
}

#[test]
fn what_each_cast_can_lose() {
    let letter = |relation| match relation {
        None => '.',
        Some(Relation::Same) => '=',
        Some(Relation::Widens) => 'W',
        Some(Relation::Narrows) => 'n',
        Some(Relation::FloatToInt) => 'i',
        Some(Relation::BoolToNumber) => 'B',
        Some(Relation::NumberToBool) => 'b',
    };
    let row = |from| numbers().iter().map(|&to| letter(relation(from, to))).collect::<String>();
    let table: Vec<String> = numbers().iter().map(|&from| format!("{} {from}", row(from))).collect();
    assert_eq!(table.join("\n"), TABLE.trim());
}

/// Rows are sources and columns are targets, both in the order of the dtype numbers.
const TABLE: &str = "
=WiiiiWibniWniinnnnniiiin float
n=iiiinibniWniinnnnniiiin double
nW=nnnnWbnnWnnnnnnnnnnnnn int32
WWW=WnWWbWWWWWWnnnnnnnnnn uint8
WWWn=nWWbnnWnnnnnnnnnnnnn int16
WWWnW=WWbWnWWnnnnnnnnnnnn int8
......=....W............. complex64
nnnnnnn=bnnnnnnnnnnnnnnnn int64
BBBBBB.B=BB.BBBBBBBBBBBBB bool
WWiiiiWib=iWniinnnnniiiin bfloat16
WWWnnnWWbn=WnWWnnnnnnnnnn uint16
......n....=............. complex128
WWiiiiWibniW=iinnnnniiiin half
nWnnnnnWbnnWn=Wnnnnnnnnnn uint32
nnnnnnnnbnnnnn=nnnnnnnnnn uint64
WWiiiiWibWiWWii=nnnniiiin float8_e5m2
WWiiiiWibWiWWiin=nnniiiin float8_e4m3fn
WWiiiiWibWiWWiinn=nniiiin float8_e4m3fnuz
WWiiiiWibWiWWiinnn=niiiin float8_e4m3b11fnuz
WWiiiiWibWiWWiinnnn=iiiin float8_e5m2fnuz
WWWnWWWWbWnWWnnWWWWW=nnnn int4
WWWWWWWWbWWWWWWnWWWnn=nnn uint4
WWWnWWWWbWnWWnnWWWWWWn=nW int2
WWWWWWWWbWWWWWWWWWWWWWn=W uint2
WWiiiiWibWiWWiiWWWWWiiii= float4_e2m1fn";

#[test]
fn a_cast_exists_if_a_relation_does() {
    for from in (-1..=140).map(DataType::from_number) {
        for to in (-1..=140).map(DataType::from_number) {
            let castable = Cast::new(from, to, Exactness::Exact).is_some();
            let no_number = from == to && !numbers().contains(&from);
            assert_eq!(castable, relation(from, to).is_some() && !no_number, "{from} -> {to}");
        }
    }
    assert_eq!(relation(DataType::STRING, DataType::STRING), Some(Relation::Same));
    assert_eq!(relation(DataType::from_number(101), DataType::from_number(101)), None);
}

/// Tries every value of the dtypes of at most 16 bits, which proves their rows of the table.
#[test]
fn widening_casts_keep_every_value() {
    for from in numbers().into_iter().filter(|dtype| dtype.size() <= Some(2) && *dtype != DataType::BOOL) {
        let size = from.size().unwrap();
        let all: Vec<u8> =
            (0..1_u32 << (8 * size)).flat_map(|bits| bits.to_le_bytes()[..size].to_vec()).collect();
        for to in numbers() {
            let widens = match relation(from, to) {
                Some(Relation::Widens) => true,
                Some(Relation::Narrows) => false,
                _ => continue,
            };
            let there = Cast { relation: Relation::Narrows, ..cast(from, to) };
            assert_eq!(there.check(&all).is_ok(), widens, "{from} -> {to}");
            if widens && relation(to, from).is_some() {
                let back = cast(to, from);
                let wide = converted(there, &all);
                assert_eq!(back.check(&wide), Ok(()), "{from} -> {to}");
                assert!(same_numbers(from, &all, &converted(back, &wide)), "{from} -> {to}");
            }
        }
    }
}

fn fault<const N: usize>(from: DataType, to: DataType, bytes: [u8; N]) -> (usize, FaultKind, String) {
    let CastFault { index, kind, value } = cast(from, to).check(&bytes).unwrap_err();
    (index, kind, value)
}

#[test]
fn faults_have_index_and_value() {
    use DataType as D;
    use FaultKind::{Inexact, OutOfRange};
    let said = |index, kind, value: &str| (index, kind, value.to_owned());
    assert_eq!(fault(D::INT32, D::UINT32, (-1_i32).to_le_bytes()), said(0, OutOfRange, "-1"));
    assert_eq!(
        fault(D::UINT64, D::INT64, u64::MAX.to_le_bytes()),
        said(0, OutOfRange, "18446744073709551615")
    );
    assert_eq!(fault(D::DOUBLE, D::FLOAT, 0.1_f64.to_le_bytes()), said(0, Inexact, "0.1"));
    assert_eq!(fault(D::DOUBLE, D::FLOAT, 1e300_f64.to_le_bytes()), said(0, OutOfRange, "1e300"));
    assert_eq!(fault(D::FLOAT, D::INT8, 0.1_f32.to_le_bytes()), said(0, Inexact, "0.1"));
    assert_eq!(fault(D::FLOAT, D::INT32, f32::NAN.to_le_bytes()), said(0, OutOfRange, "NaN"));
    assert_eq!(fault(D::FLOAT, D::FLOAT4_E2M1FN, f32::INFINITY.to_le_bytes()), said(0, OutOfRange, "inf"));
    assert_eq!(fault(D::FLOAT, D::BOOL, 2_f32.to_le_bytes()), said(0, OutOfRange, "2.0"));
    assert_eq!(fault(D::FLOAT, D::BOOL, 0.5_f32.to_le_bytes()), said(0, Inexact, "0.5"));
    assert_eq!(fault(D::BOOL, D::FLOAT, [0, 1, 2]), said(2, OutOfRange, "2"));
    assert_eq!(fault(D::INT4, D::UINT8, [7, 0xf8]), said(1, OutOfRange, "-8"));
    // The imaginary lane of the second element.
    let complex = [0.0, 0.5, 1.5, -1e300_f64].map(f64::to_le_bytes).concat();
    let fault = cast(D::COMPLEX128, D::COMPLEX64).check(&complex).unwrap_err();
    assert_eq!(fault.to_string(), "element 1 (1.5-1e300j) is out of range");
}

#[test]
fn casting_no_values_gives_no_values() {
    for from in numbers() {
        for to in numbers() {
            if let Some(cast) = Cast::new(from, to, Exactness::Exact) {
                assert_eq!(cast.check(&[]), Ok(()));
                assert!(converted(cast, &[]).is_empty());
            }
        }
    }
}

#[test]
fn convert_appends() {
    let mut dst = vec![9];
    cast(DataType::UINT8, DataType::COMPLEX64).convert(&[1, 2], &mut dst);
    assert_eq!(dst, [9, 0, 0, 0x80, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0]);
}

/// A pair of numeric dtypes and some bytes.
fn tensors() -> impl Strategy<Value = (DataType, DataType, Vec<u8>)> {
    let dtype = || proptest::sample::select(numbers());
    // Zeros and ones make values that a cast keeps, random bytes values that it does not.
    let byte = prop_oneof![Just(0), Just(1), Just(0xff), Just(0x3f), any::<u8>()];
    (dtype(), dtype(), proptest::collection::vec(byte, 0..64))
}

/// Puts each value at each index of tensors of several lengths, among ones: a vectorised loop must
/// not miss any.
#[test]
fn block_tests_check_every_lane() {
    use DataType as D;
    use Exactness::{Exact, Round};
    let largest = f64::from(f32::MAX);
    let overflow = f64::from_bits(0x47ef_ffff_f000_0000);
    let below = f64::from_bits(overflow.to_bits() - 1);
    let doubles: Vec<(f64, bool)> = [
        (0.0, true),
        (power_of_two(127), true),
        (largest, true),
        (below, true),
        (overflow, false),
        (power_of_two(128), false),
        (f64::MAX, false),
        (f64::INFINITY, true),
        (f64::NAN, true),
        (f64::from_bits(0x7ff0_0000_0000_0001), true),
    ]
    .into_iter()
    .flat_map(|(value, passes)| [(value, passes), (-value, passes)])
    .collect();
    let fits = |value: i64| i32::try_from(value).is_ok();
    let ints =
        [0, i64::MIN, i64::MAX, 1 << 31, (1 << 31) - 1, -(1 << 31), -(1 << 31) - 1, 1 << 32, -(1 << 32)];
    let exact = |value: i64| value as f32 as i64 == value && value != i64::MAX;
    let near =
        [1 << 24, (1 << 24) + 1, -(1 << 24), -(1 << 24) - 1, 1 << 25, (1 << 25) + 1, i64::MIN, i64::MAX];
    let mut cases: Vec<(DataType, DataType, Exactness, [u8; 8], bool)> = Vec::new();
    cases.extend(
        doubles.iter().map(|(value, passes)| (D::DOUBLE, D::FLOAT, Round, value.to_le_bytes(), *passes)),
    );
    cases.extend(ints.iter().map(|value| (D::INT64, D::INT32, Exact, value.to_le_bytes(), fits(*value))));
    cases.extend(near.iter().map(|value| (D::INT64, D::FLOAT, Exact, value.to_le_bytes(), exact(*value))));
    for (from, to, exactness, value, passes) in cases {
        let one = if from == D::DOUBLE { 1.0_f64.to_le_bytes() } else { 1_i64.to_le_bytes() };
        let cast = Cast::new(from, to, exactness).unwrap();
        for length in [1, 15, 16, 17, 40, 513] {
            for at in 0..length {
                let mut src = one.repeat(length);
                src[8 * at..][..8].copy_from_slice(&value);
                let fault = cast.check(&src).err().map(|fault| fault.index);
                assert_eq!(fault, (!passes).then_some(at), "{from} -> {to}: {value:?} at {at} of {length}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..Default::default() })]

    #[test]
    fn values_that_pass_the_check_can_be_cast_back((from, to, bytes) in tensors()) {
        let casts = Cast::new(from, to, Exactness::Exact).zip(Cast::new(to, from, Exactness::Exact));
        let Some((there, back)) = casts else { return Ok(()) };
        for value in bytes.chunks_exact(there.from_size()) {
            let passes = there.check(value).is_ok();
            prop_assert!(passes || relation(from, to) != Some(Relation::Widens));
            if passes && from != DataType::BOOL {
                let wide = converted(there, value);
                prop_assert_eq!(back.check(&wide), Ok(()));
                prop_assert!(same_numbers(from, value, &converted(back, &wide)));
            }
        }
    }

    #[test]
    fn casting_arbitrary_bytes_does_not_panic((from, to, bytes) in tensors()) {
        for exactness in [Exactness::Exact, Exactness::Round] {
            if let Some(cast) = Cast::new(from, to, exactness) {
                let _ = cast.check(&bytes);
                let whole = bytes.len() / cast.from_size();
                prop_assert_eq!(converted(cast, &bytes).len(), whole * cast.to_size());
            }
        }
    }
}
