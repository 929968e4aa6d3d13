//! The declared transforms of an input: how the file writes them.
use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::cursor::Cursor;
use super::format::{Scalar, Tree};
use super::problem::{Problem, list};
use super::scalars::{OnOff, Text, Words};
use super::table::check_names;
use crate::repair::transform::{Channels, Image, Resize, Standardize, Transform, Transforms};
use crate::spelling::nearest;
use crate::tensor::DataType;
use crate::yaml::{Node, Value};

/// Transforms of one input, and axes of a tensor.
const MAX: usize = 16;
/// Numbers of one list.
const MAX_NUMBERS: usize = 1 << 16;

const NAMES: &[&str] = &[
    "standardize",
    "scale",
    "clip",
    "transpose",
    "decode_base64",
    "decode_image",
    "relabel_dtype",
    "lowercase",
];
const RESIZE: Words = Words(&["off", "bilinear"]);
const CHANNELS: Words = Words(&["rgb", "bgr", "gray"]);

/// Reads the list; reports what is wrong with it.
pub(super) fn read(at: &Cursor<'_>) -> Option<Transforms> {
    let items = items(at, "a list of transforms", MAX)?;
    let mut all = Vec::new();
    for item in items {
        match one(at, item)? {
            Item::On(transform) => all.push(transform),
            Item::Off => {}
        }
    }
    for (index, transform) in all.iter().enumerate() {
        if all[..index].iter().any(|other: &Transform| other.name() == transform.name()) {
            at.report(Problem::text(format!("`{}` is declared twice", transform.name())));
            return None;
        }
    }
    Some(Transforms { list: all, bound: None })
}

/// An item of the list.
enum Item {
    On(Transform),
    Off,
}

/// `None` if a problem was reported.
fn one(at: &Cursor<'_>, item: &Node) -> Option<Item> {
    let entry = match &item.value {
        Value::Map(entries) if entries.len() == 1 => entries.first()?,
        _ => {
            let text = format!("expected one transform, got {}", item.describe());
            at.item(item).report(Problem::text(text).hint("write `- scale: {factor: 0.0039215686}`"));
            return None;
        }
    };
    let cursor = at.item(item).child(entry);
    match entry.key.as_str() {
        "standardize" => standardize(&cursor).map(Item::On),
        "scale" => scale(&cursor).map(Item::On),
        "clip" => clip(&cursor).map(Item::On),
        "transpose" => transpose(&cursor).map(Item::On),
        "decode_base64" => switch(&cursor, Transform::DecodeBase64),
        "lowercase" => switch(&cursor, Transform::Lowercase),
        "decode_image" => image(&cursor).map(Item::On),
        "relabel_dtype" => relabel(&cursor).map(Item::On),
        name => {
            let hint = match nearest(name, NAMES.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known transforms: {}", list(NAMES, "and")),
            };
            at.push(Problem::at(entry.place, &at.path, format!("unknown transform `{name}`")).hint(hint));
            None
        }
    }
}

fn switch(at: &Cursor<'_>, transform: Transform) -> Option<Item> {
    at.scalar(&OnOff).map(|on| if on { Item::On(transform) } else { Item::Off })
}

fn standardize(at: &Cursor<'_>) -> Option<Transform> {
    if !check_names(at, &["from", "mean", "std"]) {
        return None;
    }
    if let Some(from) = at.get("from") {
        at.child(from).scalar(&Words(&["profile"]))?;
        if at.get("mean").or(at.get("std")).is_some() {
            at.report(Problem::text(
                "`from: profile` has the mean and the deviation: leave out `mean` and `std`",
            ));
            return None;
        }
        return Some(Transform::Standardize(Standardize::FromProfile));
    }
    let (Some(mean), Some(std)) = (at.get("mean"), at.get("std")) else {
        at.report(Problem::text("expected `from: profile`, or `mean` and `std`"));
        return None;
    };
    let (mean, std) = (numbers(&at.child(mean))?, numbers(&at.child(std))?);
    if std.iter().any(|std| *std <= 0.0) {
        let problem = Problem::text("`std` must be greater than 0");
        at.report(problem.hint("scikit-learn has 1 for a feature that never varies"));
        return None;
    }
    same_length(at, ["mean", "std"], &mean, &std)?;
    Some(Transform::Standardize(Standardize::Given { mean, std }))
}

