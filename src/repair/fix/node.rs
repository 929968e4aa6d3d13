//! The line to change in Node.js: properties of the message, with the names of the proto files
//! (`keepCase` of `@grpc/proto-loader`).
use super::action::Action;
use super::{quoted, sizes};

pub(super) fn line(action: &Action<'_>) -> Option<String> {
    Some(match action {
        Action::AddBatchDim(dims) | Action::Shape(dims) => {
            format!("tensor_shape: {{dim: [{}]}},", sizes(dims, "{size: ", "}", ", "))
        }
        Action::Cast(dtype) | Action::Dtype(dtype) | Action::Field(dtype) => {
            let info = dtype.info()?;
            // Values of the other lists are bit patterns.
            info.list.native()?;
            format!("dtype: \"{}\", {}: x,", info.enum_name, info.list.name())
        }
        Action::StringVal => "string_val: [x],".to_owned(),
        Action::Rename { old, new } => format!("inputs: {{{}: tensor}}, // not {}", quoted(new), quoted(old)),
        Action::SignatureName(name) => format!("signature_name: {},", quoted(name)),
        Action::Drop(name) => format!("delete request.inputs[{}]; // not in the signature", quoted(name)),
        Action::DeclaredShape(_) | Action::Send { .. } | Action::Advice(_) => return None,
    })
}
