//! The census as JSON: what `/api/traffic` shows, and what `traffic` saves and merges.
use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::form::{Carrier, Choice, Dim, Finding, Form, Input, Range, Sizes, Values};
use super::outcome::{api_name, api_of, method_name, method_of, outcome_name, outcome_of};
use super::outputs::SignatureOutputs;
use super::store::{Census, Counted};
use crate::repair::{Reason, Repair};
use crate::tensor::{DataType, ValueList};

/// The version of the format.
const FORMAT: u32 = 1;
/// Bytes of a file that are read.
pub(crate) const MAX_BYTES: u64 = 64 << 20;
/// Forms in a file: those of 50 sidecars that saw nothing alike.
const MAX_FORMS: usize = 100_000;
/// Dimensions of a shape, and inputs of a form.
const MAX_RANK: usize = 255;
const MAX_INPUTS: usize = 1024;

/// A census that was read or is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Since when requests were counted, and until when.
    pub since: SystemTime,
    pub until: SystemTime,
    /// Requests whose form was not kept.
    pub missed: u64,
    /// Sidecars that it is of.
    pub sidecars: u64,
    pub forms: Vec<Counted>,
    /// What the signatures answered that the forms asked for, as far as they are served still.
    pub outputs: Vec<SignatureOutputs>,
}

