//! The work on a message is linear in its length, whatever its chunks and fields: eight times the
//! message takes about eight times as long, and not sixty-four times.
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use prost::bytes::Bytes;
use tfs_sidecar::repair::calls::{Calls, answer, requests};
use tfs_sidecar::repair::{Action, Limits, ModelPolicy, Outcome, Request, apply, judge, notation};
use tfs_sidecar::wire::infer::InferView;
use tfs_sidecar::wire::{PredictView, Rope};

use crate::support::engine;
use crate::support::requests::{field, number_field};

/// The larger message has this many times the fields.
const TIMES: usize = 8;
/// It may take this many times as long: quadratic work takes 64 times as long.
const BOUND: f64 = 26.0;
/// How long each is repeated.
const ENOUGH: Duration = Duration::from_millis(60);

/// In chunks of one byte.
fn crumbs(message: &[u8]) -> Rope {
    let bytes = Bytes::copy_from_slice(message);
    (0..bytes.len()).map(|at| bytes.slice(at..=at)).collect()
}

/// A request to model `m` with a tensor as input `x`.
fn request(dtype: u64, dims: &[usize], values: &[u8]) -> Vec<u8> {
    let dims: Vec<u8> = dims.iter().flat_map(|size| field(2, &number_field(1, *size as u64))).collect();
    let tensor = [number_field(1, dtype), field(2, &dims), values.to_vec()].concat();
    let entry = [field(1, b"x"), field(2, &tensor)].concat();
    [field(1, &field(1, b"m")), field(2, &entry)].concat()
}

/// Time that this thread has run, which other work on the machine does not disturb. The kernel
/// counts it in steps of some milliseconds.
fn now() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = stat.split_whitespace().next().and_then(|word| word.parse().ok());
    nanoseconds.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

fn is_linear(what: &str, small: impl Fn(), large: impl Fn()) {
    let once = |work: &dyn Fn()| {
        let since = now();
        let mut times = 0;
        loop {
            work();
            times += 1;
            let took = now().saturating_sub(since);
            if took >= ENOUGH {
                return took / times;
            }
        }
    };
    let (few, many): (Duration, Duration) = (once(&small), once(&large));
    let ratio = many.as_secs_f64() / few.as_secs_f64().max(1e-6);
    assert!(
        ratio < BOUND,
        "{what}: {TIMES} times the message takes {ratio:.0} times as long ({few:?}, {many:?})"
    );
}

/// Runs `work` on messages of `n` and `TIMES * n` fields.
fn check(what: &str, n: usize, message: impl Fn(usize) -> Vec<u8>, work: impl Fn(&Rope)) {
    let (small, large) = (crumbs(&message(n)), crumbs(&message(TIMES * n)));
    is_linear(what, || work(&small), || work(&large));
}

fn decide(message: &Rope, signature: &str) -> (Action, Outcome) {
    let signatures = notation::signature(signature).unwrap();
    let verdict = engine::decide(message, &signatures, &ModelPolicy::default()).unwrap();
    (verdict.action, verdict.outcome)
}

fn repaired(message: &Rope, signature: &str) -> Rope {
    let signatures = notation::signature(signature).unwrap();
    let policy = ModelPolicy::default();
    let view = PredictView::scan(message).unwrap();
    let verdict = judge(&Request {
        message,
        view: &view,
        signatures: &signatures,
        policy: &policy,
        limits: Limits::default(),
        raised: None,
        text: None,
    });
    assert_eq!(verdict.action, Action::Apply, "{:?}", verdict.problems);
    apply(message, &view, &verdict.plan).unwrap()
}

#[test]
fn packed_fields_of_one_value_are_scanned_cast_and_split_in_linear_time() {
    let message = |n: usize| request(9, &[n], &field(10, &[7]).repeat(n));
    check("scan", 4000, message, |rope| _ = PredictView::scan(rope).unwrap());
    check("repair", 1000, message, |rope| _ = repaired(rope, "x:int32[-1]"));
    let calls = |rows: usize| Calls::Split { rows: rows as i64, per_call: (rows / 50) as i64, whole: false };
    let n = 1000;
    let (small, large) = (crumbs(&message(n)), crumbs(&message(TIMES * n)));
    let split = |rope: &Rope, rows| _ = requests(rope, calls(rows)).unwrap();
    is_linear("split", || split(&small, n), || split(&large, TIMES * n));
}

#[test]
fn a_split_takes_one_pass_over_the_values_however_many_calls_there_are() {
    let rows = 64_000;
    for values in [field(10, &[7].repeat(rows)), field(10, &[7]).repeat(rows)] {
        let message = Rope::from(request(9, &[rows], &values));
        let split = |calls: usize| {
            let per_call = (rows / calls) as i64;
            _ = requests(&message, Calls::Split { rows: rows as i64, per_call, whole: false }).unwrap();
        };
        is_linear("calls", || split(2), || split(250));
    }
}