fn scale(at: &Cursor<'_>) -> Option<Transform> {
    if !check_names(at, &["factor", "offset"]) {
        return None;
    }
    let or = |name: &str, default: f64| match at.get(name) {
        Some(entry) => numbers(&at.child(entry)),
        None => Some([default].into()),
    };
    let (factor, offset) = (or("factor", 1.0)?, or("offset", 0.0)?);
    if factor.contains(&0.0) {
        at.report(Problem::text("`factor` must not be 0"));
        return None;
    }
    same_length(at, ["factor", "offset"], &factor, &offset)?;
    Some(Transform::Scale { factor, offset })
}

fn clip(at: &Cursor<'_>) -> Option<Transform> {
    let bounds = items(at, "the lowest and the highest number, such as `[0, 1]`", 2)?;
    let bounds: Vec<f64> = bounds.iter().map(|item| number(&at.item(item))).collect::<Option<_>>()?;
    match bounds[..] {
        [low, high] if low < high => Some(Transform::Clip { low, high }),
        _ => {
            at.report(
                Problem::text("expected two numbers, the lower one first").hint("write `clip: [0, 1]`"),
            );
            None
        }
    }
}

fn transpose(at: &Cursor<'_>) -> Option<Transform> {
    let axes = items(at, "a list of axes, such as `[0, 2, 3, 1]`", MAX)?;
    let axis = |item| {
        let number = number(&at.item(item))?;
        (0..MAX).find(|axis| *axis as f64 == number).or_else(|| {
            at.report(Problem::text(format!("`{number}` is no axis")));
            None
        })
    };
    let axes: Vec<usize> = axes.iter().map(axis).collect::<Option<_>>()?;
    let mut sorted = axes.clone();
    sorted.sort_unstable();
    if axes.is_empty() || !sorted.iter().copied().eq(0..axes.len()) {
        let text = format!("expected each axis from 0 to {} once", axes.len().saturating_sub(1));
        at.report(Problem::text(text).hint("write `transpose: [0, 2, 3, 1]`"));
        return None;
    }
    Some(Transform::Transpose(axes.into()))
}

fn image(at: &Cursor<'_>) -> Option<Transform> {
    if matches!(at.node.value, Value::Scalar { .. }) {
        return at.scalar(&Words(&["on"])).and_then(|_| made_for_images(at, Image::default()));
    }
    if !check_names(at, &["resize", "channels"]) {
        return None;
    }
    let word = |name: &str, words: &Words| match at.get(name) {
        Some(entry) => at.child(entry).scalar(words),
        None => Some(words.0[0]),
    };
    let resize = if word("resize", &RESIZE)? == "bilinear" { Resize::Bilinear } else { Resize::Off };
    let channels = match word("channels", &CHANNELS)? {
        "bgr" => Channels::Bgr,
        "gray" => Channels::Gray,
        _ => Channels::Rgb,
    };
    made_for_images(at, Image { resize, channels })
}

fn made_for_images(at: &Cursor<'_>, image: Image) -> Option<Transform> {
    if cfg!(not(feature = "image")) {
        at.report(Problem::text("this program was built without images (feature `image`)"));
        return None;
    }
    Some(Transform::DecodeImage(image))
}

fn relabel(at: &Cursor<'_>) -> Option<Transform> {
    if !check_names(at, &["from", "to"]) {
        return None;
    }
    let dtype = |name: &str| {
        let Some(entry) = at.get(name) else {
            at.report(Problem::text("`from` and `to` are required"));
            return None;
        };
        let cursor = at.child(entry);
        let text = cursor.scalar(&Text("dtype"))?;
        let dtype = DataType::parse(&text).filter(|dtype| dtype.size().is_some());
        if dtype.is_none() {
            cursor.report(Problem::text(format!("expected a dtype of numbers, got `{text}`")));
        }
        dtype
    };
    let (from, to) = (dtype("from")?, dtype("to")?);
    if from.size() != to.size() {
        at.report(Problem::text(format!("{from} and {to} have elements of different widths")));
        return None;
    }
    if !takes_any_bits(to) {
        at.report(Problem::text(format!("not every byte is a {to}")));
        return None;
    }
    if from == to {
        at.report(Problem::text("`from` and `to` are the same dtype"));
        return None;
    }
    Some(Transform::RelabelDtype { from, to })
}

/// Whether every value of the bytes is an element. TensorFlow does not check the others.
fn takes_any_bits(dtype: DataType) -> bool {
    !matches!(
        dtype,
        DataType::BOOL
            | DataType::INT2
            | DataType::INT4
            | DataType::UINT2
            | DataType::UINT4
            | DataType::FLOAT4_E2M1FN
    )
}

