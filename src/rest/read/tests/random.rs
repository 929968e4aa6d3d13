//! Random values of every dtype, bodies cut anywhere, and bodies made to take long.
use std::time::{Duration, Instant};

use super::support::{OPTIONS, read_for, tensors};
use crate::rest::random::Random;
use crate::rest::read::Kind;
use crate::tensor::{Cast, DataType, Exactness};

/// A number as somebody may write it.
fn number(random: &mut Random) -> String {
    let sign = if random.below(2) == 0 { "-" } else { "" };
    if random.below(8) == 0 {
        // Halfway between two float32s, or so close to it that a double is halfway.
        let odd = (1 << 24) + 2 * random.below(1 << 23);
        return match random.below(3) {
            0 => format!("{sign}{}", odd + 1),
            1 => format!("{sign}{}.00000000001", odd + 1),
            _ => format!("{sign}{odd}.99999999999"),
        };
    }
    let digits = |random: &mut Random, most: u64| -> String {
        (0..=random.below(most)).map(|_| char::from(b'0' + random.below(10) as u8)).collect()
    };
    let whole = match random.below(3) {
        0 => "0".to_owned(),
        _ => format!(
            "{}{}",
            1 + random.below(9),
            if random.below(2) == 0 { String::new() } else { digits(random, 20) }
        ),
    };
    let fraction = if random.below(3) == 0 { String::new() } else { format!(".{}", digits(random, 24)) };
    let exponent = match random.below(4) {
        0 => format!("e{}", random.below(40) as i64 - 30),
        1 => format!("E-{}", random.below(50)),
        _ => String::new(),
    };
    format!("{sign}{whole}{fraction}{exponent}")
}

fn list(numbers: &[String], shape: &[usize], random: &mut Random) -> String {
    let Some((&size, inner)) = shape.split_first() else { return numbers[0].clone() };
    let each = numbers.len() / size;
    let comma = [",", ", ", " ,\n\t"][random.below(3) as usize];
    let parts: Vec<String> = numbers.chunks(each).map(|part| list(part, inner, random)).collect();
    format!("[{}]", parts.join(comma))
}

fn read_numbers(dtype: &str, numbers: &[String], shape: &[usize], random: &mut Random) -> Vec<Vec<u8>> {
    let row = random.below(2) == 0;
    let key = if row { "instances" } else { "inputs" };
    let body = format!("{{\"{key}\": {}}}", list(numbers, shape, random));
    let options = crate::rest::read::Options { as_served: true, ..OPTIONS };
    let read = read_for(&[&format!("x:{dtype}:unknown rank")], &body, &options)
        .unwrap_or_else(|f| panic!("{body} {f:?}"));
    let mut found = tensors(&read.message(b"").to_bytes());
    let tensor = found.remove("x").unwrap();
    assert_eq!(tensor.shape.iter().map(|size| *size as usize).collect::<Vec<_>>(), shape, "{body}");
    tensor.values
}

#[test]
fn random_numbers_are_the_nearest_of_the_dtype() {
    let mut random = Random::new(7);
    for _ in 0..2_000 {
        let shape: Vec<usize> = (0..=random.below(3)).map(|_| 1 + random.below(4) as usize).collect();
        let numbers: Vec<String> = (0..shape.iter().product()).map(|_| number(&mut random)).collect();
        let integer = |text: &str| !text.contains(['.', 'e', 'E']);
        let single = read_numbers("float", &numbers, &shape, &mut random);
        let double = read_numbers("double", &numbers, &shape, &mut random);
        for ((text, single), double) in numbers.iter().zip(&single).zip(&double) {
            let zero = integer(text) && text.trim_start_matches('-') == "0";
            let text = if zero { "0" } else { text };
            assert_eq!(*single, text.parse::<f32>().unwrap().to_le_bytes(), "{text}");
            assert_eq!(*double, text.parse::<f64>().unwrap().to_le_bytes(), "{text}");
        }
    }
}

