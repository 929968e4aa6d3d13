//! The line to change in C#: properties of the generated classes.
use super::action::Action;
use super::{pascal, quoted, sizes};

pub(super) fn line(action: &Action<'_>) -> Option<String> {
    Some(match action {
        Action::AddBatchDim(dims) | Action::Shape(dims) => {
            let dims = sizes(dims, "new TensorShapeProto.Types.Dim { Size = ", " }", ", ");
            format!("TensorShape = new TensorShapeProto {{ Dim = {{ {dims} }} }},")
        }
        Action::Cast(dtype) | Action::Dtype(dtype) | Action::Field(dtype) => {
            let info = dtype.info()?;
            // Values of the other lists are bit patterns.
            info.list.native()?;
            let (dtype, list) = (pascal(info.enum_name), pascal(info.list.name()));
            format!("Dtype = DataType.{dtype}, {list} = {{ x }},")
        }
        Action::StringVal => "StringVal = { ByteString.CopyFrom(x) },".to_owned(),
        Action::Rename { old, new } => {
            format!("request.Inputs[{}] = tensor; // not {}", quoted(new), quoted(old))
        }
        Action::SignatureName(name) => format!("request.ModelSpec.SignatureName = {};", quoted(name)),
        Action::Drop(name) => format!("request.Inputs.Remove({}); // not in the signature", quoted(name)),
        Action::DeclaredShape(_) | Action::Send { .. } | Action::Advice(_) => return None,
    })
}