/// Why a file is no census.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("it is not JSON of a traffic census: {0}")]
    Json(#[from] serde_json::Error),
    #[error("format {found}, expected {FORMAT} (it is of another version of tfs-sidecar)")]
    Format { found: u32 },
    #[error("{found} forms (limit {MAX_FORMS})")]
    TooMany { found: usize },
    #[error("form {at}: `{found}` is no {what}")]
    Form { at: usize, what: &'static str, found: String },
}

#[derive(Debug, Serialize, Deserialize)]
struct Written {
    format: u32,
    since: String,
    until: String,
    missed: u64,
    sidecars: u64,
    forms: Vec<WrittenForm>,
    #[serde(default)]
    outputs: Vec<SignatureOutputs>,
}

#[derive(Debug, Serialize, Deserialize)]
struct WrittenForm {
    client: String,
    model: String,
    version: i64,
    /// `latest`, `version`, or `label` with the label.
    asks_for: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    label: String,
    method: String,
    api: String,
    signatures: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    output_filter: Vec<String>,
    inputs: Vec<WrittenInput>,
    verdict: String,
    findings: Vec<(String, String)>,
    #[serde(default)]
    requests: u64,
    #[serde(default)]
    first: String,
    #[serde(default)]
    last: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rows: Option<(u64, u64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    other_rows: Option<(u64, u64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    open_sizes: Option<(u64, u64)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct WrittenInput {
    name: String,
    dtype: String,
    shape: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unknown_rank: bool,
    /// Each field with `all`, `one`, `short` or a number.
    values: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    conflict: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    declared: Option<String>,
}

impl Traffic {
    /// The forms of a running sidecar. `outputs` are those of a signature of a version of a model,
    /// if it is served.
    pub(crate) fn of(
        census: &Census,
        now: SystemTime,
        outputs: impl Fn(&str, i64, &str) -> Option<Vec<String>>,
    ) -> Self {
        let forms = census.forms(|_| true);
        let outputs = SignatureOutputs::of(&forms, outputs);
        Self { since: census.since(), until: now, missed: census.missed(), sidecars: 1, forms, outputs }
    }

    /// The census as JSON.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let written = Written {
            format: FORMAT,
            since: time(self.since),
            until: time(self.until),
            missed: self.missed,
            sidecars: self.sidecars,
            forms: self.forms.iter().map(written).collect(),
            outputs: self.outputs.clone(),
        };
        serde_json::to_value(written).unwrap_or_default()
    }

    /// Reads a census.
    ///
    /// # Errors
    /// The text is none, or of another version.
    pub(crate) fn read(text: &[u8]) -> Result<Self, FileError> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let Version { format } = serde_json::from_slice(text)?;
        if format != FORMAT {
            return Err(FileError::Format { found: format });
        }
        let written: Written = serde_json::from_slice(text)?;
        let found = written.forms.len().max(written.outputs.len());
        if found > MAX_FORMS {
            return Err(FileError::TooMany { found });
        }
        let read = |(at, form)| read_form(form).map_err(|(what, found)| FileError::Form { at, what, found });
        let forms = written.forms.into_iter().enumerate().map(read).collect::<Result<_, _>>()?;
        let at = |text: &str, what| {
            parse_time(text).ok_or_else(|| FileError::Form { at: 0, what, found: text.to_owned() })
        };
        let (since, until) = (at(&written.since, "time")?, at(&written.until, "time")?);
        let Written { missed, sidecars, outputs, .. } = written;
        Ok(Self { since, until, missed, sidecars, forms, outputs })
    }

    /// The census of several sidecars together.
    ///
    /// # Errors
    /// There are too many forms.
    pub(crate) fn merge(all: Vec<Self>) -> Result<Self, FileError> {
        let epoch = SystemTime::UNIX_EPOCH;
        let since = all.iter().map(|one| one.since).min().unwrap_or(epoch);
        let until = all.iter().map(|one| one.until).max().unwrap_or(epoch);
        let (forms, outputs) = (Vec::new(), Vec::new());
        let mut merged = Self { since, until, missed: 0, sidecars: 0, forms, outputs };
        let mut places: BTreeMap<String, Counted> = BTreeMap::new();
        for one in all {
            merged.missed = merged.missed.saturating_add(one.missed);
            merged.sidecars = merged.sidecars.saturating_add(one.sidecars);
            merged.outputs.extend(one.outputs);
            for counted in one.forms {
                match places.get_mut(&name_of(&counted.form)) {
                    Some(known) => known.merge(&counted),
                    None => drop(places.insert(name_of(&counted.form), counted)),
                }
            }
        }
        merged.outputs.sort();
        merged.outputs.dedup();
        let found = places.len().max(merged.outputs.len());
        if found > MAX_FORMS {
            return Err(FileError::TooMany { found });
        }
        merged.forms = places.into_values().collect();
        merged.forms.sort_by_key(|counted| std::cmp::Reverse(counted.requests));
        Ok(merged)
    }
}

impl Counted {
    /// Adds the counts of the same form.
    fn merge(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.sizes.merge(other.sizes);
    }
}

/// A text that is the same for equal forms only.
fn name_of(form: &Form) -> String {
    text_of(uncounted(form))
}

/// A text that is the same for requests that only their time and their verdict tell apart.
pub(super) fn sent_as(form: &Form) -> String {
    let mut written = uncounted(form);
    (written.version, written.verdict, written.findings) = (0, String::new(), Vec::new());
    written.inputs.iter_mut().for_each(|input| input.declared = None);
    text_of(written)
}

fn text_of(written: WrittenForm) -> String {
    serde_json::to_value(written).unwrap_or_default().to_string()
}

fn written(counted: &Counted) -> WrittenForm {
    let Counted { form, requests, first, last, sizes } = counted;
    let range = |range: Range| (!range.is_empty()).then_some((range.min, range.max));
    WrittenForm {
        requests: *requests,
        first: time(*first),
        last: time(*last),
        rows: range(sizes.rows),
        other_rows: range(sizes.other_rows),
        open_sizes: range(sizes.open),
        ..uncounted(form)
    }
}

fn uncounted(form: &Form) -> WrittenForm {
    let (asks_for, label) = match &form.choice {
        Choice::Latest => ("latest", ""),
        Choice::Version => ("version", ""),
        Choice::Label(label) => ("label", label.as_str()),
    };
    WrittenForm {
        client: form.client.clone(),
        model: form.model.clone(),
        version: form.version,
        asks_for: asks_for.to_owned(),
        label: label.to_owned(),
        method: method_name(form.method).to_owned(),
        api: api_name(form.api).to_owned(),
        signatures: form.signatures.clone(),
        mode: form.raised.map(|mode| mode.as_str().to_owned()),
        output_filter: form.outputs.clone(),
        inputs: form.inputs.iter().map(written_input).collect(),
        verdict: outcome_name(form.outcome).to_owned(),
        findings: form.findings.iter().map(|found| (found.kind.to_string(), found.input.clone())).collect(),
        requests: 0,
        first: String::new(),
        last: String::new(),
        rows: None,
        other_rows: None,
        open_sizes: None,
    }
}

fn written_input(input: &Input) -> WrittenInput {
    let values = |(carrier, values): &(Carrier, Values)| {
        let field = match carrier {
            Carrier::Content => "tensor_content",
            Carrier::List(list) => list.name(),
        };
        let count = match values {
            Values::All => "all".to_owned(),
            Values::One => "one".to_owned(),
            Values::Short => "short".to_owned(),
            Values::Exact(count) => count.to_string(),
        };
        (field.to_owned(), count)
    };
    WrittenInput {
        name: input.name.clone(),
        dtype: input.dtype.name().into_owned(),
        shape: shape_text(&input.shape),
        unknown_rank: input.unknown_rank,
        values: input.carriers.iter().map(values).collect(),
        conflict: input.conflict,
        declared: input.declared.map(|dtype| dtype.name().into_owned()),
    }
}

/// `[N,128]`: `N` for more than one row, `M` for another number of rows, `*` for an open size.
pub(super) fn shape_text(shape: &[Dim]) -> String {
    let dims = shape.iter().map(|dim| match dim {
        Dim::Exact(size) => size.to_string(),
        Dim::Rows => "N".to_owned(),
        Dim::OtherRows => "M".to_owned(),
        Dim::Open => "*".to_owned(),
    });
    format!("[{}]", dims.collect::<Vec<_>>().join(","))
}

fn read_shape(text: &str) -> Option<Vec<Dim>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    if inner.is_empty() {
        return Some(Vec::new());
    }
    let dims: Option<Vec<Dim>> = inner
        .split(',')
        .take(MAX_RANK + 1)
        .map(|dim| match dim {
            "N" => Some(Dim::Rows),
            "M" => Some(Dim::OtherRows),
            "*" => Some(Dim::Open),
            size => size.parse().ok().map(Dim::Exact),
        })
        .collect();
    dims.filter(|dims| dims.len() <= MAX_RANK)
}

