//! The forecast for all forms of a model: who would break, who would be repaired, who would not
//! notice.
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Value, json};

use super::file::{sent_as, shape_text};
use super::forecast::{Class, Forecast, Target};
use super::form::Form;
use super::store::Counted;
use crate::repair::report::one_line;
use crate::signature::{Signature, Signatures};

/// Callers that a text names.
const MAX_NAMED: usize = 20;

/// The forecasts of one model.
#[derive(Debug)]
pub(crate) struct Report {
    pub model: String,
    /// The version that is foretold, if it has a number.
    pub version: Option<i64>,
    /// Each form with its forecast, the worst first.
    pub forms: Vec<(Counted, Forecast)>,
    /// Outputs that clients without an `output_filter` will miss.
    pub gone: Vec<String>,
}

impl Report {
    /// Judges the forms of a model. Of a form that several versions have judged, the verdict of the
    /// last one counts.
    pub(crate) fn new(model: &str, version: Option<i64>, forms: Vec<Counted>, target: &Target<'_>) -> Self {
        let mut latest: BTreeMap<String, i64> = BTreeMap::new();
        let forms: Vec<(String, Counted)> = forms
            .into_iter()
            .filter(|counted| counted.form.model == model)
            .map(|counted| (sent_as(&counted.form), counted))
            .collect();
        for (name, counted) in &forms {
            let known = latest.entry(name.clone()).or_insert(i64::MIN);
            *known = (*known).max(counted.form.version);
        }
        let current =
            forms.into_iter().filter(|(name, counted)| latest.get(name) == Some(&counted.form.version));
        let mut forms: Vec<(Counted, Forecast)> = current
            .map(|(_, counted)| {
                let forecast = target.forecast(&counted);
                (counted, forecast)
            })
            .collect();
        forms.sort_by_key(|(counted, forecast)| std::cmp::Reverse((forecast.class, counted.requests)));
        Self { model: model.to_owned(), version, forms, gone: Vec::new() }
    }

    /// Each caller, with the worst that happens to it.
    pub(crate) fn callers(&self) -> BTreeMap<&str, Class> {
        let mut callers = BTreeMap::new();
        for (counted, forecast) in &self.forms {
            let worst = callers.entry(counted.form.client.as_str()).or_insert(forecast.class);
            *worst = (*worst).max(forecast.class);
        }
        callers
    }

    /// How many callers there are of each class.
    pub(crate) fn counts(&self) -> BTreeMap<Class, usize> {
        let mut counts = BTreeMap::new();
        for class in self.callers().into_values() {
            *counts.entry(class).or_default() += 1;
        }
        counts
    }

    /// The forms that would be refused, and were not.
    pub(crate) fn broken(&self) -> impl Iterator<Item = &(Counted, Forecast)> {
        self.forms.iter().filter(|(_, forecast)| forecast.class == Class::Refused)
    }

    /// How many callers would be refused.
    pub(crate) fn refused(&self) -> usize {
        self.counts().get(&Class::Refused).copied().unwrap_or(0)
    }

    /// `callers 14: 11 as before, 2 repaired (cast_round), 1 would be refused`.
    pub(crate) fn summary(&self) -> String {
        let counts = self.counts();
        let parts = counts.iter().map(|(class, count)| {
            let words = match class {
                Class::AsBefore => "as before",
                Class::Better => "better than before",
                Class::Pinned => "ask for a version of their own",
                Class::Repaired => "repaired from now on",
                Class::Unjudged => "not judged",
                Class::Forwarded => "forwarded although they do not conform",
                Class::DependsOnSizes => "depend on sizes",
                Class::DependsOnValues => "depend on values",
                Class::Refused => "would be refused",
            };
            let kinds = match class {
                Class::Repaired | Class::DependsOnValues => self.kinds(*class),
                _ => String::new(),
            };
            format!("{count} {words}{kinds}")
        });
        let parts: Vec<String> = parts.collect();
        let all: usize = counts.values().sum();
        if parts.is_empty() { "callers 0".to_owned() } else { format!("callers {all}: {}", parts.join(", ")) }
    }

    /// The rules that the forms of a class need: ` (cast_round, flatten)`.
    fn kinds(&self, class: Class) -> String {
        let of = self.forms.iter().filter(|(_, forecast)| forecast.class == class);
        let mut kinds: Vec<&str> =
            of.flat_map(|(_, forecast)| forecast.findings.iter().map(|found| &*found.kind)).collect();
        kinds.sort_unstable();
        kinds.dedup();
        if kinds.is_empty() { String::new() } else { format!(" ({})", kinds.join(", ")) }
    }

