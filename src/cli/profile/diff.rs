//! `profile diff`: what moved from one profile to another.
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::args::DiffArgs;
use crate::cli::{Exit, Failure, render};
use crate::profile::compare::{Moved, features, layout, texts};
use crate::profile::{Profile, TensorProfile};
use crate::repair::report::ascii;

pub(super) fn diff(arguments: &DiffArgs) -> Result<Exit, Failure> {
    let (before, after) = (super::load(&arguments.before)?, super::load(&arguments.after)?);
    let most = if arguments.features == 0 { usize::MAX } else { arguments.features };
    let text = text(&before, &after, most);
    if text.is_empty() {
        return Ok(Exit::Success);
    }
    render::data(&text);
    Ok(Exit::Failure)
}

/// Nothing if they are alike.
pub(super) fn text(before: &Profile, after: &Profile, most: usize) -> String {
    let mut text = String::new();
    for (what, before, after) in
        [("input", &before.inputs, &after.inputs), ("output", &before.outputs, &after.outputs)]
    {
        tensors(&mut text, what, before, after, most);
    }
    text
}

fn tensors(
    text: &mut String,
    what: &str,
    before: &BTreeMap<String, TensorProfile>,
    after: &BTreeMap<String, TensorProfile>,
    most: usize,
) {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for name in names {
        let title = format!("{what} {}", ascii(name));
        match (before.get(name), after.get(name)) {
            (Some(before), Some(after)) => tensor(text, &title, before, after, most),
            (Some(_), None) => put(text, &format!("{title}: only in the first profile")),
            (None, _) => put(text, &format!("{title}: only in the second profile")),
        }
    }
}

fn tensor(text: &mut String, title: &str, before: &TensorProfile, after: &TensorProfile, most: usize) {
    if let Some(what) = layout(before, after) {
        put(text, &format!("{title}: {what}"));
        return;
    }
    if let Some((before, after)) = before.text.as_ref().zip(after.text.as_ref()) {
        let what = texts(before, after);
        if !what.is_empty() {
            let strings = format!("{title}: {} differences", what.len());
            put(text, &strings.replace("1 differences", "1 difference"));
            list(text, &what.iter().map(|what| format!("  {what}")).collect::<Vec<_>>(), most);
        }
        return;
    }
    moved(text, title, after, &features(&before.features, &after.features), most);
    match (&before.raw, &after.raw) {
        (Some(one), Some(other)) if one.len() == other.len() => {
            moved(text, &format!("{title}, before preprocessing"), after, &features(one, other), most);
        }
        (None, None) => {}
        _ => put(text, &format!("{title}: only one of the two says what it was before preprocessing")),
    }
    if before.scaler != after.scaler {
        put(text, &format!("{title}: another scaler"));
    }
}

fn moved(text: &mut String, title: &str, of: &TensorProfile, moved: &[Moved], most: usize) {
    if moved.is_empty() {
        return;
    }
    put(text, &format!("{title}: {} of {} features moved", moved.len(), of.features.len()));
    let line = |moved: &Moved| {
        let psi = if moved.psi.is_finite() { format!("PSI {:.2}", moved.psi) } else { "PSI -".to_owned() };
        format!("  {}: {psi}: {}", ascii(&of.name_of(moved.feature)), moved.what.join(", "))
    };
    list(text, &moved.iter().map(line).collect::<Vec<_>>(), most);
}

fn list(text: &mut String, lines: &[String], most: usize) {
    lines.iter().take(most).for_each(|line| put(text, line));
    if lines.len() > most {
        put(text, &format!("  and {} more (--features 0 lists all)", lines.len() - most));
    }
}

fn put(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a string takes any text");
}
