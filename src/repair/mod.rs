//! Layer 2: checks a request against its signature and plans the repairs that make it conform.
//!
//! Pure: no I/O, no clock, no async. [`judge()`] returns a [`Verdict`]: the steps that make the
//! request conform, every problem that it has, and the action that its mode takes. [`apply()`]
//! executes the steps. Logs, metrics, dry runs and error messages all read the same verdict, so
//! nothing is decided twice. [`cost`] tells beforehand what [`apply()`] will allocate.
//!
//! A request goes through these stages, and the problems of all of them are collected: signature
//! (`judge`) → names (`names`) → encoding (`encoding`) → dtype → shape (`tensor`) → missing inputs
//! (`missing`) → rows (`rows`, [`calls`]).
mod affix;
mod apply;
pub mod calls;
mod carriers;
mod cast_chain;
mod descriptor;
mod encoding;
pub mod fix;
mod hints;
pub mod infer;
mod judge;
mod layout;
mod missing;
mod names;
mod new_values;
pub mod notation;
mod pad;
mod payload;
pub mod policy;
pub mod problem;
mod profile_policy;
pub(crate) mod reason;
pub mod report;
mod rows;
mod rule_key;
mod rule_set;
pub(crate) mod rules;
mod tensor;
#[cfg(test)]
mod tests;
pub mod text;
mod text_hints;
pub mod transform;
mod warning;

pub use apply::{ApplyError, Cost, apply, cost};
pub use calls::Calls;
pub(crate) use calls::CallsCase;
pub use descriptor::{Descriptor, Encoding};
pub use judge::{Action, Outcome, Request, Verdict, judge, signature_of, unlike};
pub(crate) use missing::MissingCase;
pub(crate) use names::{NameCase, Naming};
pub use policy::{Limits, Mode, ModelPolicy, Policy};
pub use problem::Problem;
pub use reason::Reason;
pub use rule_key::{RuleKey, RuleValue, RuleValues, TRANSFORM, ValueKind, WHEN};
pub use rule_set::RuleSet;
pub use rules::REPAIRS;
pub(crate) use tensor::{Proposal, TensorCase};
pub use text_hints::Misfit;
pub use warning::Warning;

use crate::tensor::Exactness;

/// How much a rule assumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Only one interpretation conforms and nothing is lost: on by default in mode `repair`.
    One,
    /// Assumes something about the client that only the operator can know: off by default.
    Two,
    /// Changes content, because the operator has declared it for an input or a model
    /// ([`transform`]).
    Three,
}

/// The stages of a check, in order: where a rule is tried, and where a problem is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Signature,
    Names,
    Encoding,
    Dtype,
    Shape,
    /// What the operator declares to be done to the content of an input or the name of a model.
    Transform,
    /// Inputs that were not sent; runs after all inputs that were.
    Missing,
    /// The number of rows, which all inputs share. Rules of this stage do not change the request
    /// itself but the upstream calls that are made with it.
    Rows,
}

