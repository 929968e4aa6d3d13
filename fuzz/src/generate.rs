//! Builds a signature, a policy and an almost correct request from bytes, in every encoding that
//! protobuf allows.
use tfs_sidecar::repair::policy::{Literal, MissingInputs, ShortLists, Unrepairable};
use tfs_sidecar::repair::transform::{Standardize, Transform, Transforms};
use tfs_sidecar::repair::{
    Limits, Mode, ModelPolicy, Policy, REPAIRS, RuleKey, RuleValue, RuleValues, Switch, TRANSFORM, Tier,
    ValueKind,
};
use tfs_sidecar::signature::{Signature, Signatures, TensorInfo};
use tfs_sidecar::tensor::{DataType, PartialShape, Shape, ValueList};

use super::choices::Choices;
use super::encode::{Message, long_varint};

/// The names of aliases, keys and graph tensors: few, so that they often match.
const NAMES: &[&str] = &["x", "y", "ids", "mask", "input_tensor", "model/x", "examples", "", "ä\n"];
const SIGNATURES: &[&str] = &["serving_default", "other", "", "__saved_model_init_op", "nowhere"];
/// Dims of declared shapes. Requests send similar ones.
const DECLARED: &[i64] = &[-1, 1, 3, 2, 4, 0, 128];
const SENT: &[i64] = &[1, 2, 3, 4, 0, 8, 128, -1, 1 << 40, i64::MAX];
/// Maximum number of values in a generated tensor.
const MAX_VALUES: u64 = 600;

#[derive(Debug)]
pub struct Case {
    pub signatures: Signatures,
    pub policy: ModelPolicy,
    pub limits: Limits,
    pub raised: Option<Mode>,
    pub message: Vec<u8>,
    /// Chunk size for the second run.
    pub cut: usize,
}

pub fn case(mut choices: Choices<'_>) -> Case {
    let choices = &mut choices;
    let cut = choices.below(64);
    let raised = [None, Some(Mode::Off), Some(Mode::Observe), Some(Mode::Strict)][choices.below(4)];
    let count = 1 + choices.below(3);
    let defined: Vec<Signature> = (0..count).map(|at| signature(choices, SIGNATURES[at])).collect();
    let (policy, limits) = policy(choices, &defined[0]);
    let message = request(choices, &defined[0]);
    Case { signatures: defined.into_iter().collect(), policy, limits, raised, message, cut }
}

fn dtype(choices: &mut Choices<'_>) -> DataType {
    use DataType as D;
    const USUAL: &[DataType] =
        &[D::FLOAT, D::DOUBLE, D::INT64, D::INT32, D::STRING, D::HALF, D::BOOL, D::UINT8];
    if choices.flag() { choices.of(USUAL) } else { DataType::from_number(i32::from(choices.byte()) % 36) }
}

fn signature(choices: &mut Choices<'_>, name: &str) -> Signature {
    let mut tensors = |most: usize, first: usize| -> Vec<TensorInfo> {
        let count = choices.below(most);
        (0..=count)
            .map(|at| {
                let dims = (0..choices.below(6)).map(|_| choices.of(DECLARED)).collect::<Shape>();
                let known = !choices.rarely(9);
                TensorInfo {
                    alias: NAMES[(first + at) % NAMES.len()].to_owned(),
                    tensor_name: format!("serving_default_{}:0", choices.of(NAMES)),
                    dtype: dtype(choices),
                    shape: if known { PartialShape::Known(dims) } else { PartialShape::UnknownRank },
                    has_default: choices.rarely(9),
                }
            })
            .collect()
    };
    let inputs = tensors(4, 0);
    let outputs = tensors(2, 1);
    Signature { name: name.to_owned(), inputs, outputs, method_name: String::new() }
}

/// Values for some of the keys that rules declare, as far as `of` picks them.
fn rule_values(choices: &mut Choices<'_>, of: fn(Switch) -> Option<&'static RuleKey>) -> RuleValues {
    let mut values = RuleValues::default();
    for key in REPAIRS.iter().filter_map(|rule| of(rule.switch)) {
        if choices.flag() {
            values.set(key, rule_value(choices, key.value));
        }
    }
    values
}

