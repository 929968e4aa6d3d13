//! A form: what a request looks like without its values.
use std::borrow::Cow;

use crate::repair::{Mode, Outcome};
use crate::tensor::{DataType, ValueList};

/// What all requests of a form have in common. Two requests of one form are judged alike by every
/// signature, except where values or open sizes decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Form {
    /// Who sent it, as metrics name clients; empty if clients are not named.
    pub client: String,
    pub model: String,
    /// The version that it was judged by.
    pub version: i64,
    pub choice: Choice,
    pub method: Method,
    pub api: Api,
    /// The signature that was asked for; one for each task of a MultiInference.
    pub signatures: Vec<String>,
    /// The mode that the request itself asked for, if it is stricter than `off`.
    pub raised: Option<Mode>,
    /// The `output_filter`.
    pub outputs: Vec<String>,
    /// By name.
    pub inputs: Vec<Input>,
    pub outcome: Outcome,
    /// The rules and reasons of the verdict.
    pub findings: Vec<Finding>,
}

/// The version that a request asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Choice {
    Latest,
    Version,
    Label(String),
}

/// How a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Api {
    Grpc,
    /// JSON with whole tensors (`inputs`).
    Columns,
    /// JSON with a list of objects (`instances`).
    Rows,
    /// JSON with a list of values of the only input (`instances`).
    PlainRows,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Method {
    Predict,
    Classify,
    Regress,
    MultiInference,
}

/// One sent input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Input {
    pub name: String,
    pub dtype: DataType,
    pub shape: Vec<Dim>,
    pub unknown_rank: bool,
    /// The fields with values, in the order of their numbers; empty if there are none.
    pub carriers: Vec<(Carrier, Values)>,
    /// Whether the fields hold different values, so that TensorFlow would ignore some.
    pub conflict: bool,
    /// The dtype that the signature declared, if the input was one of it.
    pub declared: Option<DataType>,
}

/// One size of a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Dim {
    Exact(i64),
    /// More than one row: the same number in every input that has it.
    Rows,
    /// More than one row, but not as many as [`Dim::Rows`].
    OtherRows,
    /// More than 1, where the signature leaves an inner size open.
    Open,
}

/// The field that holds values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Carrier {
    Content,
    List(ValueList),
}

/// How many values a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Values {
    /// As many as the shape says.
    All,
    /// One for a shape of more.
    One,
    /// More than one, and fewer than the shape says.
    Short,
    /// Elements, or bytes of `tensor_content`, that do not go with the shape.
    Exact(u64),
}

/// A rule that was applied or a reason of a refusal or warning, and the input that it is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    pub kind: Cow<'static, str>,
    pub input: String,
}

/// The smallest and the largest size that was seen; empty if none was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub min: u64,
    pub max: u64,
}

/// The sizes that a form leaves open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sizes {
    pub rows: Range,
    pub other_rows: Range,
    pub open: Range,
}

impl Range {
    pub(crate) const NONE: Self = Self { min: u64::MAX, max: 0 };

    #[inline]
    pub(crate) fn add(&mut self, size: i64) {
        let size = size.unsigned_abs();
        self.min = self.min.min(size);
        self.max = self.max.max(size);
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    pub(crate) fn is_empty(self) -> bool {
        self.min > self.max
    }

    pub(crate) fn contains(self, size: u64) -> bool {
        self.min <= size && size <= self.max
    }
}

impl Default for Range {
    fn default() -> Self {
        Self::NONE
    }
}

impl Sizes {
    pub(crate) fn merge(&mut self, other: Self) {
        self.rows.merge(other.rows);
        self.other_rows.merge(other.other_rows);
        self.open.merge(other.open);
    }
}

impl Form {
    /// Bytes that it takes, with what an allocator adds to each piece.
    pub(crate) fn size(&self) -> usize {
        const ADDED: usize = 24;
        let text = |text: &String| text.len() + ADDED;
        let texts = |all: &[String]| all.iter().map(|one| text(one) + size_of::<String>()).sum::<usize>();
        let input = |input: &Input| {
            let shape = input.shape.len() * size_of::<Dim>();
            let carriers = input.carriers.len() * size_of::<(Carrier, Values)>();
            size_of::<Input>() + text(&input.name) + shape + carriers + 2 * ADDED
        };
        let finding = |finding: &Finding| size_of::<Finding>() + text(&finding.input);
        let label = match &self.choice {
            Choice::Label(label) => text(label),
            Choice::Latest | Choice::Version => 0,
        };
        size_of::<Self>()
            + text(&self.client)
            + text(&self.model)
            + label
            + texts(&self.signatures)
            + texts(&self.outputs)
            + self.inputs.iter().map(input).sum::<usize>()
            + self.findings.iter().map(finding).sum::<usize>()
    }
}
