//! Writes a profile as YAML.
use std::fmt::{Display, Write as _};

use super::VERSION;
use crate::profile::{By, FeatureProfile, Profile, Scaler, TensorProfile, TextProfile};

/// YAML reads longer keys only after a question mark (1.2.2, section 7.4.3). Escapes make a name
/// that long.
const MAX_SIMPLE_KEY: usize = 1000;

pub(super) fn profile(profile: &Profile) -> String {
    let mut text = format!("profile: {VERSION}\n");
    for (key, value) in [("model", &profile.model), ("signature", &profile.signature)] {
        if let Some(value) = value {
            line(&mut text, 0, key, &quoted(value));
        }
    }
    line(&mut text, 0, "rows", &profile.rows);
    if !profile.sources.is_empty() {
        text += "sources:\n";
        for source in &profile.sources {
            line(&mut text, 1, "-", &quoted(source));
        }
    }
    for (key, tensors) in [("inputs", &profile.inputs), ("outputs", &profile.outputs)] {
        if tensors.is_empty() {
            // The key of the inputs must be there.
            text += if key == "inputs" { "inputs: {}\n" } else { "" };
        } else {
            line(&mut text, 0, key, &"");
            for (name, of) in tensors {
                let name = quoted(name);
                if name.len() < MAX_SIMPLE_KEY {
                    line(&mut text, 1, &name, &"");
                } else {
                    text.extend(["  ? ", &name, "\n  :\n"]);
                }
                tensor(&mut text, of);
            }
        }
    }
    text
}

fn tensor(text: &mut String, tensor: &TensorProfile) {
    line(text, 2, "dtype", &tensor.dtype);
    if tensor.by != By::Whole {
        line(text, 2, "by", &tensor.by.name());
    }
    features(text, "features", &tensor.features, &tensor.names);
    if let Some(raw) = &tensor.raw {
        features(text, "raw", raw, &tensor.names);
    }
    if let Some(of) = &tensor.scaler {
        line(text, 2, "scaler", &scaler(of));
    }
    if let Some(of) = &tensor.text {
        strings(text, of);
    }
}

fn features(text: &mut String, key: &str, features: &[FeatureProfile], names: &[String]) {
    if features.is_empty() {
        return;
    }
    line(text, 2, key, &"");
    for (index, of) in features.iter().enumerate() {
        let name = names.get(index).map_or_else(String::new, |name| format!("name: {}, ", quoted(name)));
        line(text, 3, "-", &format!("{{{name}{}}}", feature(of)));
    }
}

/// Keys and values on a line. What is usually 0 is written only when it is not.
fn feature(of: &FeatureProfile) -> String {
    let mut text = format!("count: {}", of.count);
    if of.has_values() {
        for (key, value) in [("min", of.min), ("max", of.max), ("mean", of.mean), ("std", of.std)] {
            write!(text, ", {key}: {}", number(value)).expect("a string takes any text");
        }
        write!(text, ", quantiles: {}", list(of.quantiles.iter())).expect("a string takes any text");
    }
    let shares = [
        ("missing", of.missing),
        ("non_finite", of.non_finite),
        ("integral", of.integral),
        ("zero", of.zero),
    ];
    for (key, share) in shares.into_iter().filter(|(_, share)| *share != 0.0) {
        write!(text, ", {key}: {}", number(share)).expect("a string takes any text");
    }
    if !of.values.is_empty() {
        let pair = |(value, share): &(f64, f64)| format!("[{}, {}]", number(*value), number(*share));
        let pairs: Vec<String> = of.values.iter().map(pair).collect();
        write!(text, ", values: [{}]", pairs.join(", ")).expect("a string takes any text");
    }
    text
}

fn scaler(scaler: &Scaler) -> String {
    let (first, second) = scaler.lists();
    let (first_key, second_key, to) = match scaler {
        Scaler::Standard { .. } => ("mean", "scale", String::new()),
        Scaler::MinMax { to, .. } => ("min", "max", format!(", to: {}", list([to.0, to.1].iter()))),
        Scaler::Robust { .. } => ("center", "scale", String::new()),
    };
    let (first, second) = (list(first.iter()), list(second.iter()));
    format!("{{kind: {}, {first_key}: {first}, {second_key}: {second}{to}}}", scaler.kind())
}

fn strings(text: &mut String, of: &TextProfile) {
    line(text, 2, "text", &"");
    line(text, 3, "count", &of.count);
    line(text, 3, "empty", &number(of.empty));
    line(text, 3, "length", &format!("{{{}}}", feature(&of.length)));
    line(text, 3, "complete", &of.complete);
    if !of.values.is_empty() {
        line(text, 3, "values", &"");
        for (value, share) in &of.values {
            line(text, 4, "-", &format!("[{}, {}]", quoted(value), number(*share)));
        }
    }
}

fn list<'a>(numbers: impl Iterator<Item = &'a f64>) -> String {
    let numbers: Vec<String> = numbers.map(|value| number(*value)).collect();
    format!("[{}]", numbers.join(", "))
}

/// The shortest decimal that reads as the same number.
fn number(value: f64) -> String {
    match value {
        value if value.is_nan() => ".nan".to_owned(),
        f64::INFINITY => ".inf".to_owned(),
        f64::NEG_INFINITY => "-.inf".to_owned(),
        value => {
            // Unlike `Display`, this writes 1e300 as that.
            let text = format!("{value:?}");
            text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
        }
    }
}

/// `  key: value`, or `  - value` for the key `-`.
fn line(text: &mut String, depth: usize, key: &str, value: &dyn Display) {
    let indent = "  ".repeat(depth);
    let colon = if key == "-" { "" } else { ":" };
    let line = format!("{indent}{key}{colon} {value}");
    text.push_str(line.trim_end());
    text.push('\n');
}

/// A text that is read as this text: plain where that is certain, otherwise in double quotes.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    // Words that YAML 1.1 or 1.2 reads as something else than a text, some in any case.
    let words = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    let word = words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if starts && !word && text.chars().all(plain) {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted += "\\\"",
            '\\' => quoted += "\\\\",
            '\n' => quoted += "\\n",
            '\t' => quoted += "\\t",
            c if (' '..='~').contains(&c) => quoted.push(c),
            // Letters of other scripts stay readable. Control and format characters do not.
            c if c.is_alphanumeric() => quoted.push(c),
            c => write!(quoted, "\\U{:08x}", u32::from(c)).expect("a string takes any text"),
        }
    }
    quoted.push('"');
    quoted
}