fn rule_value(choices: &mut Choices<'_>, kind: ValueKind) -> RuleValue {
    match kind {
        ValueKind::Words(words) => Literal::Text(words[choices.below(words.len())].to_owned()).into(),
        ValueKind::OnOff => Literal::Bool(choices.rarely(4)).into(),
        ValueKind::Element => literal(choices).into(),
        ValueKind::Input => Literal::Text(choices.of(NAMES).to_owned()).into(),
        ValueKind::Inputs => {
            RuleValue::Inputs((0..choices.below(3)).map(|_| choices.of(NAMES).to_owned()).collect())
        }
        ValueKind::Renames => {
            let mut name = || choices.of(NAMES).to_owned();
            RuleValue::Renames([(name(), name()), (name(), name())].into())
        }
        ValueKind::Transforms => RuleValue::Transforms(Transforms::default()),
        ValueKind::Section { keys, required } => {
            let mut values = RuleValues::default();
            for key in keys {
                if required.contains(&key.name) || choices.flag() {
                    values.set(key, rule_value(choices, key.value));
                }
            }
            RuleValue::Section(values)
        }
    }
}

/// Transforms that may suit the input.
fn transforms(choice: usize, info: &TensorInfo) -> Vec<Transform> {
    let rank = info.shape.rank().unwrap_or(2);
    let reversed: Vec<usize> = (0..rank).rev().collect();
    let transpose = || Transform::Transpose(reversed.clone().into());
    let scale = Transform::Scale { factor: [0.5].into(), offset: [1.0, -1.0].into() };
    let (mean, std) = ([1.0].into(), [1e-300].into());
    match choice % 8 {
        0 => vec![scale],
        1 => vec![transpose()],
        2 => vec![transpose(), Transform::Clip { low: -1.0, high: 1.0 }],
        3 => vec![Transform::DecodeBase64, Transform::Lowercase],
        4 => vec![Transform::Lowercase],
        5 => vec![Transform::RelabelDtype { from: DataType::INT32, to: DataType::FLOAT }],
        6 => vec![Transform::Standardize(Standardize::Given { mean, std })],
        _ => vec![Transform::Standardize(Standardize::FromProfile), transpose()],
    }
}

fn literal(choices: &mut Choices<'_>) -> Literal {
    match choices.below(5) {
        0 => Literal::Int(0),
        1 => Literal::Int(i64::from(choices.byte()) - 100),
        2 => Literal::Float(0.5),
        3 => Literal::Bool(true),
        _ => Literal::Text("pad".to_owned()),
    }
}

fn policy(choices: &mut Choices<'_>, signature: &Signature) -> (ModelPolicy, Limits) {
    let max_elements = [4096, 1 << 16, 3][choices.below(3)];
    let mode = [Mode::Repair, Mode::Strict, Mode::Observe, Mode::Off][choices.below(12).saturating_sub(8)];
    let mut policy = Policy { mode, ..Policy::default() };
    let bits = choices.byte();
    policy.unrepairable = if bits & 1 == 0 { Unrepairable::Reject } else { Unrepairable::Forward };
    policy.missing_inputs = if bits & 2 == 0 { MissingInputs::Forward } else { MissingInputs::Refuse };
    policy.round_f64 = bits & 16 == 0;
    policy.short_lists = if bits & 32 == 0 { ShortLists::Refuse } else { ShortLists::Allow };
    let limits = Limits { max_elements, refuse_zero_rows: bits & 64 != 0, ..Limits::default() };
    policy.batching.max_rows = [0, 0, 1, 2][choices.below(4)];
    for rule in REPAIRS {
        match rule.tier {
            Tier::Two if choices.flag() => policy.rules.set(rule, true),
            Tier::One if choices.rarely(12) => policy.rules.set(rule, false),
            _ => {}
        }
    }
    policy.values = rule_values(choices, |switch| match switch {
        Switch::Rules(key) | Switch::Signature(key) => Some(key),
        _ => None,
    });
    for info in &signature.inputs {
        if choices.flag() {
            let of = |switch| if let Switch::Input(key) = switch { Some(key) } else { None };
            policy.inputs.insert(info.alias.clone(), rule_values(choices, of));
        }
    }
    if bits & 128 != 0 {
        // No choice of their own: the inputs of the corpus keep their meaning.
        for (index, info) in signature.inputs.iter().enumerate() {
            let list = transforms(usize::from(bits) + index, info);
            let declared = RuleValue::Transforms(Transforms { list, bound: None });
            policy.inputs.entry(info.alias.clone()).or_default().set(&TRANSFORM, declared);
        }
    }
    (ModelPolicy { defaults: policy, ..ModelPolicy::default() }, limits)
}

