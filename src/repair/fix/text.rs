//! What to change, as a sentence: for clients whose language is unknown, and where no line of code
//! is certain to be right.
use super::action::Action;
use super::{quoted, sizes};

pub(super) fn line(action: &Action<'_>) -> String {
    match action {
        Action::AddBatchDim(dims) => {
            format!("Add the batch dimension: send shape [{}].", sizes(dims, "", "", ","))
        }
        Action::Shape(dims) | Action::DeclaredShape(dims) if dims.is_empty() => {
            "Send a scalar: a shape without dimensions.".to_owned()
        }
        Action::Shape(dims) | Action::DeclaredShape(dims) => {
            format!("Send shape [{}].", sizes(dims, "", "", ","))
        }
        Action::Cast(dtype) | Action::Dtype(dtype) => match dtype.info() {
            Some(info) => {
                format!("Send dtype {}, with the values in `{}`.", info.enum_name, info.list.name())
            }
            None => format!("Send dtype {dtype}."),
        },
        Action::Field(dtype) => match dtype.info() {
            Some(info) => format!(
                "Put one value for each element into `{}`, the field of {}, and into no other.",
                info.list.name(),
                info.enum_name
            ),
            None => "Put the values into the field of the dtype.".to_owned(),
        },
        Action::StringVal => "Put the bytes into `string_val`, not into `tensor_content`.".to_owned(),
        Action::Rename { old, new } => format!("Send the input as {}, not as {}.", quoted(new), quoted(old)),
        Action::SignatureName(name) => format!("Set `model_spec.signature_name` to {}.", quoted(name)),
        Action::Drop(name) => format!("Do not send {}: the signature has no such input.", quoted(name)),
        Action::Send { input, what } => format!("Send the input {} ({what}).", quoted(input)),
        Action::Advice(advice) => (*advice).to_owned(),
    }
}
