//! Compares every cast with NumPy and ml_dtypes, using tests/fixtures/casts/ (see its generate.py).
use std::collections::HashMap;

use super::lanes::BLOCK;
use super::{Cast, Exactness, FaultKind, Relation, relation};
use crate::tensor::DataType;

const CASTS: &str = include_str!("../../../tests/fixtures/casts/casts.txt");

/// A line of the fixture: a pair of dtypes, values, and the result of each.
struct Line {
    from: DataType,
    to: DataType,
    values: Vec<Vec<u8>>,
    /// The verdict's letter and the bytes of the result.
    results: Vec<(char, Vec<u8>)>,
}

impl Line {
    fn cast(&self, exactness: Exactness) -> Cast {
        Cast::new(self.from, self.to, exactness).unwrap()
    }
}

fn lines() -> Vec<Line> {
    let dtype = |name: &str| DataType::parse(name).unwrap();
    let mut values = HashMap::new();
    let mut lines = Vec::new();
    for line in CASTS.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["values", name, hex @ ..] => {
                values.insert(dtype(name), hex.iter().map(|hex| bytes(hex)).collect::<Vec<_>>());
            }
            ["cast", from, to, results @ ..] => {
                let (from, to) = (dtype(from), dtype(to));
                let results =
                    results.iter().map(|word| (word.chars().next().unwrap(), bytes(&word[1..]))).collect();
                lines.push(Line { from, to, values: values[&from].clone(), results });
            }
            _ => panic!("{line}"),
        }
    }
    lines
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn converted(cast: Cast, src: &[u8]) -> Vec<u8> {
    let mut dst = Vec::new();
    cast.convert(src, &mut dst);
    dst
}

fn kind(cast: Cast, src: &[u8]) -> Option<FaultKind> {
    cast.check(src).err().map(|fault| fault.kind)
}

fn is_nan(dtype: DataType, value: &[u8]) -> bool {
    let wide = converted(Cast::new(dtype, DataType::COMPLEX128, Exactness::Exact).unwrap(), value);
    wide.chunks(8).any(|part| f64::from_le_bytes(part.try_into().unwrap()).is_nan())
}

#[test]
fn the_fixture_has_every_cast() {
    let pairs = DataType::all().flat_map(|from| DataType::all().map(move |to| (from, to)));
    let expected: Vec<_> = pairs.filter(|(from, to)| from != to && relation(*from, *to).is_some()).collect();
    let mut found: Vec<_> = lines().iter().map(|line| (line.from, line.to)).collect();
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn every_value_is_kept_or_refused_as_in_numpy() {
    for line in lines() {
        let (exact, round) = (line.cast(Exactness::Exact), line.cast(Exactness::Round));
        let widens = relation(line.from, line.to) == Some(Relation::Widens);
        assert_eq!(line.values.len(), line.results.len());
        for (value, (verdict, result)) in line.values.iter().zip(&line.results) {
            let place = format!("{} -> {}: {}", line.from, line.to, exact.print(value));
            let (in_exact, in_round) = match verdict {
                'e' | 'n' => (None, None),
                'r' => (Some(FaultKind::Inexact), None),
                'i' => (Some(FaultKind::Inexact), Some(FaultKind::Inexact)),
                'o' => (Some(FaultKind::OutOfRange), Some(FaultKind::OutOfRange)),
                _ => panic!("{verdict}"),
            };
            assert!(!widens || in_exact.is_none(), "{place}");
            assert_eq!(kind(exact, value), in_exact, "{place}");
            assert_eq!(kind(round, value), in_round, "{place}");
            match verdict {
                'e' | 'r' => assert_eq!(converted(round, value), *result, "{place}"),
                'n' => assert!(is_nan(line.to, &converted(round, value)), "{place}"),
                _ => assert_eq!(converted(round, value).len(), round.to_size(), "{place}"),
            }
        }
    }
}

#[test]
fn kernels_agree_with_the_lanes() {
    for line in lines() {
        for exactness in [Exactness::Exact, Exactness::Round] {
            let fast = line.cast(exactness);
            let Some(kernel) = fast.kernel else { continue };
            let wide = Cast { kernel: None, ..fast };
            for (value, (verdict, _)) in line.values.iter().zip(&line.results) {
                let place = format!("{} -> {}: {}", line.from, line.to, fast.print(value));
                assert_eq!(kernel.test(exactness)(value), kind(wide, value).is_none(), "{place}");
                if "er".contains(*verdict) {
                    assert_eq!(converted(fast, value), converted(wide, value), "{place}");
                }
            }
        }
    }
}

#[test]
fn a_long_tensor_is_cast_like_its_elements() {
    for line in lines() {
        let cast = line.cast(Exactness::Round);
        let passes = |verdict: char| "ern".contains(verdict);
        let good: Vec<u8> = (line.values.iter().zip(&line.results).cycle())
            .filter(|(_, (verdict, _))| passes(*verdict))
            .flat_map(|(value, _)| value.iter().copied())
            .take((BLOCK + 3) * cast.from_size())
            .collect();
        let place = format!("{} -> {}", line.from, line.to);
        assert_eq!(cast.check(&good), Ok(()), "{place}");
        let singly: Vec<u8> =
            good.chunks(cast.from_size()).flat_map(|value| converted(cast, value)).collect();
        assert_eq!(converted(cast, &good), singly, "{place}");

        let bad = line.values.iter().zip(&line.results).find(|(_, (verdict, _))| !passes(*verdict));
        if let Some((bad, _)) = bad {
            let fault = cast.check(&[&good, bad.as_slice(), &good, bad].concat()).unwrap_err();
            assert_eq!((fault.index, fault.value), (BLOCK + 3, cast.print(bad)), "{place}");
        }
    }
}