fn request(choices: &mut Choices<'_>, signature: &Signature) -> Vec<u8> {
    let mut message = Message::default();
    for _ in 0..1 + usize::from(choices.rarely(6)) {
        let mut spec = Message::default();
        spec.bytes(1, b"m");
        if choices.flag() {
            let name = if choices.rarely(4) { choices.of(SIGNATURES) } else { signature.name.as_str() };
            spec.bytes(3, name.as_bytes());
        }
        foreign(choices, &mut spec);
        message.bytes(1, &spec.0);
    }
    for info in &signature.inputs {
        if choices.rarely(8) {
            continue;
        }
        for _ in 0..1 + usize::from(choices.rarely(10)) {
            let key = match choices.below(12) {
                0 => choices.of(NAMES),
                1 => info.tensor_name.as_str(),
                2 => info.tensor_name.trim_end_matches(":0"),
                3 => "a/b/x",
                _ => info.alias.as_str(),
            };
            entry(choices, &mut message, key, info);
        }
        foreign(choices, &mut message);
    }
    if choices.rarely(6) {
        let (key, info) = (choices.of(NAMES), signature.inputs[0].clone());
        entry(choices, &mut message, key, &info);
    }
    for _ in 0..choices.below(10).saturating_sub(7) {
        message.bytes(3, choices.of(NAMES).as_bytes());
    }
    message.0
}

/// An unknown field of any wire type.
fn foreign(choices: &mut Choices<'_>, message: &mut Message) {
    if !choices.rarely(8) {
        return;
    }
    match choices.below(5) {
        0 => message.varint(900, choices.number()),
        1 => message.bytes(901, b"kept"),
        2 => {
            message.tag(902, 5);
            message.raw(&[1, 2, 3, 4]);
        }
        3 => {
            message.tag(903, 1);
            message.raw(&[1; 8]);
        }
        _ => {
            message.tag(904, 3);
            message.varint(1, 7);
            message.tag(904, 4);
        }
    }
}

fn entry(choices: &mut Choices<'_>, message: &mut Message, key: &str, info: &TensorInfo) {
    let tensor = tensor(choices, info);
    let mut entry = Message::default();
    let order = choices.rarely(10);
    if order {
        entry.bytes(2, &tensor.0);
    }
    entry.bytes(1, key.as_bytes());
    foreign(choices, &mut entry);
    if !order {
        entry.bytes(2, &tensor.0);
    }
    if choices.rarely(12) {
        // A second value field is merged into the first.
        entry.bytes(2, &self::tensor(choices, info).0);
    }
    message.bytes(2, &entry.0);
}

fn shape(choices: &mut Choices<'_>, info: &TensorInfo) -> Vec<i64> {
    let declared = info.shape.dims().unwrap_or(&[-1, 2]);
    let mut dims: Vec<i64> =
        declared.iter().map(|dim| if *dim == -1 { choices.below(5) as i64 } else { *dim }).collect();
    for _ in 0..choices.below(3) {
        let at = choices.below(dims.len() + 1);
        match choices.below(6) {
            0 if at < dims.len() => drop(dims.remove(at)),
            1 => dims.insert(at, 1),
            2 if at < dims.len() => dims[at] = choices.of(SENT),
            3 => dims.reverse(),
            4 => dims = vec![dims.iter().fold(1_i64, |all, dim| all.wrapping_mul(*dim))],
            _ if !dims.is_empty() => drop(dims.remove(0)),
            _ => {}
        }
    }
    dims
}

