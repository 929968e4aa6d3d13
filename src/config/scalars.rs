//! The formats of single values: switches, choices, numbers, sizes, times, addresses, texts.
use std::fmt::Display;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::UpstreamConcurrency;
use super::format::{Scalar, Tree};
use super::problem::{Problem, list};
use crate::repair::policy::Literal;
use crate::spelling::nearest;
use crate::telemetry::log;

/// `on` or `off`; `true`, `false`, `yes` and `no` are accepted too.
pub(super) struct OnOff;

impl Scalar for OnOff {
    type Value = bool;

    fn parse(&self, text: &str) -> Result<bool, Problem> {
        match text.to_ascii_lowercase().as_str() {
            "on" | "true" | "yes" => Ok(true),
            "off" | "false" | "no" => Ok(false),
            _ => Err(expected("`on` or `off`", text)),
        }
    }

    fn write(&self, value: &bool) -> Tree {
        Tree::Text(if *value { "on" } else { "off" }.to_owned())
    }

    fn schema(&self) -> Json {
        json!({"enum": ["on", "off", true, false]})
    }
}

/// A value, or `off` for none.
pub(super) struct OffOr<S>(pub S);

impl<S: Scalar> Scalar for OffOr<S> {
    type Value = Option<S::Value>;

    fn parse(&self, text: &str) -> Result<Self::Value, Problem> {
        match text {
            "off" | "false" | "no" => Ok(None),
            text => self.0.parse(text).map(Some),
        }
    }

    fn write(&self, value: &Self::Value) -> Tree {
        value.as_ref().map_or_else(|| OnOff.write(&false), |value| self.0.write(value))
    }

    fn schema(&self) -> Json {
        let value = self.0.schema();
        let title = value.get("title").and_then(Json::as_str).unwrap_or("value");
        json!({"title": format!("{title}, or `off`"), "anyOf": [{"enum": ["off", false]}, value]})
    }
}

/// One of a few words.
pub(super) struct Choice<V: 'static>(pub &'static [(&'static str, V)]);

impl<V: Copy + PartialEq + Sync> Scalar for Choice<V> {
    type Value = V;

    fn parse(&self, text: &str) -> Result<V, Problem> {
        let found = self.0.iter().find(|(name, _)| *name == text);
        found.map(|(_, value)| *value).ok_or_else(|| none_of(&self.names(), text))
    }

    fn write(&self, value: &V) -> Tree {
        let name = self.0.iter().find(|(_, known)| known == value).map_or("", |(name, _)| name);
        Tree::Text(name.to_owned())
    }

    fn schema(&self) -> Json {
        json!({"enum": self.names()})
    }
}

/// One of a few words, as it is.
pub(super) struct Words(pub &'static [&'static str]);

impl Scalar for Words {
    type Value = &'static str;

    fn parse(&self, text: &str) -> Result<&'static str, Problem> {
        self.0.iter().find(|word| **word == text).copied().ok_or_else(|| none_of(self.0, text))
    }

    fn write(&self, value: &&'static str) -> Tree {
        Tree::Text((*value).to_owned())
    }

    fn schema(&self) -> Json {
        json!({"enum": self.0})
    }
}

fn none_of(names: &[&'static str], text: &str) -> Problem {
    let problem = expected(&list(names, "or"), text);
    match nearest(text, names.iter().copied()) {
        Some(near) => problem.hint(format!("did you mean `{near}`?")),
        None => problem,
    }
}

impl<V> Choice<V> {
    fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|(name, _)| *name).collect()
    }
}

/// A whole number within bounds; `_` may separate digits.
pub(super) struct Number<V> {
    min: u64,
    max: u64,
    of: PhantomData<fn() -> V>,
}

impl<V> Number<V> {
    pub(super) const fn new(min: u64, max: u64) -> Self {
        Self { min, max, of: PhantomData }
    }
}

impl<V: Copy + TryFrom<u64> + TryInto<u64>> Scalar for Number<V> {
    type Value = V;

    fn parse(&self, text: &str) -> Result<V, Problem> {
        let number = text.replace('_', "").parse().ok();
        let number = number.filter(|number| (self.min..=self.max).contains(number));
        let range = || format!("a whole number from {} to {}", self.min, self.max);
        number.and_then(|number| V::try_from(number).ok()).ok_or_else(|| expected(&range(), text))
    }

