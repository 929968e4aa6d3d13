//! `profile show`: a profile as a table with bars, at most 80 columns wide.
use std::fmt::Write as _;

use anyhow::anyhow;

use super::args::ShowArgs;
use super::bars::{bar, distribution};
use crate::cli::{Failure, render};
use crate::profile::compare::{percent, short};
use crate::profile::{FeatureProfile, Profile, TensorProfile, TextProfile};
use crate::repair::report::ascii;

const NAME: usize = 16;
const NUMBER: usize = 10;
const BAR: usize = 18;
/// Strings that are listed.
const TEXTS: usize = 10;

pub(super) fn show(arguments: &ShowArgs) -> Result<(), Failure> {
    let profile = super::load(&arguments.file)?;
    let wanted = arguments.input.as_deref();
    if let Some(name) = wanted
        && !profile.inputs.contains_key(name)
        && !profile.outputs.contains_key(name)
    {
        return Err(Failure::usage(anyhow!("the profile has no input or output `{name}`")));
    }
    let most = if arguments.features == 0 { usize::MAX } else { arguments.features };
    render::data(&text(&profile, wanted, most));
    Ok(())
}

pub(super) fn text(profile: &Profile, wanted: Option<&str>, most: usize) -> String {
    let mut text = String::new();
    let named = |name: &Option<String>| {
        name.as_ref().map_or_else(|| "any".to_owned(), |name| ascii(name).into_owned())
    };
    let (model, signature) = (named(&profile.model), named(&profile.signature));
    put(&mut text, &format!("model {model}, signature {signature}, {} rows", profile.rows));
    if !profile.sources.is_empty() {
        let sources: Vec<String> = profile.sources.iter().map(|source| ascii(source).into_owned()).collect();
        put(&mut text, &format!("from {}", sources.join(", ")));
    }
    for (what, tensors) in [("input", &profile.inputs), ("output", &profile.outputs)] {
        for (name, of) in tensors.iter().filter(|(name, _)| wanted.is_none_or(|wanted| wanted == *name)) {
            text.push('\n');
            tensor(&mut text, &format!("{what} {}", ascii(name)), of, most);
        }
    }
    text
}

fn tensor(text: &mut String, title: &str, of: &TensorProfile, most: usize) {
    if let Some(strings) = &of.text {
        put(text, &format!("{title}: {}", of.dtype));
        return texts(text, strings);
    }
    let count = of.features.len();
    let by = match of.by {
        crate::profile::By::Whole => "all values together".to_owned(),
        by => format!("{count} {}{}", by.name(), if count == 1 { "" } else { "s" }),
    };
    put(text, &format!("{title}: {}, {by}", of.dtype));
    table(text, of, &of.features, most);
    if let Some(raw) = &of.raw {
        let scaler =
            of.scaler.as_ref().map_or_else(String::new, |scaler| format!(" (scaler: {})", scaler.kind()));
        put(text, &format!("before preprocessing{scaler}"));
        table(text, of, raw, most);
    }
}

fn table(text: &mut String, of: &TensorProfile, features: &[FeatureProfile], most: usize) {
    let line = |name: &str, min: &str, bar: &str, max: &str, mean: &str, std: &str| {
        let name = shortened(name, NAME);
        let bar = format!("{bar}{}", " ".repeat(BAR.saturating_sub(bar.chars().count())));
        format!("  {name:<NAME$}{min:>NUMBER$} {bar} {max:<NUMBER$}{mean:>NUMBER$}{std:>NUMBER$}")
    };
    put(text, &line("", "min", "", "max", "mean", "std"));
    for (index, feature) in features.iter().enumerate().take(most) {
        let number = |value: f64| if value.is_nan() { "-".to_owned() } else { short(value) };
        let name = of.name_of(index);
        let bars = distribution(feature, BAR);
        let (min, max) = (number(feature.min), number(feature.max));
        put(text, &line(&ascii(&name), &min, &bars, &max, &number(feature.mean), &number(feature.std)));
        let notes = notes(feature);
        if !notes.is_empty() {
            put(text, &format!("  {:NAME$}{notes}", ""));
        }
    }
    if features.len() > most {
        put(text, &format!("  and {} more features (--features 0 shows all)", features.len() - most));
    }
}

/// What the columns do not show.
fn notes(feature: &FeatureProfile) -> String {
    let mut notes = Vec::new();
    if feature.missing > 0.0 {
        notes.push(format!("{} missing", percent(feature.missing)));
    }
    if feature.non_finite > 0.0 {
        notes.push(format!("{} infinite", percent(feature.non_finite)));
    }
    match feature.values.as_slice() {
        [] => {}
        [(value, _)] => notes.push(format!("always {}", short(*value))),
        values if values.len() <= 6 => {
            let list: Vec<String> = values
                .iter()
                .map(|(value, share)| format!("{} ({})", short(*value), percent(*share)))
                .collect();
            notes.push(list.join(", "));
        }
        values => notes.push(format!("{} whole values", values.len())),
    }
    if feature.values.is_empty() && feature.integral == 1.0 && feature.has_values() {
        notes.push("whole numbers".to_owned());
    }
    notes.join(", ")
}

fn texts(text: &mut String, of: &TextProfile) {
    let lengths = if of.length.has_values() {
        let (min, max) = (of.length.min, of.length.max);
        if min == max { format!("{min} bytes") } else { format!("{min} to {max} bytes") }
    } else {
        "unknown lengths".to_owned()
    };
    let empty = if of.empty > 0.0 { format!(", {} empty", percent(of.empty)) } else { String::new() };
    let set = match (of.complete, of.values.len()) {
        (true, count) => format!("{count} different ones"),
        (false, 0) => "none of them frequent".to_owned(),
        (false, count) => format!("the {count} most frequent of more"),
    };
    put(text, &format!("  {} strings of {lengths}{empty}; {set}", of.count));
    let longest = of.values.first().map_or(0.0, |(_, share)| *share);
    for (value, share) in of.values.iter().take(TEXTS) {
        let name = shortened(&format!("`{}`", ascii(value)), 28);
        put(text, &format!("  {name:<28} {:<28} {}", bar(*share, longest, 28), percent(*share)));
    }
    if of.values.len() > TEXTS {
        put(text, &format!("  and {} more", of.values.len() - TEXTS));
    }
}

/// At most so many characters.
fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(3)).chain("...".chars()).collect()
}

fn put(text: &mut String, line: &str) {
    writeln!(text, "{}", line.trim_end()).expect("a string takes any text");
}
