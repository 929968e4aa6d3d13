//! Floor 2, the heart: whether a request conforms to its signature, what would make it conform, and
//! what it must be told otherwise.
//!
//! Pure: no I/O, no clock, no async. [`judge`] gives a [`Verdict`]: the steps that make the request
//! conform, every problem that it has, and what its mode makes of both. [`apply`] carries out the
//! steps. What is logged, counted, shown in a dry run and told to the client is read from the same
//! verdict; nothing is decided twice.
//!
//! The way of a request, stage by stage (problems of every stage are collected): signature
//! ([`judge`]) → names ([`names`]) → encoding ([`encoding`]) → dtype → shape ([`tensor`]) → rows
//! ([`rows`]).
pub mod apply;
pub mod calls;
mod cast_chain;
pub mod descriptor;
mod encoding;
mod hints;
pub mod infer;
mod judge;
mod layout;
mod missing;
mod names;
pub mod notation;
mod pad;
pub mod policy;
pub mod problem;
pub mod reason;
pub mod report;
mod rows;
pub mod rules;
pub mod tensor;
#[cfg(test)]
mod tests;

pub use apply::{ApplyError, apply};
pub use calls::Calls;
pub use descriptor::{Descriptor, Encoding};
pub use judge::{Action, Outcome, Request, Verdict, judge};
pub use missing::MissingCase;
pub use names::{NameCase, Naming};
pub use policy::{Limits, Mode, ModelPolicy, Policy};
pub use problem::Problem;
pub use reason::Reason;
pub use tensor::{Proposal, TensorCase};

use crate::tensor::Exactness;

/// How much a rule takes for granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Only one reading conforms and nothing is lost: on in mode `repair`.
    One,
    /// An assumption about the client: switched on by the operator who knows it.
    Two,
    /// Changes content; no such rule exists yet, its place in the registry and in the configuration
    /// does.
    Three,
}

/// Where in the order of the stages a rule is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Signature,
    Names,
    Encoding,
    Dtype,
    Shape,
    /// After all inputs that were sent: those that were not.
    Missing,
    /// Not a change of the request but of the calls that are made with it.
    Calls,
}

/// How the configuration speaks of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// Tier 1, on by itself: `rules: {name: off}`.
    Off,
    /// Tier 1 with a policy key of its own name.
    Policy,
    /// Tier 2 without a value: `rules: {name: on}`.
    On,
    /// Tier 2: `rules: {name: [input, ...]}`.
    Inputs,
    /// Tier 2 with a value that stands elsewhere in a signature; the text shows where.
    Elsewhere(&'static str),
}

/// Tier 3: rules that change content. None exists yet; the configuration knows their names, so that
/// whoever asks for one is told so.
pub static LATER: &[(&str, &str)] = &[
    ("transpose_layout", "NCHW to NHWC and back"),
    ("decode_base64", "base64 text to bytes"),
    ("decode_image", "an encoded image to pixels"),
    ("resize", "an image to the model's size"),
    ("scale", "values to the range of the training data"),
    ("standardize", "values by the mean and deviation of the training data"),
    ("relabel_dtype", "the bytes of one dtype read as another"),
    ("rename_model", "one model's name to another's"),
];

/// One kind of repair.
pub struct Repair {
    /// The name in metrics, metadata, configuration and docs.
    pub name: &'static str,
    pub tier: Tier,
    pub switch: Switch,
    pub stage: Stage,
    /// Whether values may be rounded: reported to the client as `lossy`.
    pub lossy: bool,
    /// When it is made, for docs/repairs.md.
    pub when: &'static str,
    /// A signature, a request, and what the request becomes; a test holds each to be true.
    pub example: Example,
    pub propose: Propose,
}

/// A worked case of a rule, in the notation of the command line: `name:dtype[shape]`.
#[derive(Debug, Clone, Copy)]
pub struct Example {
    pub signature: &'static str,
    pub request: &'static str,
    pub becomes: &'static str,
    /// Extra policy in the notation of the configuration, such as `flatten: on`; empty for tier 1.
    pub policy: &'static str,
}

