//! Forms and their keys.
mod file;
mod forecast;
mod store;

use std::time::SystemTime;

use super::form::{Api, Form, Method};
use super::key::{Key, Request, Seen, key, mix_text};
use super::store::Counted;
use crate::repair::policy::ModelPolicy;
use crate::repair::{self, Limits, Outcome, Problem, Reason, Verdict, Warning, notation};
use crate::signature::Signatures;
use crate::wire::{PredictView, Rope};

const SEED: u64 = 0x1234_5678_9abc_def1;

/// A request in the notation, judged by a signature in the notation.
struct Judged {
    message: Rope,
    view: PredictView,
    verdict: Verdict,
}

impl Judged {
    fn new(signature: &str, request: &str) -> Self {
        Self::by(&notation::signature(signature).unwrap(), request)
    }

    fn by(signatures: &Signatures, request: &str) -> Self {
        let message = notation::request("m", request).unwrap();
        let view = PredictView::scan(&message).unwrap();
        let verdict = judge(signatures, &message, &view);
        Self { message, view, verdict }
    }

    fn seen(&self) -> Seen<'_> {
        Seen {
            client: 7,
            model: "m",
            version: 1,
            method: Method::Predict,
            api: Api::Grpc,
            raised: None,
            request: Request::Predict(&self.view),
            verdict: &self.verdict,
        }
    }

    fn key(&self) -> Key {
        key(SEED, &self.seen())
    }

    fn form(&self) -> Form {
        self.seen().form("app").unwrap()
    }

    /// Whether TF Serving gets a repaired request without an input that other signatures lack too.
    fn is_repaired_without_an_input_that_is_not_in(&self, old: &Signatures) -> bool {
        let Some(signature) =
            self.verdict.signature.as_ref().filter(|_| self.verdict.outcome == Outcome::Repaired)
        else {
            return false;
        };
        let sent = repair::apply(&self.message, &self.view, &self.verdict.plan).unwrap();
        let sent = PredictView::scan(&sent).unwrap();
        let name = self.view.model_spec.effective_signature();
        let old = repair::signature_of(name, old, &ModelPolicy::default());
        signature.inputs.iter().any(|info| {
            let was = old.as_ref().is_some_and(|old| old.input(&info.alias).is_some());
            !was && !info.has_default && sent.inputs.iter().all(|input| input.key != info.alias)
        })
    }

    fn counted(&self) -> Counted {
        let (form, sizes) = (self.form(), self.key().sizes);
        let time = SystemTime::UNIX_EPOCH;
        Counted { form, requests: 1, first: time, last: time, sizes }
    }
}

fn judge(signatures: &Signatures, message: &Rope, view: &PredictView) -> Verdict {
    let (policy, limits) = (&ModelPolicy::default(), Limits::default());
    repair::judge(&repair::Request { message, view, signatures, policy, limits, raised: None, text: None })
}

/// Whether requests have the same form; the keys must say the same.
fn same(signature: &str, one: &str, other: &str) -> bool {
    let (one, other) = (Judged::new(signature, one), Judged::new(signature, other));
    let same = one.form() == other.form();
    assert_eq!(one.key().hash == other.key().hash, same, "{:?} {:?}", one.form(), other.form());
    same
}

fn shape(signature: &str, request: &str) -> String {
    super::file::shape_text(&Judged::new(signature, request).form().inputs[0].shape)
}

#[test]
fn rows_are_one_or_more_or_as_many_as_declared() {
    for (signature, request, expected) in [
        ("x:float[-1,4]", "x:float[1,4]", "[1,4]"),
        ("x:float[-1,4]", "x:float[7,4]", "[N,4]"),
        ("x:float[-1,4]", "x:float[0,4]", "[0,4]"),
        ("x:float[8,4]", "x:float[8,4]", "[8,4]"),
        ("x:float[8,4]", "x:float[7,4]", "[N,4]"),
        ("x:float[-1,128]", "x:float[128]", "[128]"),
        ("x:float[-1,128]", "x:float[1,128]", "[1,128]"),
        ("x:float[-1,-1]", "x:float[3,9]", "[N,*]"),
        ("x:float[-1,-1]", "x:float[3,1]", "[N,1]"),
        ("x:float[-1,4]", "x:float[3,5]", "[N,5]"),
        ("x:float", "x:float[3,5]", "[N,5]"),
        ("x:float", "x:float[5]", "[5]"),
        ("x:float[]", "x:float[]", "[]"),
    ] {
        assert_eq!(shape(signature, request), expected, "{request} for {signature}");
    }
}

