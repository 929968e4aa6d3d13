//! The key of a request's form: a number from what the scan and the verdict already have, so that a
//! known form costs a few hundred instructions.
use smallvec::SmallVec;

use super::form::{Api, Carrier, Choice, Dim, Finding, Form, Input, Method, Sizes, Values};
use crate::repair::{Change, Mode, Reason, Verdict};
use crate::signature::{Signature, TensorInfo};
use crate::tensor::{DataType, ValueList};
use crate::wire::infer::InferView;
use crate::wire::{InputView, PredictView, TensorView, VersionChoice};

/// A request that was judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    /// Stands for the client.
    pub client: u64,
    pub model: &'a str,
    pub version: i64,
    pub method: Method,
    pub api: Api,
    pub raised: Option<Mode>,
    pub request: Request<'a>,
    pub verdict: &'a Verdict,
}

/// A scanned request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Request<'a> {
    Predict(&'a PredictView),
    Infer(&'a InferView),
}

/// The form of a request as a number, and the sizes that the form leaves open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    pub hash: u64,
    pub sizes: Sizes,
}

/// Inputs of a form; requests with more have none.
const MAX_INPUTS: usize = 1024;

/// An odd number with no pattern in its bits, from the golden ratio.
const MIX: u64 = 0x9E37_79B9_7F4A_7C15;

/// Multiplies to 128 bits and folds them: with a secret seed, nobody can choose collisions.
#[inline]
fn mix(hash: u64, value: u64) -> u64 {
    let product = u128::from(hash ^ value) * u128::from(MIX);
    (product as u64) ^ (product >> 64) as u64 ^ value.rotate_left(32)
}

#[inline]
pub(super) fn mix_text(mut hash: u64, text: &str) -> u64 {
    let bytes = text.as_bytes();
    for word in bytes.as_chunks::<8>().0 {
        hash = mix(hash, u64::from_le_bytes(*word));
    }
    mix(mix(hash, last_bytes(bytes)), bytes.len() as u64)
}

/// The last eight bytes, or all of a shorter text: of one length, other texts have another number.
/// Some bytes are in it twice, which is faster than a loop over the rest.
#[inline]
fn last_bytes(bytes: &[u8]) -> u64 {
    if let Some(last) = bytes.last_chunk::<8>() {
        return u64::from_le_bytes(*last);
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        return u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32;
    }
    let byte = |at: usize| u64::from(bytes.get(at).copied().unwrap_or(0));
    byte(0) | byte(1) << 8 | byte(2) << 16
}

/// The key of a request; `seed` is the same for all, and secret.
pub(crate) fn key(seed: u64, seen: &Seen<'_>) -> Key {
    let mut sizes = Sizes::default();
    let raised = seen.raised.map_or(0, |mode| mode as u64 + 1);
    let flags = seen.method as u64 | (seen.api as u64) << 8 | raised << 16;
    let mut hash = mix(mix(seed, seen.client), flags);
    hash = mix(mix_text(hash, seen.model), seen.version as u64);
    match seen.request {
        Request::Predict(view) => {
            hash = mix_text(hash, view.model_spec.effective_signature());
            hash = mix_choice(hash, &view.model_spec.version);
            for name in &view.output_filter {
                hash = mix_text(hash, name);
            }
            hash = mix(hash, inputs(seed, seen, view, &mut sizes));
        }
        Request::Infer(view) => {
            for task in &view.tasks {
                hash = mix_text(hash, task.model_spec.effective_signature());
                hash = mix_choice(hash, &task.model_spec.version);
            }
        }
    }
    Key { hash: mix_verdict(hash, seen.verdict), sizes }
}

#[inline]
fn mix_choice(hash: u64, choice: &VersionChoice) -> u64 {
    match choice {
        VersionChoice::Latest => mix(hash, 1),
        VersionChoice::Version(_) => mix(hash, 2),
        VersionChoice::Label(label) => mix_text(mix(hash, 3), label),
    }
}