    fn write(&self, value: &V) -> Tree {
        Tree::Unsigned((*value).try_into().unwrap_or(u64::MAX))
    }

    fn schema(&self) -> Json {
        json!({"title": "number", "type": "integer", "minimum": self.min, "maximum": self.max})
    }
}

/// `512MiB`, `1GB` or a number of bytes.
pub(super) struct Size<V> {
    max: u64,
    of: PhantomData<fn() -> V>,
}

impl<V> Size<V> {
    pub(super) const fn up_to(max: u64) -> Self {
        Self { max, of: PhantomData }
    }
}

impl<V: Copy + TryFrom<u64> + TryInto<u64>> Scalar for Size<V> {
    type Value = V;

    fn parse(&self, text: &str) -> Result<V, Problem> {
        let size = text.replace('_', "").parse::<bytesize::ByteSize>();
        let bytes = size.map_err(|_| expected("a size such as `512MiB`", text))?.as_u64();
        match V::try_from(bytes) {
            _ if bytes == 0 => Err(expected("a size above zero", text)),
            Ok(value) if bytes <= self.max => Ok(value),
            _ => Err(expected(&format!("at most {} bytes", self.max), text)),
        }
    }

    fn write(&self, value: &V) -> Tree {
        let bytes: u64 = (*value).try_into().unwrap_or(u64::MAX);
        let unit = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
        match unit.into_iter().find(|(_, bits)| bytes.trailing_zeros() >= *bits) {
            Some((unit, bits)) => Tree::Text(format!("{}{unit}", bytes >> bits)),
            None => Tree::Unsigned(bytes),
        }
    }

    fn schema(&self) -> Json {
        json!({"title": "size", "type": ["integer", "string"], "minimum": 1, "pattern": "^[0-9]"})
    }
}

/// `50ms`, `1s`, `1m 30s`.
pub(super) struct Time {
    pub zero: bool,
}

impl Scalar for Time {
    type Value = Duration;

    fn parse(&self, text: &str) -> Result<Duration, Problem> {
        match humantime::parse_duration(text) {
            Err(_) => Err(expected("a time with its unit such as `50ms` or `5s`", text)),
            Ok(time) if time.is_zero() && !self.zero => Err(expected("a time above zero", text)),
            Ok(time) => Ok(time),
        }
    }

    fn write(&self, value: &Duration) -> Tree {
        Tree::Text(humantime::format_duration(*value).to_string())
    }

    fn schema(&self) -> Json {
        json!({"title": "time", "type": "string", "pattern": "^[0-9].*[a-z]$"})
    }
}

/// A value from 0 to 1.
pub(super) struct Share;

impl Scalar for Share {
    type Value = f64;

    fn parse(&self, text: &str) -> Result<f64, Problem> {
        let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
        share.ok_or_else(|| expected("a number from 0 to 1", text))
    }

    fn write(&self, value: &f64) -> Tree {
        Tree::Float(*value)
    }

    fn schema(&self) -> Json {
        json!({"title": "0 to 1", "type": "number", "minimum": 0, "maximum": 1})
    }
}

/// An address, which its type parses and prints.
pub(super) struct Address<V>(PhantomData<fn() -> V>);

impl<V> Address<V> {
    pub(super) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<V: FromStr<Err: Display> + Display> Scalar for Address<V> {
    type Value = V;

    fn parse(&self, text: &str) -> Result<V, Problem> {
        text.parse().map_err(|error: V::Err| Problem::text(error.to_string()))
    }

    fn write(&self, value: &V) -> Tree {
        Tree::Text(value.to_string())
    }

    fn schema(&self) -> Json {
        json!({"title": "address", "type": "string"})
    }
}

/// `auto`, `off` or a number.
pub(super) struct Concurrency;

impl Scalar for Concurrency {
    type Value = UpstreamConcurrency;

    fn parse(&self, text: &str) -> Result<UpstreamConcurrency, Problem> {
        Ok(match text {
            "auto" => UpstreamConcurrency::Auto,
            "off" => UpstreamConcurrency::Off,
            number => UpstreamConcurrency::Fixed(
                Self::NUMBER
                    .parse(number)
                    .map_err(|_| expected("`auto`, `off` or a number above zero", text))?,
            ),
        })
    }

