//! What an error of TensorFlow about an operation means, as far as the table of operations knows.
use super::{Op, Release, package_of};

/// Operations that call Python, which only the process that built the model has.
pub(super) const PYTHON: &[&str] = &["PyFunc", "PyFuncStateless", "EagerPyFunc"];

/// What the tables add to an error of a load or of a request: which release has the operation or
/// the attribute, or which package. ASCII, one line.
pub fn of_error(text: &str) -> Option<String> {
    if let Some(op) = between(text, "Op type not registered '", "'") {
        return Some(unregistered(op));
    }
    let attr = between(text, "NodeDef mentions attr '", "'")?;
    let op = between(text, "not in Op<name=", ";").or_else(|| between(text, "not in Op<name=", ">"))?;
    match Op::find(op)?.attr(attr) {
        Some(attr) if Some(attr.first) > Release::all().next() => {
            Some(format!("attribute `{}` of {op} exists since TensorFlow {}", attr.name, attr.first))
        }
        Some(attr) => Some(format!(
            "attribute `{}` of {op} exists in every TensorFlow since {}: the server is older than that",
            attr.name, attr.first
        )),
        None => Some(format!("no TensorFlow from {} has attribute `{}` of {op}", known(), ascii(attr))),
    }
}

fn unregistered(op: &str) -> String {
    if PYTHON.contains(&op) {
        return format!("`{op}` calls Python, which no TensorFlow Serving has");
    }
    match (Op::find(op), package_of(op)) {
        (Some(known), _) if Some(known.last) < Release::all().next_back() => {
            format!("op `{op}` exists from TensorFlow {} to {}", known.first, known.last)
        }
        (Some(known), _) if Some(known.first) > Release::all().next() => {
            format!("op `{op}` exists since TensorFlow {}: the server is older", known.first)
        }
        (Some(known), _) => format!(
            "op `{op}` is in every TensorFlow since {}: the server is older than that, or built without it",
            known.first
        ),
        (None, Some(package)) => {
            format!("op `{}` is of {}: {}", ascii(op), package.name, package.action)
        }
        (None, None) => format!(
            "op `{}` is not TensorFlow's own in {}: it is a custom op, which must be built into the server",
            ascii(op),
            known()
        ),
    }
}

/// The releases of the table: `2.4 to 2.21`.
pub(super) fn known() -> String {
    let mut all = Release::all();
    match (all.next(), all.next_back()) {
        (Some(first), Some(last)) => format!("{first} to {last}"),
        _ => String::new(),
    }
}

fn ascii(name: &str) -> std::borrow::Cow<'_, str> {
    crate::repair::report::ascii(name)
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let rest = text.get(text.find(before)? + before.len()..)?;
    rest.get(..rest.find(after)?).filter(|name| !name.is_empty())
}
