//! Whether an answer is right: its values, its repairs, its warnings, and its reason if it failed.
use crate::request::{Act, Door, Sent};
use crate::upstream::ECHO;
use crate::world::{Meanwhile, Mode};

pub(crate) const INVALID_ARGUMENT: i32 = 3;
pub(crate) const DEADLINE_EXCEEDED: i32 = 4;
pub(crate) const RESOURCE_EXHAUSTED: i32 = 8;
pub(crate) const UNAVAILABLE: i32 = 14;

/// An answer of either listener.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The gRPC code, also over REST.
    pub(crate) code: i32,
    pub(crate) text: String,
    /// All values of the output, row by row; none if it failed.
    pub(crate) values: Vec<f64>,
    pub(crate) repairs: Vec<String>,
    pub(crate) warnings: Vec<String>,
    /// The version that answered, where the answer says it.
    pub(crate) version: Option<i64>,
    /// Whether it shared a run with others.
    pub(crate) shared: bool,
}

impl Answer {
    /// Whether TF Serving refused the request, and not the sidecar.
    pub(crate) fn is_theirs(&self) -> bool {
        self.text.contains("Expects arg[0] to be")
    }
}

/// What is wrong with an answer, if anything is.
pub(crate) fn fault(sent: &Sent, answer: &Answer, meanwhile: &Meanwhile) -> Option<String> {
    let wrong = match answer.code {
        0 => wrong_answer(sent, answer, meanwhile)?,
        _ if failure_is_right(sent, answer, meanwhile) => return None,
        code => format!("code {code}: {}", answer.text),
    };
    Some(format!("{:?} to `{}` over {:?}: {wrong} ({meanwhile:?})", sent.act, sent.model, sent.door))
}

fn wrong_answer(sent: &Sent, answer: &Answer, meanwhile: &Meanwhile) -> Option<String> {
    let (oldest, newest) = meanwhile.versions;
    if sent.act == Act::Wrong {
        return Some("it was answered, but nothing repairs it".to_owned());
    }
    if answer.values != sent.rows.concat() {
        return Some(format!("{:?} instead of {:?}", answer.values, sent.rows));
    }
    if answer.version.is_some_and(|version| !(oldest..=newest).contains(&version)) {
        return Some(format!("version {:?} answered", answer.version));
    }
    // JSON is read by the signature that the sidecar knows, and cast if the server has another one.
    let recast = |entry: &String| {
        sent.door == Door::Rest && meanwhile.stale && entry.contains(";cast_") && entry.contains("int64")
    };
    let repairs = answer.repairs.iter().filter(|entry| !recast(entry)).count();
    let fits = |version| sent.repairs(version) == repairs;
    // Over REST, repairs do not depend on the version.
    if !answer.version.map_or_else(|| fits(oldest), fits) {
        return Some(format!("repairs {:?} by version {:?}", answer.repairs, answer.version));
    }
    if repairs > 0 && meanwhile.mode == Mode::Strict && sent.model == ECHO {
        return Some(format!("repairs {:?} in mode strict", answer.repairs));
    }
    if !sent.unscaled && !answer.warnings.is_empty() {
        return Some(format!("warnings {:?}", answer.warnings));
    }
    None
}

/// Whether what went on explains that the request failed in this way.
fn failure_is_right(sent: &Sent, answer: &Answer, meanwhile: &Meanwhile) -> bool {
    let says = |word: &str| answer.text.contains(word);
    let (oldest, newest) = meanwhile.versions;
    match answer.code {
        INVALID_ARGUMENT if sent.act == Act::Wrong => {
            ["DTYPE_MISMATCH", "DIM_MISMATCH"].iter().any(|reason| says(reason))
        }
        // TF Serving's own refusal: it had another version, and died before it could be asked.
        INVALID_ARGUMENT if answer.is_theirs() => meanwhile.stale && meanwhile.outage,
        INVALID_ARGUMENT => {
            sent.model == ECHO
                && meanwhile.mode != Mode::Repair
                && (meanwhile.stale || (oldest..=newest).any(|version| sent.repairs(version) > 0))
        }
        DEADLINE_EXCEEDED => says("DEADLINE") && (sent.act == Act::Hurry || meanwhile.outage),
        RESOURCE_EXHAUSTED => says("exceeds the deadline") && (sent.act == Act::Hurry || meanwhile.outage),
        UNAVAILABLE => says("upstream") && meanwhile.outage,
        _ => false,
    }
}