    fn write(&self, value: &UpstreamConcurrency) -> Tree {
        match value {
            UpstreamConcurrency::Auto => Tree::Text("auto".to_owned()),
            UpstreamConcurrency::Off => Tree::Text("off".to_owned()),
            UpstreamConcurrency::Fixed(number) => Self::NUMBER.write(number),
        }
    }

    fn schema(&self) -> Json {
        let number = Self::NUMBER.schema();
        json!({"title": "`auto`, number, `off`", "anyOf": [{"enum": ["auto", "off"]}, number]})
    }
}

impl Concurrency {
    const NUMBER: Number<usize> = Number::new(1, 1 << 20);
}

/// A file name.
pub(super) struct FilePath;

impl Scalar for FilePath {
    type Value = PathBuf;

    fn parse(&self, text: &str) -> Result<PathBuf, Problem> {
        Ok(PathBuf::from(text))
    }

    fn write(&self, value: &PathBuf) -> Tree {
        Tree::Text(value.display().to_string())
    }

    fn schema(&self) -> Json {
        json!({"title": "file", "type": "string"})
    }
}

/// Permissions of a file, in octal: `0600`.
pub(super) struct FileMode;

impl Scalar for FileMode {
    type Value = u32;

    fn parse(&self, text: &str) -> Result<u32, Problem> {
        let digits = text.strip_prefix("0o").unwrap_or(text);
        let octal = digits.len() >= 3 && digits.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
        let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| octal && *mode <= 0o777);
        mode.ok_or_else(|| expected("permissions in octal such as `0600`", text))
    }

    fn write(&self, value: &u32) -> Tree {
        Tree::Text(format!("{value:04o}"))
    }

    fn schema(&self) -> Json {
        json!({"title": "permissions", "type": ["integer", "string"], "pattern": "^[0-9]"})
    }
}

/// Which log lines are written.
pub(super) struct LogFilter;

impl Scalar for LogFilter {
    type Value = String;

    fn parse(&self, text: &str) -> Result<String, Problem> {
        log::check(text).map_err(|error| Problem::text(error.to_string()))?;
        Ok(text.to_owned())
    }

    fn write(&self, value: &String) -> Tree {
        Tree::Text(value.clone())
    }

    fn schema(&self) -> Json {
        json!({"title": "filter", "type": "string"})
    }
}

/// Any text; what it is, in a word.
pub(super) struct Text(pub &'static str);

impl Scalar for Text {
    type Value = String;

    fn parse(&self, text: &str) -> Result<String, Problem> {
        Ok(text.to_owned())
    }

    fn write(&self, value: &String) -> Tree {
        Tree::Text(value.clone())
    }

    fn schema(&self) -> Json {
        json!({"title": self.0, "type": "string"})
    }
}

/// A value for a tensor, as the file writes it: quotes make it text.
pub(super) struct Element;

impl Scalar for Element {
    type Value = Literal;

    fn parse(&self, text: &str) -> Result<Literal, Problem> {
        Ok(match text {
            "true" | "True" => Literal::Bool(true),
            "false" | "False" => Literal::Bool(false),
            ".nan" | ".NaN" => Literal::Float(f64::NAN),
            ".inf" | "+.inf" => Literal::Float(f64::INFINITY),
            "-.inf" => Literal::Float(f64::NEG_INFINITY),
            text if text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first)) => {
                match (text.parse(), text.parse()) {
                    (Ok(int), _) => Literal::Int(int),
                    (_, Ok(float)) => Literal::Float(float),
                    _ => Literal::Text(text.to_owned()),
                }
            }
            text => Literal::Text(text.to_owned()),
        })
    }

    fn parse_quoted(&self, text: &str) -> Result<Literal, Problem> {
        Ok(Literal::Text(text.to_owned()))
    }

    fn write(&self, value: &Literal) -> Tree {
        match value {
            Literal::Bool(value) => Tree::Bool(*value),
            Literal::Int(value) => Tree::Signed(*value),
            Literal::Float(value) => Tree::Float(*value),
            Literal::Text(text) => Tree::Quoted(text.clone()),
        }
    }

    fn schema(&self) -> Json {
        json!({"title": "value", "type": ["boolean", "number", "string"]})
    }
}

fn expected(what: &str, text: &str) -> Problem {
    Problem::text(format!("expected {what}, got `{text}`"))
}
