//! What a request brings, why it does not share a run, and which keys are equal.
use std::hash::RandomState;
use std::sync::LazyLock;

use super::*;

const IDS: &str = "ids:int64[-1,3] rate:float[] -> y:float[-1,2] mean:float[]";

fn message(text: &str) -> Rope {
    notation::request("m", text).unwrap()
}

fn of(signature: &str, message: &Rope) -> Result<Part, Bypass> {
    part(&self::signature(signature), message)
}

fn with(message: &Rope, more: &[u8]) -> Rope {
    let mut message = message.clone();
    message.append(Rope::from(more.to_vec()));
    message
}

/// An entry `x` of float [1,2] with these fields of the tensor after its shape.
fn x(fields: &[u8]) -> Rope {
    entry(2, "x", DataType::FLOAT, &Shape::from([1, 2]), &Rope::from(fields.to_vec()))
}

/// An entry `x` with these fields of the tensor.
fn around(tensor: Rope) -> Rope {
    let mut inside = emit::field(1, Rope::from(b"x".to_vec()));
    inside.append(emit::field(2, tensor));
    emit::field(2, inside)
}

#[test]
fn each_reason_against_a_request_is_found() {
    let y = "x:float[-1,2] -> y:float[-1,2] mean:float[]";
    let only_y = Rope::from(b"\x1a\x01y".to_vec());
    let ask = |text: &str, filter: &Rope| {
        let mut all = message(text);
        all.append(filter.clone());
        of(y, &all).map(|part| part.rows)
    };
    assert_eq!(ask("x:float[3,2]", &only_y), Ok(3));
    assert_eq!(ask("x:float[3,2]", &Rope::new()), Err(Bypass::OutputWithoutRows));
    assert_eq!(ask("x:float[3,2]", &Rope::from(b"\x1a\x04mean".to_vec())), Err(Bypass::OutputWithoutRows));
    assert_eq!(ask("x:float[3,2]", &Rope::from(b"\x1a\x01z".to_vec())), Err(Bypass::NotConforming));
    for (request, reason) in [
        ("x:float[0,2]", Bypass::ZeroRows),
        ("x:double[3,2]", Bypass::NotConforming),
        ("x:float[2]", Bypass::NotConforming),
        ("x:float[3,2]=5", Bypass::NotConforming),
        ("x:float[3,2]@float_val=7", Bypass::NotConforming),
        ("x:float[3,2]@double_val", Bypass::Encoding),
        ("z:float[3,2]", Bypass::NotConforming),
        ("x:float[3000,3000]@float_val{1}", Bypass::TooLarge),
        ("", Bypass::MissingInput),
    ] {
        assert_eq!(ask(request, &only_y), Err(reason), "{request}");
    }
    let two = "a:float[-1] b:float[-1] -> y:float[-1]";
    assert_eq!(of(two, &message("a:float[2] b:float[3]")).map(|part| part.rows), Err(Bypass::RowsDiffer));
    assert_eq!(of(two, &message("a:float[2]")).map(|part| part.rows), Err(Bypass::MissingInput));
    let text = "s:string[-1] -> y:float[-1]";
    assert_eq!(of(text, &message("s:string[3]{a,b}")).map(|part| part.rows), Err(Bypass::Encoding));
    let packed = entry(2, "s", DataType::STRING, &Shape::from([1]), &Rope::from(b"\x22\x02\x01a".to_vec()));
    assert_eq!(of(text, &packed).map(|part| part.rows), Err(Bypass::Encoding));
}

