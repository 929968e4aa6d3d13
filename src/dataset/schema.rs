//! Reads the domains of a schema of TensorFlow Metadata (`schema.pbtxt`): the values that its
//! author allows.
use std::collections::BTreeMap;

use super::Fault;
use super::fault::Place;
use super::text_format::{Event, Lexer};
use crate::profile::{MAX_VALUES, Profile, TextProfile};

/// Bytes of a file.
pub const MAX_SCHEMA_BYTES: usize = 16 << 20;
/// Strings of a domain, and domains.
const MAX_DOMAIN: usize = 100_000;
/// Messages in messages.
const MAX_DEPTH: usize = 64;

/// What a domain allows.
#[derive(Debug, Clone, Default, PartialEq)]
struct Domain {
    min: Option<f64>,
    max: Option<f64>,
    strings: Vec<String>,
}

/// The domains of a schema by the names of features.
#[derive(Debug, Clone, Default)]
pub struct Schema {
    domains: BTreeMap<String, Domain>,
}

/// A message that is open while the text is read.
#[derive(Debug, Default)]
struct Open {
    key: String,
    name: String,
    /// The name of a domain at the top of the schema.
    refers_to: Option<String>,
    domain: Domain,
}

impl Schema {
    /// Reads the text format of protocol buffers. Fields that say nothing about values are skipped.
    ///
    /// # Errors
    /// If it is not in that format, with the line.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        if text.len() > MAX_SCHEMA_BYTES {
            return Err(Fault::new(format!("the file has {} bytes (limit {MAX_SCHEMA_BYTES})", text.len())));
        }
        let mut lexer = Lexer::new(text);
        let mut open: Vec<Open> = Vec::new();
        let (mut named, mut features) = (BTreeMap::new(), Vec::new());
        let mut count = 0;
        loop {
            let event = lexer.next().map_err(|text| Fault::new(text).at(Place::Line(lexer.line())))?;
            match event {
                Event::Open(key) => {
                    if open.len() == MAX_DEPTH {
                        return Err(Fault::new("messages nest too deeply").at(Place::Line(lexer.line())));
                    }
                    open.push(Open { key: key.to_owned(), ..Open::default() });
                }
                Event::Close => {
                    let Some(closed) = open.pop() else {
                        return Err(Fault::new("`}` without `{`").at(Place::Line(lexer.line())));
                    };
                    count += 1 + closed.domain.strings.len();
                    if count > MAX_DOMAIN {
                        return Err(Fault::new(format!("too many domains and strings (limit {MAX_DOMAIN})")));
                    }
                    let is_domain =
                        matches!(closed.key.as_str(), "int_domain" | "float_domain" | "string_domain");
                    match open.last_mut() {
                        Some(around) if is_domain && around.key == "feature" => around.domain = closed.domain,
                        Some(_) => {}
                        None if closed.key == "feature" => features.push(closed),
                        None if is_domain => drop(named.insert(closed.name, closed.domain)),
                        None => {}
                    }
                }
                Event::Field(key, value) => {
                    let Some(around) = open.last_mut() else { continue };
                    match (around.key.as_str(), key) {
                        ("feature", "domain") => around.refers_to = Some(value),
                        (_, "name") => around.name = value,
                        ("int_domain" | "float_domain", "min") => around.domain.min = value.parse().ok(),
                        ("int_domain" | "float_domain", "max") => around.domain.max = value.parse().ok(),
                        ("string_domain", "value") => around.domain.strings.push(value),
                        _ => {}
                    }
                }
                Event::End if open.is_empty() => break,
                Event::End => return Err(Fault::new("a `}` is missing").at(Place::Line(lexer.line()))),
            }
        }
        let mut domains = BTreeMap::new();
        for Open { name, refers_to, domain, .. } in features {
            let domain = refers_to.and_then(|name| named.get(&name).cloned()).unwrap_or(domain);
            domains.insert(name, domain);
        }
        Ok(Self { domains })
    }

    /// Widens the ranges and sets of a profile to what the schema allows. Returns what contradicts
    /// the data, for people.
    pub fn apply(&self, profile: &mut Profile) -> Vec<String> {
        let mut found = Vec::new();
        for (input, tensor) in &mut profile.inputs {
            if let (Some(text), Some(domain)) = (&mut tensor.text, self.domains.get(input)) {
                strings(input, text, domain, &mut found);
            }
            let alone = tensor.features.len() == 1 && tensor.names.is_empty();
            for (index, feature) in tensor.features.iter_mut().enumerate().filter(|(_, of)| of.has_values()) {
                let name = tensor.names.get(index).or(alone.then_some(input));
                let Some((name, domain)) = name.and_then(|name| self.domains.get_key_value(name)) else {
                    continue;
                };
                let (low, high) = (domain.min.unwrap_or(feature.min), domain.max.unwrap_or(feature.max));
                if low > feature.min || high < feature.max {
                    found.push(format!("`{name}`: the data has values outside of the schema's domain"));
                }
                // The whole set of values is no longer known once others are allowed.
                if low < feature.min || high > feature.max {
                    feature.values.clear();
                }
                feature.min = feature.min.min(low);
                feature.max = feature.max.max(high);
            }
        }
        found
    }
}

fn strings(input: &str, text: &mut TextProfile, domain: &Domain, found: &mut Vec<String>) {
    if domain.strings.is_empty() {
        return;
    }
    let known = |text: &str| domain.strings.iter().any(|allowed| allowed == text);
    if text.values.iter().any(|(value, _)| !value.is_empty() && !known(value)) {
        found.push(format!("`{input}`: the data has strings outside of the schema's domain"));
        return;
    }
    for allowed in &domain.strings {
        if text.values.len() == MAX_VALUES {
            text.complete = false;
            return;
        }
        if !text.values.iter().any(|(value, _)| value == allowed) {
            text.values.push((allowed.clone(), 0.0));
        }
    }
    text.complete = true;
}
