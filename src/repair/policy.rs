//! What the operator allows: modes, policies and rule switches. Plain data, filled from the
//! configuration.
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

pub use super::profile_policy::{OnFinding, ProfileCheck, ProfileFile, ReadProfile};
use super::{RuleSet, RuleValues};
use crate::batch::Settings;

/// How far the sidecar intervenes in the requests of a model. Ordered: a client may only raise it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Mode {
    /// Forward everything unchecked.
    Off,
    /// Forward everything, but count what would have been repaired or refused.
    Observe,
    /// Repair what has exactly one correct interpretation, refuse the rest.
    #[default]
    Repair,
    /// Refuse everything that does not conform.
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

/// What to do in mode `repair` with a request that no rule can fix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unrepairable {
    /// Refuse it, and list all its problems.
    #[default]
    Reject,
    /// Forward it unchanged and let TF Serving decide.
    Forward,
}

/// What to do with a request whose only problem is missing inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissingInputs {
    /// Forward it: the signature may have defaults that GetModelMetadata does not show.
    #[default]
    Forward,
    Refuse,
}

/// What to do with a request whose inputs have different numbers of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RowAgreement {
    /// Forward it with a warning: TensorFlow decides whether the inputs are the same rows.
    #[default]
    Forward,
    Refuse,
}

/// What to do with integers of 8 or 16 bits for an input of floats. Each number is exact, but
/// pixels and PCM samples may have to be scaled first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SmallInts {
    /// Cast them with a warning.
    #[default]
    Warn,
    /// Cast them.
    Allow,
    Refuse,
}

/// Whether a typed list of several values may be shorter than the shape. TensorFlow repeats the
/// last value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ShortLists {
    #[default]
    Refuse,
    Allow,
}

/// A value from the configuration, converted to the input's dtype when it is used.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

/// What the whole sidecar accepts, whatever a model's policy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest number of elements in one tensor; by default there is no limit.
    pub max_elements: u64,
    /// The largest tensor of which the message does not carry all values.
    pub max_fill_bytes: u64,
    /// Whether requests with zero rows are refused. Needed when TF Serving runs with
    /// `--enable_batching`: such a request hangs past its deadline and occupies a server thread.
    pub refuse_zero_rows: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_elements: u64::MAX, max_fill_bytes: 256 << 20, refuse_zero_rows: false }
    }
}

/// How the requests of one signature are treated.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    pub mode: Mode,
    pub unrepairable: Unrepairable,
    pub missing_inputs: MissingInputs,
    pub row_agreement: RowAgreement,
    /// Whether float64 may be rounded to float32. If not, every value must be exact in float32.
    pub round_f64: bool,
    pub small_ints: SmallInts,
    pub short_lists: ShortLists,
    /// Whether wrong ranks are refused where the request would otherwise be forwarded unchanged.
    pub shield_ranks: bool,
    /// Whether an explanation is appended to TF Serving's error messages.
    pub explain_upstream: bool,
    /// Whether a new version counts as ready only when it has answered a request of zeros.
    pub probe: bool,
    /// The rules that are switched on.
    pub rules: RuleSet,
    /// The values of the rules that take one for the signature.
    pub values: RuleValues,
    /// The values of the rules that take one for an input, by input.
    pub inputs: BTreeMap<String, RuleValues>,
    /// Whether and how requests share runs. `max_rows` is also what `split_oversize` splits by.
    pub batching: Settings,
    /// What the training data looked like.
    pub profile: Option<ProfileFile>,
    pub profile_check: ProfileCheck,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            unrepairable: Unrepairable::default(),
            missing_inputs: MissingInputs::default(),
            row_agreement: RowAgreement::default(),
            round_f64: true,
            small_ints: SmallInts::default(),
            short_lists: ShortLists::default(),
            shield_ranks: false,
            explain_upstream: true,
            probe: false,
            rules: RuleSet::default(),
            values: RuleValues::default(),
            inputs: BTreeMap::new(),
            batching: Settings::default(),
            profile: None,
            profile_check: ProfileCheck::default(),
        }
    }
}

impl Policy {
    /// What is configured for one input.
    pub fn input(&self, alias: &str) -> Option<&RuleValues> {
        self.inputs.get(alias)
    }

    /// The profile that the values of requests for a signature are compared with, if they are.
    #[inline]
    pub fn compared(&self, signature: &str) -> Option<&ReadProfile> {
        let read = self.profile.as_ref()?.read.as_ref()?;
        let is_of_it = read.profile.signature.as_deref().is_none_or(|name| name == signature);
        (is_of_it && self.profile_check.on_finding != OnFinding::Off).then_some(read)
    }
}

/// The policies of one model: one for each signature in the configuration, and one for all others.
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
