//! The line to change in Go: fields of the generated structs.
use super::action::Action;
use super::{pascal, quoted, sizes};

pub(super) fn line(action: &Action<'_>) -> Option<String> {
    Some(match action {
        Action::AddBatchDim(dims) | Action::Shape(dims) => {
            let dims = sizes(dims, "{Size: ", "}", ", ");
            format!("TensorShape: &TensorShapeProto{{Dim: []*TensorShapeProto_Dim{{{dims}}}}},")
        }
        Action::Cast(dtype) | Action::Dtype(dtype) | Action::Field(dtype) => {
            let info = dtype.info()?;
            // Values of the other lists are bit patterns.
            info.list.native()?;
            format!("Dtype: DataType_{}, {}: x,", info.enum_name, pascal(info.list.name()))
        }
        Action::StringVal => "StringVal: [][]byte{x},".to_owned(),
        Action::Rename { old, new } => {
            format!("request.Inputs[{}] = tensor // not {}", quoted(new), quoted(old))
        }
        Action::SignatureName(name) => format!("request.ModelSpec.SignatureName = {}", quoted(name)),
        Action::Drop(name) => format!("delete(request.Inputs, {}) // not in the signature", quoted(name)),
        Action::DeclaredShape(_) | Action::Send { .. } | Action::Advice(_) => return None,
    })
}
