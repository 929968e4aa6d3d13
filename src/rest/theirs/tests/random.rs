//! Random changes of recorded bodies, and bodies made to take long.
use std::time::{Duration, Instant};

use super::models::{ALL, Exchange};
use super::rules::signatures;
use crate::rest::json::{self, Event, Walk};
use crate::rest::random::Random;
use crate::rest::theirs::{Document, Refusal, decimal, examples, refusal};
use crate::tensor::DataType;

/// What becomes of a body: the refusal, or the message of a Classify or Regress body.
fn outcome(record: &Exchange, body: &[u8]) -> Result<Vec<u8>, Refusal> {
    if record.method != "predict" {
        return examples(body, |_| Vec::new(), usize::MAX).map(|read| read.message.to_bytes().to_vec());
    }
    let refused = match ALL.models.get(&record.model) {
        Some(signatures) => refusal(body, signatures),
        None => Document::read(body).err(),
    };
    refused.map_or(Ok(Vec::new()), Err)
}

fn records(longest: usize) -> impl Iterator<Item = &'static Exchange> {
    ALL.records.iter().filter(move |record| record.body.len() <= longest)
}

#[test]
fn no_change_of_a_body_panics() {
    const PARTS: &[&[u8]] = &[
        b"[",
        b"]",
        b"{",
        b"}",
        b",",
        b":",
        b"\"",
        b"\\",
        b"\\u",
        b"\\ud800",
        b"0",
        b"1",
        b"-",
        b".",
        b"e9",
        b"e-999999999999",
        b"NaN",
        b"Infinity",
        b"null",
        b"true",
        b"false",
        b" ",
        b"\n",
        b"\0",
        b"\xff",
        b"=",
        b"\xef\xbb\xbf",
        b"\"b64\"",
        b"{\"b64\":\"AAAA\"}",
        b"\"instances\":",
        b"\"inputs\":",
        b"18446744073709551616",
        b"\"signature_name\":",
        b"1e308",
        b"[[[[",
        b"{\"x\":",
    ];
    let mut random = Random::new(0x5eed);
    let (mut refused, mut passed) = (0, 0);
    for record in records(2_000) {
        for _ in 0..12 {
            let mut body = record.body.clone();
            for _ in 0..=random.below(3) {
                let at = random.below(body.len() as u64 + 1) as usize;
                let end = body.len().min(at + random.below(4) as usize);
                body.splice(at..end, random.of(PARTS).iter().copied());
            }
            match outcome(record, &body) {
                Ok(_) => passed += 1,
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 10_000 && passed > 400, "{refused} refused, {passed} passed");
}

#[test]
fn every_truncation_is_refused() {
    let mut count = 0;
    for record in records(300).filter(|record| outcome(record, &record.body).is_ok()) {
        let end = json::check(&record.body).unwrap().end;
        for length in 0..end {
            assert!(outcome(record, &record.body[..length]).is_err(), "{} at {length}", record.id);
        }
        count += 1;
    }
    assert!(count > 600, "{count}");
}

#[test]
fn white_space_between_tokens_changes_nothing() {
    let mut random = Random::new(0xb1a5);
    let mut count = 0;
    for record in records(2_000).filter(|record| json::check(&record.body).is_ok()) {
        let spaced = spaced(&record.body, &mut random);
        assert_eq!(outcome(record, &record.body), outcome(record, &spaced), "{}", record.id);
        count += 1;
    }
    assert!(count > 1_200, "{count}");
}

/// Puts white space around the brackets, commas and colons of a document.
fn spaced(document: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut in_string, mut escaped) = (false, false);
    for byte in document {
        let structural = !in_string && b"[]{},:".contains(byte);
        let mut spaces = |out: &mut Vec<u8>| {
            while structural && random.below(2) == 0 {
                out.push(*random.of(b" \t\r\n"));
            }
        };
        spaces(&mut out);
        out.push(*byte);
        spaces(&mut out);
        if *byte == b'"' && !escaped {
            in_string = !in_string;
        }
        escaped = in_string && *byte == b'\\' && !escaped;
    }
    out
}

/// Anything that is quadratic takes far longer for these.
#[test]
fn bodies_that_are_made_to_take_long_take_linear_time() {
    let many = |text: &str, count: usize| text.repeat(count);
    let predict = |value: String| format!("{{\"instances\":[{value}]}}");
    let example = |value: String| format!("{{\"examples\":[{value}]}}");
    let names: Vec<String> = (0..30_000).map(|name| format!("\"{name}\":1,")).collect();
    let names = names.concat();
    let bodies = [
        many("[", 200_000),
        many("{\"a\":", 60_000),
        many(" ", 400_000),
        many("\\", 200_000),
        format!("\"{}", many("\\u0041", 40_000)),
        format!("{{{}\"instances\":[1]}}", many("\"instances\\u0000\":1,", 12_000)),
        format!("{{{}\"instances\":[1]}}", many("\"a\": 1,", 40_000)),
        format!("{{\"inputs\":{{{}\"x\":1}}}}", many("\"x\":1,", 40_000)),
        predict(many("1", 200_000)),
        predict(format!("0.{}", many("1", 200_000))),
        predict(format!("1e-{}", many("1", 200_000))),
        predict(format!("{}1{}", many("[", 15_000), many("]", 15_000))),
        predict(format!("[{}1]", many("1,", 100_000))),
        predict(format!("{}\"\"", many("1,", 100_000))),
        predict(format!("[[{}1],2]", many("[1],", 40_000))),
        predict(format!("{}{{}}", many("[],", 60_000))),
        predict(format!("{}1", many("[1,[2,[3]]],", 20_000))),
        predict(format!("{{{}\"x\":1}}", many("\"x\":1,", 40_000))),
        predict(format!("{{\"x\":{}1{}}}", many("{\"x\":", 30_000), many("}", 30_000))),
        predict(many("{\"b64\":\"AAAA\"},", 12_000) + "1"),
        predict(format!("\"{}\"", many("\\u0001", 40_000))),
        example(format!("{{{names}\"x\":1}},{}{{}}", many("{\"a\":1},", 20_000))),
        example(many("{},", 60_000) + "{}"),
        example(format!("{{\"x\":[{}1]}}", many("1,", 100_000))),
        example(format!("{{\"x\":[{}\"\"]}}", many("\"\\u0041\",", 20_000))),
    ];
    let signatures = signatures(&[("x", DataType::FLOAT)]);
    let strings = self::signatures(&[("x", DataType::STRING)]);
    for body in bodies {
        let start = Instant::now();
        let body = body.as_bytes();
        let _ = refusal(body, &signatures);
        let _ = refusal(body, &strings);
        let _ = examples(body, |_| Vec::new(), usize::MAX);
        let elapsed = start.elapsed();
        let head = String::from_utf8_lossy(&body[..body.len().min(40)]);
        assert!(elapsed < Duration::from_secs(30), "{head} took {elapsed:?}");
    }
}

#[test]
fn quoted_doubles_read_back_as_the_same() {
    let mut random = Random::new(0xd0b1e);
    for _ in 0..100_000 {
        let value = f64::from_bits(random.below(1 << 40) << 24 ^ random.below(1 << 40));
        if !value.is_finite() {
            continue;
        }
        let mut text = Vec::new();
        decimal::put(&mut text, value);
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits(), "{value:e} as {text}");
        assert_eq!(json::check(text.as_bytes()), Ok(0..text.len()));
    }
}

/// A check and a walk agree about where a document ends.
#[test]
fn a_walk_ends_where_the_check_found_the_end() {
    for record in records(2_000) {
        let Ok(span) = json::check(&record.body) else { continue };
        let mut walk = Walk::at(&record.body, span.start);
        let mut open = 0_usize;
        loop {
            match walk.step() {
                Event::StartArray | Event::StartObject => open += 1,
                Event::EndArray | Event::EndObject => open -= 1,
                event => assert_ne!(event, Event::End, "{}", record.id),
            }
            if open == 0 {
                break;
            }
        }
        assert_eq!(walk.since(span.start).len(), span.len(), "{}", record.id);
    }
}