#[test]
fn a_form_is_what_tells_requests_apart_without_their_values() {
    let declared = "a:float[-1,4] b:int64[-1]";
    let one = "a:float[2,4] b:int64[2]";
    for other in [
        "a:float[3,4] b:int64[3]",
        "b:int64[2] a:float[2,4]",
        "a:float[2,4]{1,2,3,4,5,6,7,8} b:int64[2]{-7,900}",
    ] {
        assert!(same(declared, one, other), "{other}");
    }
    for other in [
        "a:float[2,4] b:int64[3]",
        "a:float[1,4] b:int64[1]",
        "a:double[2,4] b:int64[2]",
        "a:float[2,4]@float_val b:int64[2]",
        "a:float[2,4]@float_val=1 b:int64[2]",
        "a:float[2,4]@float_val=3 b:int64[2]",
        "a:float[2,4] b:int64[2] c:int64[2]",
        "a:float[2,4]",
        "@other a:float[2,4] b:int64[2]",
        "a:float[2,5] b:int64[2]",
    ] {
        assert!(!same(declared, one, other), "{other}");
    }
    // How the values are sent, each unlike every other.
    let sent = ["", "@float_val", "@float_val=1", "@float_val=3", "@float_val=9"];
    for (at, one) in sent.iter().enumerate() {
        for other in &sent[..at] {
            let (one, other) = (format!("a:float[2,4]{one}"), format!("a:float[2,4]{other}"));
            assert!(!same("a:float[-1,4]", &one, &other), "{one} {other}");
        }
    }
    assert!(!same("x:float[-1,128]", "x:float[128]", "x:float[1,128]"));
    // Sizes that are alike wrong, or that nothing is declared of.
    assert!(!same("x:float[-1,4]", "x:float[2,5]", "x:float[2,6]"));
    assert!(!same("x:float", "x:float[2,5]", "x:float[2,6]"));
    // Which of them differ, not by how much.
    let three = "a:float[-1] b:float[-1] c:float[-1]";
    assert!(same(three, "a:float[2] b:float[2] c:float[9]", "a:float[5] b:float[5] c:float[3]"));
    assert!(!same(three, "a:float[2] b:float[2] c:float[9]", "a:float[2] b:float[9] c:float[9]"));
}

#[test]
fn the_same_descriptors_with_another_verdict_are_another_form() {
    let declared = "x:int32[-1]";
    let fits = Judged::new(declared, "x:int64[2]{1,2}");
    let too_large = Judged::new(declared, "x:int64[2]{1,5000000000}");
    assert_ne!(fits.key().hash, too_large.key().hash);
    // A warning alone, and a problem alone, which the values may be the cause of.
    let plain = Judged::new(declared, "x:int32[2]{1,2}");
    let mut warned = Judged::new(declared, "x:int32[2]{1,2}");
    let (reason, input, text) = (Reason::BatchMismatch, "x".to_owned(), String::new());
    warned.verdict.warnings.push(Warning { reason, input, text });
    let mut wrong = Judged::new(declared, "x:int32[2]{1,2}");
    wrong.verdict.problems.push(Problem::new(Reason::CastOutOfRange, "x", ""));
    assert_ne!(warned.key().hash, plain.key().hash);
    assert_ne!(wrong.key().hash, plain.key().hash);
    assert_ne!(wrong.key().hash, warned.key().hash);
    assert_ne!(fits.form(), too_large.form());
    assert_eq!(too_large.form().findings[0].kind, "CAST_OUT_OF_RANGE");
}

#[test]
fn callers_models_and_versions_have_forms_of_their_own() {
    let judged = Judged::new("x:float[-1]", "x:float[1]");
    let seen = judged.seen();
    let of = |seen: Seen<'_>| key(SEED, &seen).hash;
    for other in [
        Seen { client: 8, ..seen },
        Seen { model: "other", ..seen },
        Seen { version: 2, ..seen },
        Seen { api: Api::Columns, ..seen },
        Seen { raised: Some(repair::Mode::Strict), ..seen },
    ] {
        assert_ne!(of(other), of(seen), "{other:?}");
    }
}

#[test]
fn every_byte_of_a_text_and_its_length_tell_keys_apart() {
    let mut known = std::collections::HashSet::new();
    for length in 0..40 {
        let text = vec![b'a'; length];
        for at in 0..=length {
            let mut text = text.clone();
            if let Some(byte) = text.get_mut(at) {
                *byte = b'b';
            }
            let text = String::from_utf8(text).unwrap();
            assert!(known.insert(mix_text(SEED, &text)), "{text}");
        }
    }
}