/// What a rule looks at: the whole request for names, one tensor for everything else.
#[derive(Clone, Copy)]
pub enum Propose {
    /// Another signature name.
    Signature(fn(&crate::signature::Signatures) -> Option<String>),
    Names(fn(&NameCase<'_>) -> Naming),
    Tensor(fn(&TensorCase<'_>) -> Proposal),
    /// An input that was not sent: what it becomes.
    Missing(fn(&MissingCase<'_>) -> Option<Descriptor>),
    /// Encoding out by the shell around a request that is otherwise planned like any other.
    Calls,
}

/// Every repair, in the order tried within its stage. A new one is a file in `rules` and a line
/// here.
pub static REPAIRS: &[&Repair] = &[
    &rules::only_signature::REPAIR,
    &rules::rename_tensor_name::REPAIR,
    &rules::aliases::REPAIR,
    &rules::suffix_match::REPAIR,
    &rules::drop_extra::REPAIR,
    &rules::rename_single::REPAIR,
    &rules::infer_dim::REPAIR,
    &rules::move_values::REPAIR,
    &rules::string_content::REPAIR,
    &rules::cast_widen::REPAIR,
    &rules::cast_round::REPAIR,
    &rules::integral_floats::REPAIR,
    &rules::bool_numbers::REPAIR,
    &rules::round_ints::REPAIR,
    &rules::cast_checked::REPAIR,
    &rules::scalar_shape::REPAIR,
    &rules::scalar_inputs::REPAIR,
    &rules::rank1_is::REPAIR,
    &rules::add_batch_dim::REPAIR,
    &rules::batch_first::REPAIR,
    &rules::column_vector::REPAIR,
    &rules::drop_unit_dims::REPAIR,
    &rules::insert_unit_dims::REPAIR,
    &rules::singleton_move::REPAIR,
    &rules::flatten::REPAIR,
    &rules::unflatten::REPAIR,
    &rules::pad_ragged::REPAIR,
    &rules::input_defaults::REPAIR,
    &rules::fan_out::REPAIR,
    &rules::pad_static_batch::REPAIR,
    &rules::split_oversize::REPAIR,
];

impl Repair {
    pub fn find(name: &str) -> Option<&'static Self> {
        REPAIRS.iter().find(|repair| repair.name == name).copied()
    }

    /// Whether the operator's policy lets the rule run.
    pub fn is_on(&self, policy: &Policy) -> bool {
        match self.tier {
            Tier::One => !policy.off.contains(self.name),
            // Rules with a value are on where the policy gives them one.
            Tier::Two => self.switch != Switch::On || policy.on.contains(self.name),
            Tier::Three => false,
        }
    }

    fn of(stage: Stage) -> impl Iterator<Item = &'static Self> {
        REPAIRS.iter().copied().filter(move |repair| repair.stage == stage)
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
            Self::Calls => "Calls",
        })
    }
}

/// A repair is its name.
impl PartialEq for Repair {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// What a step does to a tensor's values, when it is more than a new descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueChange {
    /// Into the dtype of the descriptor after the step, held to this exactness.
    Cast(Exactness),
    /// The bytes of `tensor_content` become the one string of the tensor.
    ContentToString,
    /// Rows are filled up to the shape after the step with this element.
    Pad(Vec<u8>),
}

/// The values of an input that was not sent.
#[derive(Debug, Clone, PartialEq)]
pub enum AddedValues {
    /// One for all elements.
    Fill(policy::Literal),
    /// 1 where a tensor of the sent shape has an element, 0 where it was filled up.
    Mask { sent: crate::tensor::Shape },
}

/// What a step changes.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
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
    /// Other rows in a call than in the request.
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

/// One rule made on one input, with the problem that it fixes.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub rule: &'static Repair,
    /// The input's alias in the signature; empty for a rule of the whole request.
    pub input: String,
    /// Index of the input in the scanned request, where it has one.
    pub index: Option<usize>,
    pub change: Change,
    /// What the request would be refused for without this step, as in mode `strict`.
    pub fixes: Problem,
}

/// The steps that make a request conform, in the order in which they are made: plain data, no
/// bytes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// The calls that are made with the request after the steps.
    pub calls: calls::Calls,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}
