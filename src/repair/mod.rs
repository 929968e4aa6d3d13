//! Floor 2, the heart: whether a request conforms to its signature, what would make it conform, and what it must be told otherwise.
//!
//! Pure: no I/O, no clock, no async. [`judge`] gives a [`Verdict`]: the steps that make the request conform, every problem that it
//! has, and what its mode makes of both. [`apply`] carries out the steps. What is logged, counted, shown in a dry run and told to the
//! client is read from the same verdict; nothing is decided twice.
//!
//! The way of a request, stage by stage (problems of every stage are collected):
//! signature ([`judge`]) → names ([`names`]) → encoding ([`encoding`]) → dtype → shape ([`tensor`]) → rows ([`rows`]).
pub mod apply;
mod chain;
mod encoding;
pub mod head;
pub mod infer;
mod judge;
pub mod kinds;
mod names;
pub mod notation;
pub mod policy;
pub mod problem;
pub mod reason;
pub mod report;
mod rows;
pub mod tensor;
#[cfg(test)]
mod tests;

pub use apply::{ApplyError, apply};
pub use head::{Carried, Head};
pub use judge::{Action, Outcome, Request, Verdict, judge};
pub use names::{NameCase, Naming};
pub use policy::{Mode, ModelPolicy, Policy};
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
    /// Changes content; no such rule exists yet, its place in the registry and in the configuration does.
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
    /// Not a change of the request but of the calls that are made with it.
    Calls,
}

/// One kind of repair.
pub struct Repair {
    /// The name in metrics, metadata, configuration and docs.
    pub name: &'static str,
    pub tier: Tier,
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
    /// Carried out by the shell around a request that is otherwise planned like any other.
    Calls,
}

/// Every repair, in the order tried within its stage. A new one is a file in `kinds` and a line here.
pub static REPAIRS: &[&Repair] = &[
    &kinds::only_signature::REPAIR,
    &kinds::rename_tensor_name::REPAIR,
    &kinds::rename_single::REPAIR,
    &kinds::infer_dim::REPAIR,
    &kinds::move_values::REPAIR,
    &kinds::string_content::REPAIR,
    &kinds::cast_widen::REPAIR,
    &kinds::cast_round::REPAIR,
    &kinds::cast_checked::REPAIR,
    &kinds::scalar_shape::REPAIR,
    &kinds::add_batch_dim::REPAIR,
    &kinds::batch_first::REPAIR,
    &kinds::column_vector::REPAIR,
    &kinds::drop_unit_dims::REPAIR,
    &kinds::insert_unit_dims::REPAIR,
];

impl Repair {
    pub fn find(name: &str) -> Option<&'static Self> {
        REPAIRS.iter().find(|repair| repair.name == name).copied()
    }

    /// Whether the operator's policy lets the rule run.
    pub fn is_on(&self, policy: &Policy) -> bool {
        match self.tier {
            Tier::One => !policy.off.contains(self.name),
            Tier::Two => policy.on.contains(self.name),
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

/// What a step does to a tensor's values, when it is more than a new head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueChange {
    /// Into the dtype of the head after the step, held to this exactness.
    Cast(Exactness),
    /// The bytes of `tensor_content` become the one string of the tensor.
    ContentToString,
}

/// What a step changes.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    SignatureName { old: String, new: String },
    Key { old: String, new: String },
    Tensor { before: Head, after: Head, values: Option<ValueChange> },
    Dropped { key: String },
}

/// One rule made on one input, with the problem that it mends.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub rule: &'static Repair,
    /// The input's alias in the signature; empty for a rule of the whole request.
    pub input: String,
    /// Index of the input in the scanned request, where it has one.
    pub index: Option<usize>,
    pub change: Change,
    /// What the request would be refused for without this step, as in mode `strict`.
    pub mends: Problem,
}

/// The steps that make a request conform, in the order in which they are made: plain data, no bytes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    pub steps: Vec<Step>,
}

impl Plan {
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}