#[inline]
fn mix_verdict(mut hash: u64, verdict: &Verdict) -> u64 {
    hash = mix(hash, verdict.outcome as u64);
    if verdict.plan.steps.is_empty() && verdict.problems.is_empty() && verdict.warnings.is_empty() {
        return hash;
    }
    for (kind, input) in findings(verdict) {
        hash = mix_text(mix_text(hash, kind), input);
    }
    hash
}

/// Rules and reasons, each with the input that it is about.
fn findings(verdict: &Verdict) -> impl Iterator<Item = (&'static str, &str)> {
    let steps = verdict.plan.steps.iter().map(|step| (step.rule.name, step.input.as_str()));
    let problems = verdict.problems.iter().map(|problem| (problem.reason.as_str(), problem.input.as_str()));
    let warnings = verdict.warnings.iter().map(|warning| (warning.reason.as_str(), warning.input.as_str()));
    steps.chain(problems).chain(warnings)
}

/// The sum of the inputs' numbers: clients send a map, in any order.
#[inline]
fn inputs(seed: u64, seen: &Seen<'_>, view: &PredictView, sizes: &mut Sizes) -> u64 {
    let (mut sum, mut rows, mut differ) = (view.inputs.len() as u64, None, false);
    for (index, input) in view.inputs.iter().enumerate() {
        let mut hash = mix_text(seed, &input.key);
        let of = Shown::visiting(input, declared(seen.verdict, view, index, input), |carrier, values| {
            hash = mix_carrier(hash, carrier, values);
        });
        let tensor = &input.tensor;
        hash = mix(hash, tensor.dtype.number() as u64 ^ u64::from(tensor.unknown_rank) << 32);
        for (axis, size) in tensor.shape.iter().enumerate() {
            hash = match of.dim(axis, *size) {
                Dim::Exact(size) => mix(hash, size as u64),
                Dim::Rows | Dim::OtherRows => {
                    differ |= *rows.get_or_insert(*size) != *size;
                    sizes.rows.add(*size);
                    mix(hash, 1 << 63 | 1)
                }
                Dim::Open => {
                    sizes.open.add(*size);
                    mix(hash, 1 << 63 | 2)
                }
            };
        }
        sum = sum.wrapping_add(mix(hash, tensor.shape.len() as u64));
    }
    if differ { mix(sum, groups(seed, seen, view, sizes)) } else { sum }
}

#[inline]
fn mix_carrier(hash: u64, carrier: Carrier, values: Values) -> u64 {
    let field = match carrier {
        Carrier::Content => 0,
        Carrier::List(list) => u64::from(list.field()),
    };
    match values {
        Values::All => mix(hash, field << 8),
        Values::One => mix(hash, field << 8 | 1),
        Values::Short => mix(hash, field << 8 | 2),
        Values::Exact(exact) => mix(mix(hash, field << 8 | 3), exact),
    }
}

/// Which inputs have the same number of rows, where there are two numbers or more.
#[cold]
fn groups(seed: u64, seen: &Seen<'_>, view: &PredictView, sizes: &mut Sizes) -> u64 {
    let mut all: Vec<(&str, i64)> = batched(seen, view).map(|(input, rows)| (&*input.key, rows)).collect();
    all.sort_unstable();
    let first = all.first().map_or(0, |(_, rows)| *rows);
    (sizes.rows, sizes.other_rows) = <_>::default();
    all.iter().fold(seed, |hash, (name, rows)| {
        let same = *rows == first;
        if same { &mut sizes.rows } else { &mut sizes.other_rows }.add(*rows);
        mix(mix_text(hash, name), u64::from(same))
    })
}

/// The inputs whose rows the form leaves open.
fn batched<'a>(seen: &'a Seen<'_>, view: &'a PredictView) -> impl Iterator<Item = (&'a InputView, i64)> {
    view.inputs.iter().enumerate().filter_map(move |(index, input)| {
        let rows = *input.tensor.shape.first()?;
        let of = Shown::new(input, declared(seen.verdict, view, index, input));
        matches!(of.dim(0, rows), Dim::Rows).then_some((input, rows))
    })
}

