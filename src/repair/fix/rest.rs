//! The line to change in a JSON body.
use super::action::Action;
use super::quoted;

pub(super) fn line(action: &Action<'_>) -> Option<String> {
    Some(match action {
        Action::AddBatchDim(dims) | Action::Shape(dims) => {
            format!("\"inputs\": {}", nested(dims)?)
        }
        Action::Rename { old, new } => format!("\"inputs\": {{{}: x}}  (not {})", quoted(new), quoted(old)),
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
