//! The line to change in Python, with NumPy and TensorFlow's `make_tensor_proto`.
use super::action::Action;
use super::{quoted, sizes};
use crate::tensor::{Class, DataType};

pub(super) fn line(action: &Action<'_>) -> Option<String> {
    Some(match action {
        Action::AddBatchDim(_) => "x = np.expand_dims(x, 0)".to_owned(),
        Action::Shape(dims) if dims.is_empty() => "x = np.reshape(x, ())".to_owned(),
        // One open size is the one that NumPy can tell.
        Action::Shape(dims) if dims.iter().filter(|size| **size < 0).count() < 2 => {
            let dims: Vec<String> = dims.iter().map(|size| size.max(&-1).to_string()).collect();
            format!("x = np.reshape(x, [{}])", dims.join(", "))
        }
        Action::Shape(dims) => format!("x = np.reshape(x, [{}])", sizes(dims, "", "", ", ")),
        Action::Cast(dtype) => format!("x = x.astype({})", numpy(*dtype)?),
        // Of floats that integers were wanted for, this would cut off the fractions without a word.
        Action::Dtype(dtype) if dtype.info()?.class != Class::Float => return None,
        Action::Dtype(dtype) | Action::Field(dtype) => {
            format!("tf.make_tensor_proto(x, dtype=tf.{})", tensorflow(*dtype)?)
        }
        Action::StringVal => "tf.make_tensor_proto([x], dtype=tf.string)".to_owned(),
        Action::Rename { old, new } => {
            format!("request.inputs[{}].CopyFrom(tensor)  # not {}", quoted(new), quoted(old))
        }
        Action::SignatureName(name) => format!("request.model_spec.signature_name = {}", quoted(name)),
        Action::Drop(name) => format!("del request.inputs[{}]  # not in the signature", quoted(name)),
        Action::DeclaredShape(_) | Action::Send { .. } | Action::Advice(_) => return None,
    })
}

/// `None` where NumPy has no such dtype.
fn numpy(dtype: DataType) -> Option<String> {
    let info = dtype.info()?;
    match info.class {
        Class::Bool => Some("bool".to_owned()),
        Class::Float | Class::Signed | Class::Unsigned | Class::Complex => match dtype {
            DataType::FLOAT => Some("np.float32".to_owned()),
            DataType::DOUBLE => Some("np.float64".to_owned()),
            DataType::HALF => Some("np.float16".to_owned()),
            DataType::BFLOAT16 => Some("tf.bfloat16.as_numpy_dtype".to_owned()),
            // NumPy has no float8, and no integers below 8 bits.
            DataType::INT4 | DataType::UINT4 | DataType::INT2 | DataType::UINT2 => None,
            _ if info.class == Class::Float => None,
            _ => Some(format!("np.{}", info.name)),
        },
        Class::String | Class::Quantized | Class::Handle => None,
    }
}

fn tensorflow(dtype: DataType) -> Option<&'static str> {
    Some(match dtype {
        DataType::FLOAT => "float32",
        DataType::DOUBLE => "float64",
        DataType::HALF => "float16",
        _ => match dtype.info()? {
            info if info.class == Class::Handle => return None,
            info => info.name,
        },
    })
}
