//! The parts of the checks one by one, and the generated part of docs/preprocessing.md.
use crate::profile::{AnswerWatch, CONSTANT_AFTER, Kind, hash_values};

/// Compares the text between the marks of docs/preprocessing.md, or writes it when `UPDATE` is set.
pub(super) fn between_marks(text: &str) {
    const PATH: &str = "docs/preprocessing.md";
    const MARKS: (&str, &str) = ("<!-- corpus -->\n", "<!-- end of corpus -->\n");
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(PATH);
    let whole = std::fs::read_to_string(path).unwrap();
    let (before, rest) = whole.split_once(MARKS.0).expect("the first mark");
    let (_, after) = rest.split_once(MARKS.1).expect("the second mark");
    let expected = format!("{before}{}{text}{}{after}", MARKS.0, MARKS.1);
    crate::generated::assert_file(PATH, &expected);
}

#[test]
fn constant_and_broken_answers_are_found() {
    let mut watch = AnswerWatch::default();
    let mut out = Vec::new();
    watch.add(1, &[0.5, f64::NAN], true, &mut out);
    assert_eq!((out.len(), out[0].kind), (1, Kind::AnswerNotFinite));
    out.clear();
    // The same request again and again has the same answer.
    for _ in 0..1000 {
        watch.add(7, &[0.5, 0.25], true, &mut out);
    }
    // A label may be the same for all.
    for request in 0..1000 {
        watch.add(hash_values(&[f64::from(request)]), &[1.0], false, &mut out);
    }
    assert!(out.is_empty());
    for request in 0..2 * CONSTANT_AFTER {
        watch.add(hash_values(&[f64::from(request)]), &[0.125], true, &mut out);
    }
    assert_eq!(out.first().map(|finding| finding.kind), Some(Kind::AnswerConstant));
    out.clear();
    watch.add(3, &[0.126], true, &mut out);
    assert!(out.is_empty(), "another answer ends it");
}