fn tensor(choices: &mut Choices<'_>, info: &TensorInfo) -> Message {
    let mut tensor = Message::default();
    let dtype = if choices.flag() { info.dtype } else { dtype(choices) };
    let dims = shape(choices, info);
    let mut heads = Message::default();
    heads.varint(1, dtype.number() as u64);
    let mut sizes = Message::default();
    for size in &dims {
        let mut dim = Message::default();
        if *size != 0 || choices.rarely(4) {
            dim.varint(1, *size as u64);
        }
        if choices.rarely(12) {
            dim.bytes(2, b"name");
        }
        sizes.bytes(2, &dim.0);
    }
    if choices.rarely(30) {
        sizes.varint(3, 1);
    }
    heads.bytes(2, &sizes.0);
    let elements =
        dims.iter().try_fold(1_u64, |all, dim| all.checked_mul(u64::try_from(*dim).ok()?)).unwrap_or(0);
    let late = choices.rarely(6);
    if !late {
        tensor.raw(&heads.0);
    }
    values(choices, &mut tensor, dtype, elements.min(MAX_VALUES));
    foreign(choices, &mut tensor);
    if late {
        tensor.raw(&heads.0);
    }
    tensor
}

fn values(choices: &mut Choices<'_>, tensor: &mut Message, dtype: DataType, elements: u64) {
    let count = match choices.below(8) {
        0 => 1,
        1 => choices.below(9) as u64,
        _ => elements,
    };
    let own = dtype.info().map_or(ValueList::Int, |info| info.list);
    match choices.below(6) {
        0 | 1 => {
            let size = dtype.size().unwrap_or(1) * count as usize;
            let odd = choices.below(20).saturating_sub(17);
            let content = numbers(choices, size + odd);
            tensor.bytes(4, &content);
        }
        2 => {
            let all: Vec<ValueList> = ValueList::all().collect();
            let list = choices.of(&all);
            list_of(choices, tensor, list, count);
        }
        _ => list_of(choices, tensor, own, count),
    }
}

/// Bytes of small integers, ones, or random values.
fn numbers(choices: &mut Choices<'_>, size: usize) -> Vec<u8> {
    let kind = choices.below(5);
    let element: Vec<u8> = match kind {
        0 => vec![0],
        1 => vec![1, 0, 0, 0, 0, 0, 0, 0],
        2 => 1.0_f32.to_le_bytes().to_vec(),
        3 => 1.0_f64.to_le_bytes().to_vec(),
        _ => choices.take(8),
    };
    element.iter().copied().cycle().take(size).collect()
}

fn list_of(choices: &mut Choices<'_>, tensor: &mut Message, list: ValueList, count: u64) {
    let field = list.field();
    let (width, wire) = match list {
        ValueList::Float | ValueList::SComplex => (4, 5),
        ValueList::Double | ValueList::DComplex => (8, 1),
        ValueList::String | ValueList::ResourceHandle | ValueList::Variant => {
            for _ in 0..count {
                let text = if list == ValueList::String { b"text".as_slice() } else { b"" };
                tensor.bytes(field, text);
            }
            return;
        }
        ValueList::Float8 => {
            let content = numbers(choices, count as usize);
            tensor.bytes(field, &content);
            return;
        }
        _ => (0, 0),
    };
    let pairs = if matches!(list, ValueList::SComplex | ValueList::DComplex) { 2 } else { 1 };
    let odd = u64::from(choices.rarely(20));
    let long = choices.below(12).saturating_sub(8);
    let same = (choices.number(), choices.below(3));
    let mut left = count * pairs + odd;
    // The list as one packed field, single fields, or both alternating.
    let way = choices.below(4);
    while left > 0 {
        let take = if way < 2 { left } else { 1 + choices.below(left.min(250) as usize) as u64 };
        left -= take;
        let mut payload = Message::default();
        let single = way == 1 || (way == 3 && choices.flag());
        for _ in 0..take {
            let value = match same.1 {
                0 => 1,
                1 => same.0,
                _ => u64::from(choices.byte()),
            };
            if single {
                payload.tag(field, wire);
            }
            match width {
                0 => long_varint(&mut payload.0, value, long),
                4 => payload.raw(&(value as f32).to_le_bytes()),
                _ => payload.raw(&f64::from_bits(value).to_le_bytes()),
            }
        }
        if single {
            tensor.raw(&payload.0);
        } else {
            tensor.bytes(field, &payload.0);
        }
        if left > 0 && choices.rarely(8) {
            tensor.varint(900, 1);
        }
    }
}
