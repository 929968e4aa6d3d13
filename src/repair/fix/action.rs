//! What a client has to do about a mistake, before it is put into words or code.
use super::Mistake;
use crate::repair::{REPAIRS, Reason, Stage};
use crate::signature::TensorInfo;
use crate::tensor::{DataType, PartialShape};

/// What to change.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action<'a> {
    /// Put a batch dimension of 1 before the others. The new shape.
    AddBatchDim(Vec<i64>),
    /// Send the tensor with this shape; -1 for any size.
    Shape(Vec<i64>),
    /// Send a tensor of the declared shape. How to get there is not known: a `reshape` of other
    /// values would be a wrong answer instead of an error.
    DeclaredShape(Vec<i64>),
    /// Send the values as this dtype, which has all of them exactly or as near as the repair gets.
    Cast(DataType),
    /// Send this dtype, which is not a matter of a cast.
    Dtype(DataType),
    /// Put the values into the field of the dtype.
    Field(DataType),
    /// Put the bytes into `string_val`.
    StringVal,
    Rename {
        old: &'a str,
        new: &'a str,
    },
    SignatureName(&'a str),
    Drop(&'a str),
    /// The input that is missing, and its dtype and shape.
    Send {
        input: &'a str,
        what: String,
    },
    /// Nothing that one line says: what to do as a sentence.
    Advice(&'static str),
}

impl<'a> Action<'a> {
    /// `None` if the kind is neither a rule nor a reason.
    pub(super) fn of(mistake: &Mistake<'a>) -> Option<Self> {
        match REPAIRS.iter().find(|rule| rule.name == mistake.kind) {
            Some(rule) => Some(of_repair(rule.stage, rule.name, mistake)),
            None => {
                let reason = Reason::ALL.iter().find(|reason| reason.as_str() == mistake.kind)?;
                Some(of_reason(*reason, mistake))
            }
        }
    }
}

/// The change says what the client should have sent.
fn of_repair<'a>(stage: Stage, rule: &str, mistake: &Mistake<'a>) -> Action<'a> {
    let change = mistake.change.strip_suffix(" lossy").unwrap_or(mistake.change);
    let (old, new) = change.split_once("->").unwrap_or(("", change));
    let declared = mistake.declared;
    let action = match stage {
        Stage::Signature if !new.is_empty() => Some(Action::SignatureName(new)),
        Stage::Names if new.is_empty() && !old.is_empty() => Some(Action::Drop(old)),
        Stage::Names if !new.is_empty() => Some(Action::Rename { old, new }),
        Stage::Missing => Some(Action::Send { input: mistake.input, what: new.to_owned() }),
        Stage::Encoding | Stage::Dtype | Stage::Shape => match (shape(new), DataType::parse(new)) {
            (Some(dims), _) if matches!(rule, "add_batch_dim" | "batch_first") => {
                Some(Action::AddBatchDim(open_rows(dims, declared)))
            }
            (Some(dims), _) => Some(Action::Shape(open_rows(dims, declared))),
            (_, Some(dtype)) => Some(Action::Cast(dtype)),
            _ if rule == "string_content" => Some(Action::StringVal),
            _ => declared.map(|info| Action::Field(info.dtype)),
        },
        _ => None,
    };
    action.unwrap_or(Action::Advice(match stage {
        Stage::Transform => "The configuration declares it: nothing needs to change.",
        Stage::Rows => "Send as many rows in a request as the signature declares.",
        _ => "Send what the signature declares.",
    }))
}

/// A refusal has no change. What the signature declares is certain; how to get there is not.
fn of_reason<'a>(reason: Reason, mistake: &Mistake<'a>) -> Action<'a> {
    let advice = Action::Advice(reason.remedy());
    let Some(info) = mistake.declared else { return advice };
    match reason {
        Reason::RankTooLow
        | Reason::RankTooHigh
        | Reason::DimMismatch
        | Reason::ShapeMismatch
        | Reason::ShapeNotConcrete => match &info.shape {
            PartialShape::Known(dims) => Action::DeclaredShape(dims.to_vec()),
            PartialShape::UnknownRank => advice,
        },
        Reason::DtypeMismatch => Action::Dtype(info.dtype),
        Reason::ValueField | Reason::ValueCount | Reason::ContentSize => Action::Field(info.dtype),
        Reason::StringInContent => Action::StringVal,
        Reason::InputMissing => {
            Action::Send { input: mistake.input, what: format!("{} {}", info.dtype, info.shape) }
        }
        _ => advice,
    }
}

/// The number of rows differs from request to request where the signature leaves it open.
fn open_rows(mut dims: Vec<i64>, declared: Option<&TensorInfo>) -> Vec<i64> {
    if let Some(first) = dims.first_mut()
        && *first != 1
        && declared.is_some_and(TensorInfo::has_rows)
    {
        *first = -1;
    }
    dims
}

/// `[1,128]`
fn shape(text: &str) -> Option<Vec<i64>> {
    let sizes = text.strip_prefix('[')?.strip_suffix(']')?;
    if sizes.is_empty() {
        return Some(Vec::new());
    }
    sizes.split(',').map(|size| size.parse().ok()).collect()
}
