//! The scanner without a model.
use super::*;

#[track_caller]
fn fails(body: &str, kind: SyntaxErrorKind, at: usize) {
    assert_eq!(check(body.as_bytes()), Err(SyntaxError { kind, at }), "{body}");
}

fn number(text: &str) -> Number {
    match Walk::at(text.as_bytes(), 0).step() {
        Event::Number(number) => number,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn the_first_value_is_the_document() {
    assert_eq!(check(b" [1] x"), Ok(1..4));
    assert_eq!(check(b"{}}"), Ok(0..2));
    assert_eq!(check(b"1 2"), Ok(0..1));
    assert_eq!(check(b"\xef\xbb\xbf null"), Ok(4..8));
    for part in [b"\xef[]".as_slice(), b"\xbb[]", b"\xbf[]", b"\xef\xbf[]"] {
        assert!(check(part).is_ok(), "RapidJSON skips each byte of the mark for itself");
    }
    fails("\u{bf}", SyntaxErrorKind::Value, 0);
}

#[test]
fn errors_are_where_rapidjson_reports_them() {
    use SyntaxErrorKind as Kind;
    for (body, kind, at) in [
        ("", Kind::Empty, 0),
        ("\0", Kind::Empty, 0),
        ("]", Kind::Empty, 0),
        ("x", Kind::Value, 0),
        ("[,", Kind::Value, 1),
        ("[1,]", Kind::Value, 3),
        ("[1}", Kind::CommaOrBracket, 2),
        ("[1\0]", Kind::CommaOrBracket, 2),
        ("{]", Kind::MemberName, 1),
        ("{\"a\"}", Kind::Colon, 4),
        ("{\"a\":}", Kind::Value, 5),
        ("{\"a\":1]", Kind::CommaOrBrace, 6),
        ("{\"a\":1,}", Kind::MemberName, 7),
        ("tru", Kind::Value, 3),
        ("\"\\ud800\\u0041\"", Kind::Surrogate, 1),
        ("\"\\ud800\\u00\"", Kind::Hex, 1),
        ("\"a", Kind::Quote, 2),
        ("\"\u{1}", Kind::Escape, 1),
        ("1.", Kind::Fraction, 2),
        ("-1e+", Kind::Exponent, 4),
        (" 1e309", Kind::TooBig, 1),
        ("-", Kind::Value, 1),
        ("Na", Kind::Value, 2),
        ("Infin", Kind::Value, 5),
    ] {
        fails(body, kind, at);
    }
    let error = check(b"{").unwrap_err();
    assert_eq!(error.to_string(), "Missing a name for object member. at offset: 1");
}

#[test]
fn brackets_match_over_any_depth() {
    let depth = 1_000;
    let open: String = (0..depth).map(|level| if level % 3 == 0 { "{\"a\":" } else { "[" }).collect();
    let close: String = (0..depth).rev().map(|level| if level % 3 == 0 { "}" } else { "]" }).collect();
    assert_eq!(check(format!("{open}1{close}").as_bytes()), Ok(0..open.len() + 1 + close.len()));
    for wrong in 0..depth {
        let mut close = close.clone().into_bytes();
        close[wrong] = if close[wrong] == b'}' { b']' } else { b'}' };
        let body = [open.as_bytes(), b"1", &close].concat();
        assert_eq!(check(&body).unwrap_err().at, open.len() + 1 + wrong);
    }
}

#[test]
fn numbers_have_the_kind_that_holds_them() {
    assert_eq!(number("-0"), Number::Unsigned(0));
    assert_eq!(number("18446744073709551615"), Number::Unsigned(u64::MAX));
    assert_eq!(number("18446744073709551616"), Number::Double(18_446_744_073_709_551_616.0));
    assert_eq!(number("-9223372036854775808"), Number::Negative(i64::MIN));
    assert_eq!(number("-9223372036854775809"), Number::Double(-9_223_372_036_854_775_808.0));
    assert_eq!(number("1e2"), Number::Double(100.0));
    assert_eq!(number("1.5E-1"), Number::Double(0.15));
    assert_eq!(number("1e-400"), Number::Double(0.0));
    assert_eq!(number("1e-310"), Number::Double(0.0), "subnormal numbers become zero");
    assert_eq!(number("1.7976931348623158e308"), Number::Double(f64::INFINITY));
    assert_eq!(number("-Inf"), Number::Double(f64::NEG_INFINITY));
    assert_eq!(number("NInf"), Number::Double(f64::INFINITY), "as in reader.h of 1.1.0");
    assert_eq!(number("NaN.5"), Number::Double(0.5), "as in reader.h of 1.1.0");
    assert!(matches!(number("-NaN"), Number::Double(value) if value.is_nan()));
}

#[test]
fn integers_fit_int64_or_not() {
    for (text, value) in [
        ("0", Some(0)),
        ("9223372036854775807", Some(i64::MAX)),
        ("9223372036854775808", None),
        ("-9223372036854775808", Some(i64::MIN)),
        ("1.0", None),
    ] {
        assert_eq!(number(text).to_i64(), value);
    }
}

#[test]
fn escapes_are_decoded() {
    let unescaped = |text: &str| {
        let body = format!("\"{text}\"");
        check(body.as_bytes()).unwrap();
        let Event::String(text) = Walk::at(body.as_bytes(), 0).step() else { panic!("{body}") };
        assert!(text.is(&text.unescaped()));
        text.unescaped().into_owned()
    };
    assert_eq!(unescaped(r#"a\"\\\/\b\f\n\r\tz"#), b"a\"\\/\x08\x0c\n\r\tz");
    assert_eq!(unescaped(r"\u0041\u00e9\u20ac\ud83d\ude00"), "A\u{e9}\u{20ac}\u{1f600}".as_bytes());
    assert_eq!(unescaped(r"\udc00"), b"\xed\xb0\x80", "a lone low surrogate is kept");
    assert_eq!(unescaped("\u{e9}"), "\u{e9}".as_bytes());
}

#[test]
fn a_walk_tells_names_from_strings() {
    let mut walk = Walk::at(b"{\"a\" : [\"b\", null , true], \"c\":{}}", 0);
    let mut kinds = Vec::new();
    loop {
        let kind = walk.peek();
        let event = walk.step();
        let name = matches!(event, Event::Key(_));
        kinds.push((kind.name(), name));
        if event == Event::End || kinds.len() > 20 {
            break;
        }
    }
    let names = kinds.iter().filter(|(_, name)| *name).count();
    assert_eq!((kinds.len(), names), (12, 2));
    let mut walk = Walk::at(b"[[1, {\"a\": [2]}], 3]", 1);
    walk.skip();
    assert_eq!(walk.step(), Event::Number(Number::Unsigned(3)));
}