    /// The summary, and a line for each form for which something changes for the worse. Forms that
    /// read alike, which differ in what a line does not say, are one line.
    pub(crate) fn text(&self) -> String {
        let version = self.version.map_or_else(String::new, |version| format!(" version {version}"));
        let mut text = format!("model '{}'{version}: {}\n", one_line(&self.model), self.summary());
        let worse = self.forms.iter().filter(|(_, forecast)| forecast.class >= Class::Repaired);
        let mut lines: Vec<(Line<'_>, u64)> = Vec::new();
        let mut known: HashMap<Line<'_>, usize> = HashMap::new();
        for (counted, forecast) in worse {
            let line = Line::of(counted, forecast);
            let at = *known.entry(line.clone()).or_insert(lines.len());
            match lines.get_mut(at) {
                Some((_, requests)) => *requests += counted.requests,
                None => lines.push((line, counted.requests)),
            }
        }
        for (line, requests) in lines.iter().take(MAX_NAMED) {
            let _ = writeln!(text, "  {}", line.text(*requests));
        }
        if let Some(more) = lines.len().checked_sub(MAX_NAMED).filter(|more| *more > 0) {
            let _ = writeln!(text, "  and {more} more forms");
        }
        if !self.gone.is_empty() {
            let all = self.forms.iter().filter(|(counted, _)| counted.form.outputs.is_empty());
            let mut callers: Vec<&str> = all.map(|(counted, _)| counted.form.client.as_str()).collect();
            callers.sort_unstable();
            callers.dedup();
            let names: Vec<String> = self.gone.iter().take(MAX_NAMED).map(|name| one_line(name)).collect();
            let _ = writeln!(
                text,
                "  outputs that are gone: {}; {} callers get all outputs and may read them",
                names.join(", "),
                callers.len()
            );
        }
        text
    }

    /// `{"model", "version", "summary", "callers": {CLASS: count}, "outputs_gone", "forms": [...],
    /// "more"}`.
    pub(crate) fn to_json(&self, max_forms: usize) -> Value {
        let counts: serde_json::Map<String, Value> =
            self.counts().iter().map(|(class, count)| (class.as_str().to_owned(), json!(count))).collect();
        let form = |(counted, forecast): &(Counted, Forecast)| {
            let found: Vec<(&str, &str)> =
                forecast.findings.iter().map(|found| (&*found.kind, found.input.as_str())).collect();
            json!({
                "client": counted.form.client,
                "signatures": counted.form.signatures,
                "inputs": sent(&counted.form),
                "requests": counted.requests,
                "last": humantime::format_rfc3339_seconds(counted.last).to_string(),
                "class": forecast.class.as_str(),
                "expected": forecast.expected.as_str(),
                "findings": found,
                "undecided": forecast.undecided,
                "text": forecast.text,
            })
        };
        json!({
            "model": self.model,
            "version": self.version,
            "summary": self.summary(),
            "callers": counts,
            "outputs_gone": self.gone,
            "forms": self.forms.iter().take(max_forms).map(form).collect::<Vec<_>>(),
            "more": self.forms.len().saturating_sub(max_forms),
        })
    }
}

/// The outputs that signatures of the same name do not have any more.
pub(crate) fn gone(before: &Signatures, after: &Signatures) -> Vec<String> {
    let of = |old: &Arc<Signature>| {
        let new = after.get(&old.name)?;
        let gone = old.outputs.iter().filter(|output| new.output(&output.alias).is_none());
        Some(gone.map(|output| output.alias.clone()).collect::<Vec<_>>())
    };
    before.servable().filter_map(of).flatten().collect()
}

/// What is said of a form, but for the number of its requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Line<'a> {
    client: &'a str,
    what: &'static str,
    sent: String,
    text: &'a str,
}

impl<'a> Line<'a> {
    fn of(counted: &'a Counted, forecast: &'a Forecast) -> Self {
        let client = if counted.form.client.is_empty() { "a client" } else { &counted.form.client };
        let what = match forecast.class {
            Class::Refused => "would be refused",
            Class::DependsOnValues => "depends on values",
            Class::DependsOnSizes => "depends on sizes",
            Class::Forwarded => "would be forwarded although it does not conform",
            Class::Unjudged => "not judged",
            Class::Repaired => "would be repaired",
            Class::AsBefore | Class::Better | Class::Pinned => "as before",
        };
        Self { client, what, sent: sent(&counted.form), text: &forecast.text }
    }

    /// `ios-app/4.2 (1841 requests): would be refused: sends x:float[1,128]; input 'x' ...`.
    fn text(&self, requests: u64) -> String {
        let Self { client, what, sent, text } = self;
        let noun = if requests == 1 { "request" } else { "requests" };
        one_line(&format!("{client} ({requests} {noun}): {what}: sends {sent}; {text}"))
    }
}

/// `x:float[N,128] y:int64[1]`, with the signature in front if it is not the default one.
pub(crate) fn sent(form: &Form) -> String {
    const SHOWN: usize = 8;
    let named = form.signatures.iter().filter(|name| *name != crate::wire::DEFAULT_SIGNATURE);
    let mut words: Vec<String> = named.map(|name| format!("@{name}")).collect();
    let inputs = form.inputs.iter().take(SHOWN);
    words.extend(inputs.map(|input| format!("{}:{}{}", input.name, input.dtype, shape_text(&input.shape))));
    if form.inputs.len() > SHOWN {
        words.push(format!("and {} more", form.inputs.len() - SHOWN));
    }
    words.join(" ")
}