/// How the configuration switches a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// Tier 1, on by default: `rules: {name: off}`.
    Off,
    /// Tier 1 with a policy key of its own name. Such a rule also runs when it is off, so that it
    /// can explain the refusal.
    Policy,
    /// Tier 2 without a value: `rules: {name: on}`.
    On,
    /// Tier 2 with a value in the place of the switch: `rules: {key: value}`.
    Rules(&'static RuleKey),
    /// Tier 2 with a value for one input: `inputs: {NAME: {key: value}}`.
    Input(&'static RuleKey),
    /// Tier 2 with a value for the signature: `key: value`.
    Signature(&'static RuleKey),
    /// Tier 3 for one input: `inputs: {NAME: {transform: [{key: value}]}}`.
    Transform(&'static str),
    /// Tier 3 for all models: a key at the top of the configuration.
    Top(&'static str),
}

impl Switch {
    /// How a rule with a key of its own is configured, for messages and docs.
    pub fn spelling(self) -> Option<String> {
        match self {
            Self::Input(key) => Some(format!("inputs: {{NAME: {{{}: {}}}}}", key.name, key.sample)),
            Self::Signature(key) => Some(format!("{}: {}", key.name, key.sample)),
            Self::Transform(item) => Some(format!("inputs: {{NAME: {{transform: [{{{item}}}]}}}}")),
            Self::Top(key) => Some(key.to_owned()),
            Self::Off | Self::Policy | Self::On | Self::Rules(_) => None,
        }
    }

    /// Whether the spelling is a key of a signature.
    pub const fn is_of_signature(self) -> bool {
        !matches!(self, Self::Top(_))
    }

    /// Whether the rule runs because of its value, and needs no switch.
    pub const fn is_valued(self) -> bool {
        matches!(
            self,
            Self::Rules(_) | Self::Input(_) | Self::Signature(_) | Self::Transform(_) | Self::Top(_)
        )
    }
}

/// One repair rule.
pub struct Repair {
    /// The name in metrics, metadata, configuration and docs.
    pub name: &'static str,
    pub tier: Tier,
    pub switch: Switch,
    pub stage: Stage,
    /// Whether values may be rounded; reported to the client as `lossy`.
    pub lossy: bool,
    /// When the rule applies, for docs/repairs.md.
    pub when: &'static str,
    /// A signature, a request, and what the request becomes. Tests check that it is true.
    pub example: Example,
    pub(crate) propose: Propose,
}

/// A worked example of a rule, in the notation of the command line: `name:dtype[shape]`.
#[derive(Debug, Clone, Copy)]
pub struct Example {
    pub signature: &'static str,
    pub request: &'static str,
    pub becomes: &'static str,
    /// The configuration that switches the rule on, such as `flatten: on`; empty for tier 1.
    pub policy: &'static str,
}

/// The function of a rule, by what it looks at.
#[derive(Clone, Copy)]
pub(crate) enum Propose {
    /// The signatures of the model: another signature name.
    Signature(fn(&crate::signature::Signatures) -> Option<String>),
    /// The names of all inputs.
    Names(fn(&NameCase<'_>) -> Naming),
    /// One input.
    Tensor(fn(&TensorCase<'_>) -> Proposal),
    /// An input that was not sent: what to send.
    Missing(fn(&MissingCase<'_>) -> Option<Descriptor>),
    /// The text of a request, such as JSON: the reader of the text applies it.
    Text,
    /// What the configuration declares, in the order of [`transform`]; nothing is proposed.
    Declared,
    /// A request that conforms except for its number of rows: the upstream calls to make.
    Calls(fn(&CallsCase<'_>) -> Option<Calls>),
}

impl Repair {
    /// Whether the rule is for requests in a text format, such as JSON.
    pub fn is_for_text(&self) -> bool {
        matches!(self.propose, Propose::Text)
    }

    /// The rule of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        REPAIRS.iter().find(|repair| repair.name == name).copied()
    }
}

impl std::fmt::Debug for Repair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl std::fmt::Debug for Propose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Signature(_) => "Signature",
            Self::Names(_) => "Names",
            Self::Tensor(_) => "Tensor",
            Self::Missing(_) => "Missing",
            Self::Text => "Text",
            Self::Declared => "Declared",
            Self::Calls(_) => "Calls",
        })
    }
}

/// Rules are equal when their names are.
impl PartialEq for Repair {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Repair {}

/// What a step does to a tensor's values, if it changes more than the descriptor.
#[derive(Debug, Clone, PartialEq)]
pub enum ValueChange {
    /// Cast into the dtype of the descriptor after the step, with this exactness.
    Cast(Exactness),
    /// The bytes of `tensor_content` become the one string of the tensor.
    ContentToString,
    /// Each row is padded with this element, up to the shape after the step.
    Pad(Vec<u8>),
    /// Transformed as the configuration declares.
    Transform(transform::made::Made),
}

/// The values of an input that was not sent.
#[derive(Debug, Clone, PartialEq)]
pub enum AddedValues {
    /// The same value for all elements.
    Fill(policy::Literal),
    /// 1 where a tensor of the sent shape has an element, 0 where it was padded.
    Mask { sent: crate::tensor::Shape },
}

/// What a step changes.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    ModelName {
        old: String,
        new: String,
    },
    SignatureName {
        old: String,
        new: String,
    },
    Key {
        old: String,
        new: String,
    },
    Tensor {
        before: Descriptor,
        after: Descriptor,
        values: Option<ValueChange>,
    },
    Dropped {
        key: String,
    },
    /// The text of the request is read in another way than it is written.
    Text {
        old: &'static str,
        new: &'static str,
    },
    /// A call has a different number of rows than the request.
    Rows {
        old: crate::tensor::Shape,
        new: crate::tensor::Shape,
    },
    /// An input that was not sent.
    Added {
        descriptor: Descriptor,
        values: AddedValues,
    },
}

/// One rule applied to one input, with the problem that it fixes.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub rule: &'static Repair,
    /// The input's alias in the signature; empty for a rule about the whole request.
    pub input: String,
    /// Index of the input in the scanned request, if it was sent.
    pub index: Option<usize>,
    pub change: Change,
    /// The problem that mode `strict` reports instead of making this step.
    pub fixes: Problem,
}

/// The steps that make a request conform, in the order in which they are applied. Plain data: it
/// holds no bytes of the request.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// The upstream calls that are made with the request after the steps.
    pub calls: calls::Calls,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}