/// The declaration that a sent input was compared with, also if its name is another.
#[inline]
fn declared<'a>(
    verdict: &'a Verdict,
    view: &PredictView,
    index: usize,
    input: &InputView,
) -> Option<&'a TensorInfo> {
    let renamed = || {
        verdict.plan.steps.iter().find_map(|step| match &step.change {
            Change::Key { new, .. } if step.index == Some(index) => Some(new.as_str()),
            _ => None,
        })
    };
    // The only input of both is compared in any case.
    let only = |signature: &'a Signature| match signature.inputs.as_slice() {
        [info] if view.inputs.len() == 1 => Some(info),
        _ => None,
    };
    let signature = verdict.signature.as_deref()?;
    only(signature).or_else(|| signature.input(&input.key)).or_else(|| signature.input(renamed()?))
}

/// How a form shows an input.
struct Shown<'a> {
    input: &'a InputView,
    /// The number of elements, if the shape has one.
    elements: Option<u64>,
    /// The declared sizes, if they are of the same rank.
    like: Option<&'a [i64]>,
    /// Dimension 0 is one of rows although the signature does not say.
    any: bool,
}

impl<'a> Shown<'a> {
    fn new(input: &'a InputView, declared: Option<&'a TensorInfo>) -> Self {
        Self::visiting(input, declared, |_, _| {})
    }

    /// The same, with a look at each carrier (see [`Shown::carriers`]), which costs most of it.
    #[inline]
    fn visiting(
        input: &'a InputView,
        declared: Option<&'a TensorInfo>,
        mut visit: impl FnMut(Carrier, Values),
    ) -> Self {
        let shape = &input.tensor.shape;
        let elements = shape.elements().ok();
        let mut shown = Self { input, elements, like: None, any: false };
        let mut fits = elements.is_some();
        shown.carriers(|carrier, values| {
            fits &= !matches!(values, Values::Exact(_));
            visit(carrier, values);
        });
        if let Some(info) = declared.filter(|_| fits) {
            match info.shape.dims() {
                Some(dims) => shown.like = (dims.len() == shape.rank()).then_some(dims),
                None => shown.any = shape.rank() > 1,
            }
        }
        shown
    }

    #[inline]
    fn dim(&self, axis: usize, size: i64) -> Dim {
        if size <= 1 {
            return Dim::Exact(size);
        }
        match self.like.and_then(|dims| dims.get(axis)) {
            Some(declared) if axis == 0 && *declared != size => Dim::Rows,
            Some(-1) => Dim::Open,
            None if axis == 0 && self.any => Dim::Rows,
            _ => Dim::Exact(size),
        }
    }

    /// The fields with values, and how many they hold.
    #[inline]
    fn carriers(&self, mut visit: impl FnMut(Carrier, Values)) {
        let tensor = &self.input.tensor;
        if let Some(content) = &tensor.content {
            visit(Carrier::Content, self.content(tensor, content.len() as u64));
            if !tensor.has_lists() {
                return;
            }
        }
        for (list, values) in tensor.lists() {
            let complex = matches!(list, ValueList::SComplex | ValueList::DComplex);
            let values = if complex { values / 2 } else { values };
            let count = match self.elements {
                Some(elements) if values == elements => Values::All,
                Some(elements) if values == 1 && elements > 1 => Values::One,
                Some(elements) if 1 < values && values < elements => Values::Short,
                _ => Values::Exact(values),
            };
            visit(Carrier::List(list), count);
        }
    }

    #[inline]
    fn content(&self, tensor: &TensorView, length: u64) -> Values {
        let fits = match (self.elements, tensor.dtype.size()) {
            (Some(elements), Some(size)) => elements.checked_mul(size as u64) == Some(length),
            // Whether strings are encoded as they must be is in the verdict.
            (Some(_), None) => tensor.dtype == DataType::STRING,
            (None, _) => false,
        };
        if fits { Values::All } else { Values::Exact(length) }
    }
}