/// One number or a list of them, all finite.
fn numbers(at: &Cursor<'_>) -> Option<Arc<[f64]>> {
    match &at.node.value {
        Value::List(_) => {
            let items = items(at, "a list of numbers", MAX_NUMBERS)?;
            if items.is_empty() {
                at.report(Problem::text("expected at least one number"));
                return None;
            }
            items.iter().map(|item| number(&at.item(item))).collect()
        }
        _ => number(at).map(|number| [number].into()),
    }
}

fn number(at: &Cursor<'_>) -> Option<f64> {
    at.parse(|text, plain| {
        let number = text.parse::<f64>().ok().filter(|number| plain && number.is_finite());
        number.ok_or_else(|| Problem::text(format!("expected a number, got `{text}`")))
    })
}

fn items<'a>(at: &Cursor<'a>, what: &str, limit: usize) -> Option<&'a [Node]> {
    match &at.node.value {
        Value::List(items) if items.len() <= limit => Some(items),
        Value::List(items) => {
            at.report(Problem::text(format!("{} items in the list (limit {limit})", items.len())));
            None
        }
        _ => {
            at.report(Problem::text(format!("expected {what}, got {}", at.node.describe())));
            None
        }
    }
}

fn same_length(at: &Cursor<'_>, names: [&str; 2], one: &[f64], other: &[f64]) -> Option<()> {
    if one.len() == other.len() || one.len() == 1 || other.len() == 1 {
        return Some(());
    }
    let ([left, right], (one, other)) = (names, (one.len(), other.len()));
    at.report(Problem::text(format!("`{left}` has {one} numbers and `{right}` has {other}")));
    None
}

/// The list as the file writes it.
pub(super) fn write(transforms: &Transforms) -> Tree {
    let entry = |transform: &Transform| Tree::Map(vec![(transform.name().to_owned(), value(transform))]);
    Tree::List(transforms.list.iter().map(entry).collect())
}

fn value(transform: &Transform) -> Tree {
    let text = |text: &str| Tree::Text(text.to_owned());
    let map = |entries: Vec<(&str, Tree)>| {
        Tree::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    };
    let numbers = |numbers: &[f64]| match numbers {
        [number] => Tree::Float(*number),
        _ => Tree::List(numbers.iter().copied().map(Tree::Float).collect()),
    };
    match transform {
        Transform::Standardize(Standardize::FromProfile) => map(vec![("from", text("profile"))]),
        Transform::Standardize(Standardize::Given { mean, std }) => {
            map(vec![("mean", numbers(mean)), ("std", numbers(std))])
        }
        Transform::Scale { factor, offset } => {
            map(vec![("factor", numbers(factor)), ("offset", numbers(offset))])
        }
        Transform::Clip { low, high } => numbers(&[*low, *high]),
        Transform::Transpose(axes) => {
            Tree::List(axes.iter().map(|axis| Tree::Unsigned(*axis as u64)).collect())
        }
        Transform::DecodeBase64 | Transform::Lowercase => OnOff.write(&true),
        Transform::DecodeImage(image) => {
            let resize = if image.resize == Resize::Bilinear { "bilinear" } else { "off" };
            let channels = match image.channels {
                Channels::Rgb => "rgb",
                Channels::Bgr => "bgr",
                Channels::Gray => "gray",
            };
            map(vec![("resize", text(resize)), ("channels", text(channels))])
        }
        Transform::RelabelDtype { from, to } => {
            map(vec![("from", text(&from.name())), ("to", text(&to.name()))])
        }
    }
}

/// What the list may be, as JSON Schema.
pub(super) fn schema() -> Json {
    let object =
        |properties: Json| json!({"type": "object", "properties": properties, "additionalProperties": false});
    let number = || json!({"type": "number"});
    let numbers = || json!({"type": ["number", "array"], "items": {"type": "number"}});
    let list = |items: Json| json!({"type": "array", "items": items});
    let dtype = || json!({"type": "string"});
    let properties = json!({
        "standardize": object(json!({"from": {"enum": ["profile"]}, "mean": numbers(), "std": numbers()})),
        "scale": object(json!({"factor": numbers(), "offset": numbers()})),
        "clip": list(number()),
        "transpose": list(json!({"type": "integer"})),
        "decode_base64": OnOff.schema(),
        "decode_image": {"anyOf": [
            {"enum": ["on"]},
            object(json!({"resize": RESIZE.schema(), "channels": CHANNELS.schema()})),
        ]},
        "relabel_dtype": object(json!({"from": dtype(), "to": dtype()})),
        "lowercase": OnOff.schema(),
    });
    let mut all = list(object(properties));
    all["title"] = "list of transforms".into();
    all
}

