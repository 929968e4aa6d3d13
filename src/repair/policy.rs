//! What an operator allows: modes, policies and the switches of the rules, as plain data that the
//! configuration fills.
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// How far the sidecar goes with the requests of a model; ordered, so that a request may only move
/// up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Mode {
    /// Forward everything unread.
    Off,
    /// Forward everything, and count what would have been repaired or refused.
    Observe,
    /// Repair what has one right reading, refuse the rest.
    #[default]
    Repair,
    /// Refuse whatever does not conform.
    Strict,
}

impl Mode {
    pub const ALL: [Self; 4] = [Self::Off, Self::Observe, Self::Repair, Self::Strict];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Observe => "observe",
            Self::Repair => "repair",
            Self::Strict => "strict",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text).ok_or(UnknownMode)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected one of `off`, `observe`, `repair`, `strict`")]
pub struct UnknownMode;

/// What happens in mode `repair` to a request that no rule can fix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unrepairable {
    /// It is answered here, with all its problems.
    #[default]
    Reject,
    /// It goes on unchanged and the server decides.
    Forward,
}

/// What happens when the only fault of a request is that inputs are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissingInputs {
    /// It goes on: the signature may have defaults that GetModelMetadata does not show.
    #[default]
    Forward,
    Refuse,
}

/// Whether a typed list of more than one value may be shorter than the shape (TensorFlow repeats
/// the last value).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ShortLists {
    #[default]
    Refuse,
    Allow,
}

/// How a vector is read that meets a signature of `[-1,-1]` (rule `rank1_is`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rank1 {
    /// `[n]` is one row of n values: `[1,n]`.
    SingleRow,
    /// `[n]` is n rows of one value: `[n,1]`.
    OnePerRow,
}

/// A value written in the configuration, turned into the input's dtype when it is used.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

/// How short rows of an input are filled up (rule `pad_ragged`).
#[derive(Debug, Clone, PartialEq)]
pub struct Pad {
    pub value: Literal,
    /// The input that says which values are real: 1 for a value that came, 0 for one that was
    /// filled in.
    pub mask: Option<String>,
}

/// The opt-in rules that take a value, by input.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct InputPolicy {
    /// Sent when the request leaves the input out (rule `input_defaults`).
    pub default: Option<Literal>,
    /// The input takes a scalar although its rank is unknown (rule `scalar_inputs`).
    pub scalar: bool,
    pub rank1_is: Option<Rank1>,
    pub pad: Option<Pad>,
}

/// What the whole sidecar accepts, whatever a model's policy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest number of elements in one tensor.
    pub max_elements: u64,
    /// Whether requests with zero rows are refused. Needed when TF Serving runs with
    /// `--enable_batching`: such a request hangs past its deadline and occupies a server thread.
    pub refuse_zero_rows: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_elements: 1 << 28, refuse_zero_rows: false }
    }
}

/// What one signature's requests are held to.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    pub mode: Mode,
    pub unrepairable: Unrepairable,
    pub missing_inputs: MissingInputs,
    /// Rule `batch_first`, the one rule of tier 1 that assumes.
    pub batch_first: bool,
    pub column_vector: bool,
    /// Whether float64 may be rounded to float32; otherwise every value must survive exactly.
    pub round_f64: bool,
    pub short_lists: ShortLists,
    /// Whether an explanation is put behind the text of an error that TF Serving answers.
    pub explain_upstream: bool,
    /// Tier 2 rules switched on by name, and tier 1 rules switched off by name.
    pub on: BTreeSet<String>,
    pub off: BTreeSet<String>,
    /// Sent input name to declared input name (rule `aliases`).
    pub aliases: BTreeMap<String, String>,
    /// Inputs that are dropped when the signature does not have them (rule `drop_extra`).
    pub drop_extra: BTreeSet<String>,
    pub inputs: BTreeMap<String, InputPolicy>,
    /// Rows of one call when `split_oversize` is on; 0 for no limit.
    pub max_rows: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            unrepairable: Unrepairable::default(),
            missing_inputs: MissingInputs::default(),
            batch_first: true,
            column_vector: true,
            round_f64: true,
            short_lists: ShortLists::default(),
            explain_upstream: true,
            on: BTreeSet::new(),
            off: BTreeSet::new(),
            aliases: BTreeMap::new(),
            drop_extra: BTreeSet::new(),
            inputs: BTreeMap::new(),
            max_rows: 0,
        }
    }
}

impl Policy {
    /// What the configuration says of one input; nothing said is the default.
    pub fn input(&self, alias: &str) -> Option<&InputPolicy> {
        self.inputs.get(alias)
    }
}

/// The policies of one model: one for each signature that the configuration names, and one for all
/// others.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ModelPolicy {
    pub defaults: Policy,
    pub signatures: BTreeMap<String, Policy>,
}

impl ModelPolicy {
    pub fn for_signature(&self, name: &str) -> &Policy {
        self.signatures.get(name).unwrap_or(&self.defaults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_ordered_and_spelled_as_in_the_configuration() {
        assert!(Mode::Off < Mode::Observe && Mode::Observe < Mode::Repair && Mode::Repair < Mode::Strict);
        for mode in Mode::ALL {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert_eq!("Repair".parse::<Mode>(), Err(UnknownMode));
    }
}
