//! The line to change in Java: calls of the generated builders.
use super::action::Action;
use super::{pascal, quoted, sizes};

pub(super) fn line(action: &Action<'_>) -> Option<String> {
    Some(match action {
        Action::AddBatchDim(dims) | Action::Shape(dims) => {
            let dims = sizes(dims, ".addDim(TensorShapeProto.Dim.newBuilder().setSize(", "))", "");
            format!(".setTensorShape(TensorShapeProto.newBuilder(){dims})")
        }
        Action::Cast(dtype) | Action::Dtype(dtype) | Action::Field(dtype) => {
            let info = dtype.info()?;
            // Values of the other lists are bit patterns.
            info.list.native()?;
            format!(".setDtype(DataType.{}).addAll{}(x)", info.enum_name, pascal(info.list.name()))
        }
        Action::StringVal => ".addStringVal(ByteString.copyFrom(x))".to_owned(),
        Action::Rename { old, new } => {
            format!("request.putInputs({}, tensor); // not {}", quoted(new), quoted(old))
        }
        Action::SignatureName(name) => format!("modelSpec.setSignatureName({});", quoted(name)),
        Action::Drop(name) => format!("request.removeInputs({}); // not in the signature", quoted(name)),
        Action::DeclaredShape(_) | Action::Send { .. } | Action::Advice(_) => return None,
    })
}