#[test]
fn anything_that_joining_would_lose_keeps_a_request_alone() {
    let signature = "x:float[-1,2] -> y:float[-1]";
    let content = [&[0x22, 8][..], &[0; 8]].concat();
    let plain = x(&content);
    assert_eq!(of(signature, &plain).map(|part| part.rows), Ok(1));
    let mut twice = plain.clone();
    twice.append(plain.clone());
    let list = [&[0x2a, 8][..], &[0; 8]].concat();
    // The same shape, with the name d for the second dimension.
    let named = [&[8, 1, 0x12, 11, 0x12, 2, 8, 1, 0x12, 5, 8, 2, 0x12, 1, b'd'][..], &content].concat();
    let named = around(Rope::from(named));
    for (what, message) in [
        ("an unknown field", with(&plain, &[0xba, 0x3e, 1, 7])),
        ("client_id", with(&plain, b"\x32\x01c")),
        ("an unknown field of the model spec", with(&plain, &[0x0a, 4, 0xba, 0x3e, 1, 7])),
        ("an entry that another replaces", twice),
        ("an unknown field of the tensor", x(&[&content[..], &[0xba, 0x3e, 1, 7]].concat())),
        ("version_number", x(&[&content[..], &[0x18, 1]].concat())),
        ("values in two fields", x(&[&content[..], &list].concat())),
        ("the name of a dimension", named),
        ("unknown_rank", x(&[&content[..], &[0x12, 2, 0x18, 1]].concat())),
    ] {
        assert_eq!(of(signature, &message).map(|part| part.rows), Err(Bypass::Encoding), "{what}");
    }
    let mut inside = emit::field(1, Rope::from(b"x".to_vec()));
    let tensor = emit::new_tensor(DataType::FLOAT, &Shape::from([1, 2]), &Rope::from(content));
    inside.append(emit::field(2, Rope::from(tensor)));
    inside.append(Rope::from(vec![0xba, 0x3e, 1, 7]));
    let entry = emit::field(2, inside);
    assert_eq!(
        of(signature, &entry).map(|part| part.rows),
        Err(Bypass::Encoding),
        "an unknown field of the entry"
    );
}

#[test]
fn what_expanding_allocates_is_known_before() {
    let signature = signature(IDS);
    for (text, bytes) in [
        ("ids:int64[2,3] rate:float[]", 0),
        ("ids:int64[2,3]@int64_val rate:float[]@float_val", 48),
        ("ids:int64[2,3]@int64_val{7} rate:float[]", 48),
        ("ids:int64[1000000,3]@int64_val{7} rate:float[]", 24_000_000),
        ("ids:int64[4611686018427387904,3]@int64_val{7} rate:float[]", 0),
    ] {
        let message = with(&message(text), b"\x1a\x01y");
        let view = PredictView::scan(&message).unwrap();
        assert_eq!(expansion(&view), bytes, "{text}");
        let part = Part::of(&signature, &message, &view);
        assert_eq!(part.is_ok(), bytes <= 1 << 24 && !text.contains("4611"), "{text}");
    }
    let fill = with(&message("s:string[1000000000]{abc}"), b"");
    assert_eq!(expansion(&PredictView::scan(&fill).unwrap()), 5_000_000_000);
}

static STATE: LazyLock<RandomState> = LazyLock::new(RandomState::new);

fn key_of(signature: &str, text: &str, filter: &[u8], metadata: &[(&[u8], &[u8])]) -> u128 {
    let message = with(&message(text), filter);
    let view = PredictView::scan(&message).unwrap();
    let part = Part::of(&self::signature(signature), &message, &view).unwrap();
    key(&*STATE, &view, &part, metadata)
}

#[test]
fn requests_that_mean_the_same_have_equal_keys() {
    let y = b"\x1a\x01y";
    let one = key_of(IDS, "ids:int64[2,3] rate:float[]", y, &[(b"tenant", b"a")]);
    for text in [
        "ids:int64[1,3] rate:float[]",
        "rate:float[]@float_val ids:int64[2,3]@int64_val{1,2,3,4,5,6}",
        "ids:int64[9,3]@int64_val{5} rate:float[]",
        "@serving_default ids:int64[1,3] rate:float[]",
    ] {
        assert_eq!(key_of(IDS, text, y, &[(b"tenant", b"a")]), one, "{text}");
    }
}