/// What is wrong: what was expected, and what was found.
type Wrong = (&'static str, String);

fn read_form(written: WrittenForm) -> Result<Counted, Wrong> {
    let wrong = |what: &'static str, found: &str| (what, found.to_owned());
    let choice = match written.asks_for.as_str() {
        "latest" => Choice::Latest,
        "version" => Choice::Version,
        "label" => Choice::Label(written.label),
        other => return Err(wrong("choice of a version", other)),
    };
    let raised = match written.mode.as_deref() {
        None => None,
        Some(mode) => Some(mode.parse().map_err(|_| wrong("mode", mode))?),
    };
    if written.inputs.len() > MAX_INPUTS {
        return Err(wrong("form that a census keeps", &format!("{} inputs", written.inputs.len())));
    }
    let findings = written.findings.into_iter().map(|(kind, input)| Finding { kind: known(kind), input });
    let form = Form {
        client: written.client,
        model: written.model,
        version: written.version,
        choice,
        method: method_of(&written.method).ok_or_else(|| wrong("method", &written.method))?,
        api: api_of(&written.api).ok_or_else(|| wrong("API", &written.api))?,
        signatures: written.signatures,
        raised,
        outputs: written.output_filter,
        inputs: written.inputs.into_iter().map(read_input).collect::<Result<_, _>>()?,
        outcome: outcome_of(&written.verdict).ok_or_else(|| wrong("verdict", &written.verdict))?,
        findings: findings.collect(),
    };
    let at = |text: &str| parse_time(text).ok_or_else(|| wrong("time", text));
    let range = |range: Option<(u64, u64)>| range.map_or(Range::NONE, |(min, max)| Range { min, max });
    let sizes = Sizes {
        rows: range(written.rows),
        other_rows: range(written.other_rows),
        open: range(written.open_sizes),
    };
    let (first, last) = (at(&written.first)?, at(&written.last)?);
    Ok(Counted { form, requests: written.requests, first, last, sizes })
}

fn read_input(written: WrittenInput) -> Result<Input, Wrong> {
    let dtype = |text: &str| dtype_of(text).ok_or_else(|| ("dtype", text.to_owned()));
    let carrier = |(field, count): (String, String)| {
        let carrier = match field.as_str() {
            "tensor_content" => Carrier::Content,
            name => {
                let list = ValueList::all().find(|list| list.name() == name);
                Carrier::List(list.ok_or_else(|| ("field of a tensor", field.clone()))?)
            }
        };
        let values = match count.as_str() {
            "all" => Values::All,
            "one" => Values::One,
            "short" => Values::Short,
            number => Values::Exact(number.parse().map_err(|_| ("number of values", count.clone()))?),
        };
        Ok((carrier, values))
    };
    Ok(Input {
        dtype: dtype(&written.dtype)?,
        shape: read_shape(&written.shape).ok_or(("shape", written.shape))?,
        unknown_rank: written.unknown_rank,
        carriers: written.values.into_iter().map(carrier).collect::<Result<_, Wrong>>()?,
        conflict: written.conflict,
        declared: written.declared.as_deref().map(dtype).transpose()?,
        name: written.name,
    })
}

/// The dtype of a name that [`DataType::name`] gives.
fn dtype_of(text: &str) -> Option<DataType> {
    let number = || {
        let known = text.strip_suffix("_ref").and_then(DataType::parse).map(|dtype| dtype.number() + 100);
        known.or_else(|| text.strip_prefix("dtype ")?.parse().ok()).map(DataType::from_number)
    };
    if text == "INVALID" {
        return Some(DataType::INVALID);
    }
    DataType::parse(text).or_else(number)
}

/// The name of a rule or reason, without a copy if it is a known one.
fn known(kind: String) -> std::borrow::Cow<'static, str> {
    if let Some(rule) = Repair::find(&kind) {
        return rule.name.into();
    }
    match Reason::ALL.iter().find(|reason| reason.as_str() == kind) {
        Some(reason) => reason.as_str().into(),
        None => kind.into(),
    }
}

fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

fn parse_time(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(text).ok()
}