impl Seen<'_> {
    /// The form; `None` if it is too large.
    pub(crate) fn form(&self, client: &str) -> Option<Form> {
        let (signatures, choice, outputs, inputs) = match self.request {
            Request::Predict(view) => {
                let spec = &view.model_spec;
                let named = vec![spec.effective_signature().to_owned()];
                (named, choice_of(&spec.version), view.output_filter.clone(), self.inputs(view)?)
            }
            Request::Infer(view) => {
                let tasks = view.tasks.iter();
                let named = tasks.map(|task| task.model_spec.effective_signature().to_owned()).collect();
                let choice =
                    view.tasks.first().map_or(Choice::Latest, |task| choice_of(&task.model_spec.version));
                (named, choice, Vec::new(), Vec::new())
            }
        };
        let findings = findings(self.verdict).take(MAX_INPUTS);
        let finding =
            |(kind, input): (&'static str, &str)| Finding { kind: kind.into(), input: input.to_owned() };
        Some(Form {
            client: client.to_owned(),
            model: self.model.to_owned(),
            version: self.version,
            choice,
            method: self.method,
            api: self.api,
            signatures,
            raised: self.raised,
            outputs,
            inputs,
            outcome: self.verdict.outcome,
            findings: findings.map(finding).collect(),
        })
    }

    fn inputs(&self, view: &PredictView) -> Option<Vec<Input>> {
        if view.inputs.len() > MAX_INPUTS || view.output_filter.len() > MAX_INPUTS {
            return None;
        }
        let first = batched(self, view).min_by_key(|(input, _)| &input.key).map(|(_, rows)| rows);
        let shown = |(index, input): (usize, &InputView)| {
            let info = declared(self.verdict, view, index, input);
            let of = Shown::new(input, info);
            let tensor = &input.tensor;
            let dims = tensor.shape.iter().enumerate().map(|(axis, size)| match of.dim(axis, *size) {
                Dim::Rows if Some(*size) != first => Dim::OtherRows,
                dim => dim,
            });
            let mut carriers: SmallVec<[(Carrier, Values); 2]> = SmallVec::new();
            of.carriers(|carrier, values| carriers.push((carrier, values)));
            let faulty = |reason| self.has_fault(reason, input, info);
            for (carrier, values) in &mut carriers {
                if *carrier == Carrier::Content
                    && tensor.dtype == DataType::STRING
                    && faulty(Reason::StringInContent)
                {
                    *values =
                        Values::Exact(tensor.content.as_ref().map_or(0, |content| content.len() as u64));
                }
            }
            carriers.sort_unstable();
            Input {
                name: input.key.clone(),
                dtype: tensor.dtype,
                shape: dims.collect(),
                unknown_rank: tensor.unknown_rank,
                conflict: carriers.len() > 1 && faulty(Reason::ValueField),
                carriers: carriers.into_vec(),
                declared: info.map(|info| info.dtype),
            }
        };
        let mut inputs: Vec<Input> = view.inputs.iter().enumerate().map(shown).collect();
        inputs.sort_by(|left, right| left.name.cmp(&right.name));
        Some(inputs)
    }

    /// Whether the values of an input have this fault, also if a step fixes it.
    fn has_fault(&self, reason: Reason, input: &InputView, info: Option<&TensorInfo>) -> bool {
        let is = |name: &str| name == input.key || info.is_some_and(|info| info.alias == name);
        let verdict = self.verdict;
        verdict.problems.iter().any(|problem| problem.reason == reason && is(&problem.input))
            || verdict.plan.steps.iter().any(|step| step.fixes.reason == reason && is(&step.input))
    }
}

fn choice_of(choice: &VersionChoice) -> Choice {
    match choice {
        VersionChoice::Latest => Choice::Latest,
        VersionChoice::Version(_) => Choice::Version,
        VersionChoice::Label(label) => Choice::Label(label.clone()),
    }
}