#[test]
fn requests_that_differ_in_anything_but_rows_have_different_keys() {
    let both = "ids:int64[-1,-1] rate:float[] -> y:float[-1,2] z:float[-1]";
    let text = "ids:int64[2,3] rate:float[]";
    let mut keys = vec![
        key_of(both, text, b"", &[]),
        key_of(both, text, b"\x1a\x01y", &[]),
        key_of(both, text, b"\x1a\x01z", &[]),
        key_of(both, text, b"\x1a\x01y\x1a\x01z", &[]),
        key_of(both, text, b"\x1a\x01z\x1a\x01y", &[]),
        key_of(both, "ids:int64[2,4] rate:float[]", b"", &[]),
        key_of(both, "ids:int64[2,3] rate:float[]{0.5}", b"", &[]),
        key_of(both, text, b"", &[(b"tenant", b"a")]),
        key_of(both, text, b"", &[(b"tenant", b"b")]),
        key_of(both, text, b"", &[(b"tenan", b"ta")]),
        key_of(both, text, b"", &[(b"tenant", b""), (b"a", b"")]),
        key_of(both, text, b"", &[(b"tenant", b"a"), (b"", b"")]),
        key_of("ids:int64[-1,-1,-1] rate:float[] -> y:float[-1]", "ids:int64[2,3,1] rate:float[]", b"", &[]),
        key_of("ids:int32[-1,-1] rate:float[] -> y:float[-1]", "ids:int32[2,3] rate:float[]", b"", &[]),
        key_of("a:float[-1] b:float[] -> y:float[-1]", "a:float[1] b:float[]", b"", &[]),
        key_of("a:float[-1] b:float[-1] -> y:float[-1]", "a:float[1] b:float[1]", b"", &[]),
        key_of("a:float[] b:float[-1] -> y:float[-1]", "a:float[] b:float[1]", b"", &[]),
    ];
    let part = of("ids:int64[-1,-1] rate:float[] -> y:float[-1]", &message(text)).unwrap();
    let view = |version, name: &str| {
        let mut view = PredictView::default();
        (view.model_spec.version, view.model_spec.signature_name) = (version, name.to_owned());
        view
    };
    for (version, name) in [
        (VersionChoice::Version(0), ""),
        (VersionChoice::Version(3), ""),
        (VersionChoice::Label("3".to_owned()), ""),
        (VersionChoice::Label("stable".to_owned()), ""),
        (VersionChoice::Latest, "other"),
    ] {
        keys.push(key(&*STATE, &view(version, name), &part, &[]));
    }
    let distinct: std::collections::HashSet<&u128> = keys.iter().collect();
    assert_eq!(distinct.len(), keys.len());
    assert_ne!(
        key(&RandomState::new(), &view(VersionChoice::Latest, ""), &part, &[]),
        keys[0],
        "it is keyed"
    );
}

#[test]
fn long_names_and_values_count_to_their_end() {
    let signature = "x:float[-1] s:string[] -> y:float[-1]";
    let of = |text: &str| key_of(signature, &format!("x:float[1] s:string[]{{{text}}}"), b"", &[]);
    let long = "a".repeat(1000);
    assert_eq!(of(&long), of(&long));
    assert_ne!(of(&long), of(&format!("{}b", "a".repeat(999))));
    assert_ne!(of(&long), of(&"a".repeat(1001)));
}

#[test]
fn joining_copies_no_value() {
    let signature = signature("x:float[-1,128] s:string[-1] -> y:float[-1]");
    let mut parts = Vec::new();
    let mut sent = Vec::new();
    for carrier in [Carrier::Content, Carrier::Packed] {
        let values = vec![vec![7; 4]; 128];
        let mut message = entry(
            2,
            "x",
            DataType::FLOAT,
            &Shape::from([1, 128]),
            &encoded(DataType::FLOAT, &values, carrier),
        );
        let text = encoded(DataType::STRING, &[vec![b't'; 500]], Carrier::Packed);
        message.append(entry(2, "s", DataType::STRING, &Shape::from([1]), &text));
        let message = Rope::from(message.to_bytes());
        parts.push(part(&signature, &message).unwrap());
        sent.push(message.to_bytes());
    }
    let all: Vec<&Part> = parts.iter().collect();
    let joined = join(&signature, &all, 4);
    let owned = |chunk: &Bytes| sent.iter().any(|message| message.as_ptr_range().contains(&chunk.as_ptr()));
    let fresh: usize = joined.segments().iter().filter(|chunk| !owned(chunk)).map(Bytes::len).sum();
    assert!(fresh < 60, "{fresh} new bytes");
    let inputs = request(&joined).inputs;
    assert_eq!(inputs["x"].tensor_content, vec![7; 4 * 128 * 4]);
    assert_eq!(inputs["s"].string_val, vec![vec![b't'; 500]; 4]);
}