#[cfg(test)]
mod tests {
    use crate::config::load::{File, Settings, load};
    use crate::config::{Config, effective};

    fn with(keys: &str) -> Result<Config, String> {
        let text = format!("models: {{m: {{signatures: {{s: {{inputs: {{x: {{{keys}}}}}}}}}}}}}");
        load(&Settings::default(), Some(File { name: "test", text: &text }))
            .map_err(|problems| problems.list.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn what_is_read_is_printed_back() {
        for list in [
            "{standardize: {from: profile}}",
            "{standardize: {mean: [1, 2.5], std: [0.1, 3]}}",
            "{scale: {factor: 0.0039215686274509803, offset: -1}}",
            "{scale: {factor: [1, 2], offset: 0.5}}, {clip: [-1, 1]}",
            "{decode_base64: on}, {lowercase: on}",
            "{relabel_dtype: {from: uint16, to: bfloat16}}, {transpose: [0, 2, 3, 1]}",
        ] {
            let config = with(&format!("transform: [{list}], when: always")).unwrap();
            let printed = effective(&config);
            let again = load(&Settings::default(), Some(File { name: "again", text: &printed })).unwrap();
            assert_eq!(again, config, "{list}: {printed}");
        }
        assert!(with("transform: [{lowercase: off}]").is_ok());
    }

    #[test]
    fn mistakes_are_named() {
        let problem = |list: &str| with(&format!("transform: [{list}]")).unwrap_err();
        let text: Vec<String> = [
            "{standardise: {from: profile}}",
            "{standardize: {from: data}}",
            "{standardize: {mean: 1}}",
            "{standardize: {mean: [1, 2], std: [1, 2, 3]}}",
            "{standardize: {mean: 1, std: 0}}",
            "{standardize: {from: profile, mean: 1}}",
            "{scale: {factor: .nan}}",
            "{scale: {factor: 0}}",
            "{scale: {factor: []}}",
            "{clip: [1, 0]}",
            "{clip: 5}",
            "{transpose: [0, 0, 1]}",
            "{transpose: [0, 2.5]}",
            "{relabel_dtype: {from: int32, to: half}}",
            "{relabel_dtype: {from: uint8, to: bool}}",
            "{relabel_dtype: {from: text, to: half}}",
            "{lowercase: on}, {lowercase: on}",
            "lowercase",
        ]
        .map(problem)
        .into();
        insta::assert_snapshot!(text.join("\n"), @r"
        `models.m.signatures.s.inputs.x.transform`: unknown transform `standardise`
        `models.m.signatures.s.inputs.x.transform.standardize.from`: expected `profile`, got `data`
        `models.m.signatures.s.inputs.x.transform.standardize`: expected `from: profile`, or `mean` and `std`
        `models.m.signatures.s.inputs.x.transform.standardize`: `mean` has 2 numbers and `std` has 3
        `models.m.signatures.s.inputs.x.transform.standardize`: `std` must be greater than 0
        `models.m.signatures.s.inputs.x.transform.standardize`: `from: profile` has the mean and the deviation: leave out `mean` and `std`
        `models.m.signatures.s.inputs.x.transform.scale.factor`: expected a number, got `.nan`
        `models.m.signatures.s.inputs.x.transform.scale`: `factor` must not be 0
        `models.m.signatures.s.inputs.x.transform.scale.factor`: expected at least one number
        `models.m.signatures.s.inputs.x.transform.clip`: expected two numbers, the lower one first
        `models.m.signatures.s.inputs.x.transform.clip`: expected the lowest and the highest number, such as `[0, 1]`, got `5`
        `models.m.signatures.s.inputs.x.transform.transpose`: expected each axis from 0 to 2 once
        `models.m.signatures.s.inputs.x.transform.transpose`: `2.5` is no axis
        `models.m.signatures.s.inputs.x.transform.relabel_dtype`: int32 and half have elements of different widths
        `models.m.signatures.s.inputs.x.transform.relabel_dtype`: not every byte is a bool
        `models.m.signatures.s.inputs.x.transform.relabel_dtype.from`: expected a dtype of numbers, got `text`
        `models.m.signatures.s.inputs.x.transform`: `lowercase` is declared twice
        `models.m.signatures.s.inputs.x.transform`: expected one transform, got `lowercase`
        ");
        let raw = with("transform: [{transpose: [1, 0]}, {clip: [0, 1]}], when: raw").unwrap_err();
        assert!(raw.contains("`when: raw` is for numbers alone"), "{raw}");
        assert!(with("when: raw").is_err() && with("transform: [{clip: [0, 1]}], when: raw").is_ok());
    }
}
