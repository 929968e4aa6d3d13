//! The line to change in a JSON body.
use super::action::Action;
use super::quoted;
use crate::tensor::Class;

pub(super) fn line(action: &Action<'_>) -> Option<String> {
    Some(match action {
        // The list is the same under both keys, and the answer's format follows the key.
        Action::AddBatchDim(dims) | Action::Shape(dims) => {
            format!("{}  (under \"instances\" or \"inputs\")", nested(dims)?)
        }
        Action::Cast(dtype) | Action::Dtype(dtype) => match dtype.info()?.class {
            Class::String => format!("Send strings ({dtype})."),
            Class::Bool => format!("Send `true` or `false` ({dtype})."),
            Class::Float => format!("Send numbers ({dtype})."),
            Class::Signed | Class::Unsigned => format!("Send whole numbers ({dtype})."),
            Class::Complex | Class::Quantized | Class::Handle => return None,
        },
        Action::Rename { old, new } => format!("{}: x  (not {})", quoted(new), quoted(old)),
        Action::SignatureName(name) => format!("\"signature_name\": {}", quoted(name)),
        _ => return None,
    })
}

/// Brackets as the shape nests them: `[[x1, ..., x128]]`. `None` for more than four dimensions,
/// and where one has no element.
fn nested(dims: &[i64]) -> Option<String> {
    if dims.len() > 4 || dims.contains(&0) {
        return None;
    }
    let Some((last, outer)) = dims.split_last() else { return Some("x".to_owned()) };
    let values = match last {
        1 => "x1".to_owned(),
        2 => "x1, x2".to_owned(),
        last if *last < 0 => "x1, ...".to_owned(),
        last => format!("x1, ..., x{last}"),
    };
    let more: String = outer.iter().rev().map(|size| if *size == 1 { "]" } else { ", ...]" }).collect();
    Some(format!("{}{values}]{more}", "[".repeat(dims.len())))
}