#[test]
fn a_fixed_batch_is_joined_like_any_other() {
    let signature = signature("x:float[4,2] -> y:float[4]");
    assert_eq!(sharable(&signature, true), Ok(Fixed::Rows(4)));
    let parts =
        ["x:float[1,2]{1,2}", "x:float[2,2]{3,4,5,6}"].map(|text| part(&signature, &message(text)).unwrap());
    let joined = request(&join(&signature, &[&parts[0], &parts[1]], 4));
    assert_eq!(joined.model_spec.unwrap().name, "m");
    let expected: Vec<u8> =
        [1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0, 5.0, 6.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    assert_eq!(
        (dims(&joined.inputs["x"]), &joined.inputs["x"].tensor_content[..]),
        (vec![4, 2], &expected[..])
    );
}

#[test]
fn the_joined_request_asks_for_the_outputs_of_its_members() {
    let signature = signature(IDS);
    let message = with(&message("ids:int64[1,3] rate:float[]{0.5}"), b"\x1a\x01y");
    let part = part(&signature, &message).unwrap();
    let joined = request(&join(&signature, &[&part, &part], 2));
    assert_eq!(joined.output_filter, ["y"]);
    assert_eq!(joined.inputs["rate"].tensor_content, 0.5_f32.to_le_bytes().to_vec());
    assert!(dims(&joined.inputs["rate"]).is_empty());
}

#[test]
fn a_run_of_copies_has_the_rows_of_a_part_where_its_run_has_them() {
    let signature = signature("x:float[-1,2] s:string[-1] k:float[] -> y:float[-1]");
    for chunk in [1, 7, 1000] {
        let sent = chunked(&message("x:float[3,2]{1,2,3,4,5,6} s:string[3]{a,bb,ccc} k:float[]{7}"), chunk);
        let part = part(&signature, &sent).unwrap();
        for (offset, rows) in [(0, 3), (1, 4), (2, 9), (5, 8), (6, 9), (4, 64)] {
            let copies = request(&copies(&signature, &part, offset, rows));
            let of = |key: &str| elements(&copies.inputs[key]);
            let row = |at: u64| ((at + 3 - offset % 3) % 3) as usize;
            let x: Vec<_> = (0..rows)
                .flat_map(|at| [1.0, 2.0].map(|add| 2.0 * row(at) as f32 + add))
                .map(|value: f32| value.to_le_bytes().to_vec())
                .collect();
            assert_eq!(of("x"), x, "{offset} {rows}");
            let s: Vec<_> = (0..rows).map(|at| ["a", "bb", "ccc"][row(at)].as_bytes().to_vec()).collect();
            assert_eq!(of("s"), s, "{offset} {rows}");
            assert_eq!(of("k"), [7.0_f32.to_le_bytes().to_vec()]);
            assert_eq!(dims(&copies.inputs["x"]), [rows as i64, 2]);
        }
    }
}

#[test]
fn a_run_of_equal_rows_is_known() {
    let signature = signature("x:float[-1,2] -> y:float[-1]");
    let part = |text: &str| part(&signature, &message(text)).unwrap();
    let (one, two) = (part("x:float[1,2]{1,2}"), part("x:float[2,2]{1,2,1,2}"));
    let other = part("x:float[2,2]{1,2,1,3}");
    assert!(is_of_copies(&signature, &[&one, &two, &one], 8));
    assert!(is_of_copies(&signature, &[&other, &other], 4));
    assert!(!is_of_copies(&signature, &[&one, &other], 3));
    assert!(is_of_copies(&signature, &[&other, &one], 3));
    assert!(!is_of_copies(&signature, &[&other, &two], 4));
}