/// All numbers of the narrow formats are read, and every number between two of them goes to the
/// nearer one: halfway to the even pattern, and a digit far behind decides.
#[test]
fn narrow_floats_are_rounded_once() {
    let narrow = [
        "half",
        "bfloat16",
        "float8_e5m2",
        "float8_e4m3fn",
        "float8_e4m3fnuz",
        "float8_e4m3b11fnuz",
        "float8_e5m2fnuz",
        "float4_e2m1fn",
    ];
    let mut random = Random::new(3);
    for name in narrow {
        let dtype = DataType::parse(name).unwrap();
        let size = dtype.size().unwrap();
        let cast = Cast::new(dtype, DataType::DOUBLE, Exactness::Exact).unwrap();
        let value = |pattern: u32| {
            let mut out = Vec::new();
            cast.convert(&pattern.to_le_bytes()[..size], &mut out);
            f64::from_le_bytes(out[..8].try_into().unwrap())
        };
        let positive: u32 = if size == 2 {
            0x7fff
        } else if name == "float4_e2m1fn" {
            7
        } else {
            0x7f
        };
        let finite = (0..=positive).take_while(|pattern| value(*pattern).is_finite()).last().unwrap();
        let step = if size == 2 { 37 } else { 1 };
        for low in (0..finite).step_by(step) {
            let (below, above) = (value(low), value(low + 1));
            let half = f64::midpoint(below, above);
            let even = low + low % 2;
            // The exact decimal of the halfway point, and neighbours that a double cannot tell
            // apart.
            let exact = format!("{half:.160}");
            let mut texts = vec![
                (format!("{below:e}"), low),
                (exact.clone(), even),
                (format!("{exact}1"), low + 1),
                (format!("-{exact}0001"), low + 1),
                (format!("{:.170}1", half * (1.0 - 1e-10)), low),
            ];
            if half.fract() == 0.0 && half < 1e6 {
                // 19 digits, which are not read digit by digit.
                texts.push((format!("{half}.{:0>1$}", 1, 19 - format!("{half}").len()), low + 1));
            }
            let numbers: Vec<String> = texts.iter().map(|(text, _)| text.clone()).collect();
            let found = read_numbers(name, &numbers, &[numbers.len()], &mut random);
            for ((text, pattern), found) in texts.iter().zip(&found) {
                let sign =
                    if text.starts_with('-') { if size == 2 { 0x8000 } else { positive + 1 } } else { 0 };
                assert_eq!(*found, (pattern | sign).to_le_bytes()[..size], "{name} {text}");
            }
        }
    }
}

#[test]
fn integers_are_exact_to_the_ends_of_their_range() {
    let mut random = Random::new(5);
    for (name, min, max) in [
        ("int8", -128_i128, 127_i128),
        ("uint8", 0, 255),
        ("int16", -32768, 32767),
        ("uint16", 0, 65535),
        ("int32", i32::MIN.into(), i32::MAX.into()),
        ("uint32", 0, u32::MAX.into()),
        ("int64", i64::MIN.into(), i64::MAX.into()),
        ("uint64", 0, u64::MAX.into()),
        ("int4", -8, 7),
        ("uint4", 0, 15),
        ("int2", -2, 1),
        ("uint2", 0, 3),
        ("qint8", -128, 127),
        ("quint16", 0, 65535),
    ] {
        let size = DataType::parse(name).unwrap().size().unwrap();
        let values = [min, max, 0, max / 3, min / 3, 1];
        let written = |value: i128| {
            [format!("{value}"), format!("{value}.000"), format!("{value}e0"), format!("{value}.0E+0")]
        };
        let numbers: Vec<String> = values.iter().flat_map(|value| written(*value)).collect();
        let found = read_numbers(name, &numbers, &[numbers.len()], &mut random);
        for (index, found) in found.iter().enumerate() {
            assert_eq!(*found, values[index / 4].to_le_bytes()[..size], "{name} {}", numbers[index]);
        }
        for wrong in [min - 1, max + 1, max * 1_000_000_007] {
            for text in written(wrong) {
                let body = format!("{{\"inputs\":[{text}]}}");
                let findings = read_for(&[&format!("x:{name}:[-1]")], &body, &OPTIONS).unwrap_err();
                assert_eq!(findings.iter().next().unwrap().kind, Kind::OutOfRange, "{name} {text}");
            }
        }
    }
}