#[test]
fn strings_are_scanned_and_split_in_linear_time() {
    let message = |n: usize| request(7, &[n], &field(8, b"a").repeat(n));
    check("scan", 4000, message, |rope| _ = PredictView::scan(rope).unwrap());
    check("conforms", 4000, message, |rope| {
        assert_eq!(decide(rope, "x:string[-1]"), (Action::Forward, Outcome::Conforming));
    });
    let parts = |n: usize| {
        let calls = Calls::Split { rows: n as i64, per_call: n as i64 / 2, whole: false };
        requests(&crumbs(&message(n)), calls).unwrap()
    };
    let (small, large) = (parts(1000), parts(TIMES * 1000));
    // A request has outputs where an answer has its model spec, so nothing is joined but scanned.
    let join = |parts: &[(Rope, i64)]| drop(answer(parts, Calls::One));
    is_linear("join", || join(&small), || join(&large));
}

#[test]
fn many_inputs_are_judged_in_linear_time() {
    let named = |n: usize, name: &dyn Fn(usize) -> String| -> Vec<u8> {
        let entry = |at| field(2, &field(1, name(at).as_bytes()));
        [field(1, &field(1, b"m")), (0..n).flat_map(entry).collect()].concat()
    };
    let inputs = 2000;
    check(
        "unknown names",
        inputs,
        |n| named(n, &|at| format!("n{at}")),
        |rope| {
            assert_eq!(decide(rope, "x:float[-1]").0, Action::Refuse);
        },
    );
    check(
        "names with an affix",
        inputs,
        |n| named(n, &|at| format!("{at}_x")),
        |rope| {
            assert_eq!(decide(rope, "x:float[-1]").0, Action::Refuse);
        },
    );
    check(
        "one name many times",
        inputs,
        |n| named(n, &|_| "x".to_owned()),
        |rope| {
            assert_eq!(decide(rope, "x:float[-1]").0, Action::Refuse);
        },
    );
}

#[test]
fn a_signature_of_many_inputs_is_judged_and_repaired_in_linear_time() {
    let (n, large) = (250, 250 * TIMES);
    let signature = |n: usize| {
        let inputs: Vec<String> = (0..n).map(|at| format!("f{at}:float[-1]")).collect();
        notation::signature(&inputs.join(" ")).unwrap()
    };
    // Doubles, so that each is cast.
    let message = |n: usize| {
        let inputs: Vec<String> = (0..n).map(|at| format!("f{at}:double[1]")).collect();
        notation::request("m", &inputs.join(" ")).unwrap()
    };
    let policy = ModelPolicy::default();
    let work = |message: &Rope, signatures: &tfs_sidecar::signature::Signatures| {
        let view = PredictView::scan(message).unwrap();
        let limits = Limits::default();
        let verdict = judge(&Request {
            message,
            view: &view,
            signatures,
            policy: &policy,
            limits,
            raised: None,
            text: None,
        });
        assert_eq!(verdict.plan.steps.len(), view.inputs.len());
        apply(message, &view, &verdict.plan).unwrap();
    };
    let (few, many) = ((message(n), signature(n)), (message(large), signature(large)));
    is_linear("inputs", || work(&few.0, &few.1), || work(&many.0, &many.1));
}

#[test]
fn examples_are_counted_in_linear_time() {
    let message = |n: usize| field(2, &field(1, &field(1, b"").repeat(n)));
    check("classify", 4000, message, |rope| _ = InferView::scan_single(rope).unwrap());
}

#[test]
fn output_filters_are_checked_in_linear_time() {
    let (n, large) = (500, 500 * TIMES);
    let case = |n: usize| {
        let outputs: Vec<String> = (0..n).map(|at| format!("y{at}:float[-1]")).collect();
        let filter: Vec<u8> = (0..n).flat_map(|at| field(3, format!("y{at}").as_bytes())).collect();
        let message = [notation::request("m", "x:float[1]").unwrap().to_bytes().to_vec(), filter].concat();
        (Rope::from(message), notation::signature(&format!("x:float[-1] -> {}", outputs.join(" "))).unwrap())
    };
    let (few, many) = (case(n), case(large));
    let work = |(message, signatures): &(Rope, _)| {
        let verdict = engine::decide(message, signatures, &ModelPolicy::default()).unwrap();
        assert_eq!(verdict.outcome, Outcome::Conforming);
    };
    is_linear("filters", || work(&few), || work(&many));
}