#[test]
fn a_body_cut_anywhere_is_an_error() {
    let body = r#" {"signature_name":"","instances":[{"x":[1.5,-2e3],"k":12345678901234,"s":"a\u00e9\n"}, {"s":{"b64":"AA=="},"x":[NaN,-Infinity],"k":-0}] , "y":{"z":[true,false,null]}}"#;
    let inputs = ["x:float:[-1,2]", "k:int64:[-1]", "s:string:[-1]"];
    assert!(read_for(&inputs, body, &OPTIONS).is_ok());
    for end in 0..body.len() {
        let findings = read_for(&inputs, &body[..end], &OPTIONS).unwrap_err();
        assert!(findings.iter().any(|finding| finding.kind == Kind::Syntax), "{}", &body[..end]);
    }
    // Any byte anywhere: no panic.
    let mut random = Random::new(11);
    for _ in 0..20_000 {
        let mut bytes = body.as_bytes().to_vec();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = b"[]{}\",:0e.-\\unN\0\xff"[random.below(17) as usize];
        }
        let signature = super::support::of(&inputs);
        let _ = crate::rest::read::read(&bytes, &|_| Some(signature.clone()), &OPTIONS);
    }
}

/// A name, and a body of about so many bytes.
type Maker = (&'static str, fn(usize) -> String);

fn time(body: &str, inputs: &[&str]) -> Duration {
    let start = Instant::now();
    let _ = read_for(inputs, body, &OPTIONS);
    start.elapsed()
}

/// Four times the body takes at most 16 times as long: quadratic work would take exactly that for
/// its part, and usually much more than four times what is measured.
#[test]
fn hostile_bodies_take_linear_time() {
    let two = ["k:int32:[-1]", "x:half:[-1,2]"];
    let makers: [Maker; 10] = [
        ("levels", |n| format!("{{\"inputs\":{{\"x\":{}", "[".repeat(n))),
        ("ignored levels", |n| format!("{{\"a\":{}", "[".repeat(n))),
        ("objects", |n| format!("{{\"inputs\":{{\"x\":{}", "{\"x\":".repeat(n / 5))),
        ("spaces", |n| format!("{{\"inputs\":{}1", " ".repeat(n))),
        ("keys", |n| format!("{{\"instances\":[{{{}\"k\":1}}]}}", "\"y\":1,".repeat(n / 6))),
        ("doubled keys", |n| format!("{{\"instances\":[{{{}\"k\":1}}]}}", "\"k\":1,".repeat(n / 6))),
        ("empty instances", |n| {
            format!("{{\"instances\":[{{\"k\":1,\"x\":[1,2]}}{}]}}", ",{}".repeat(n / 3))
        }),
        ("digits", |n| format!("{{\"inputs\":{{\"x\":[0.{}5]}}}}", "1".repeat(n))),
        ("halves", |n| {
            format!("{{\"inputs\":{{\"x\":[{}2]}}}}", "2049.0000000000000000000000,".repeat(n / 27))
        }),
        ("escapes", |n| format!("{{\"inputs\":{{\"x\":[{}2]}}}}", "{\"b64\":\"\\u0041\"},".repeat(n / 17))),
    ];
    for (name, make) in makers {
        let bodies = (make(100_000), make(400_000));
        let (mut small, mut large) = (Duration::MAX, Duration::MAX);
        // Another process can only make a round slower.
        let linear = (0..20).any(|_| {
            small = small.min(time(&bodies.0, &two));
            large = large.min(time(&bodies.1, &two));
            large < 16 * small + Duration::from_millis(20)
        });
        assert!(linear, "{name}: {small:?}, {large:?}");
    }
}
