//! Reads a profile from YAML, and checks that its numbers fit together.
use std::collections::BTreeMap;

use super::cursor::{At, Found};
use super::{MAX_FILE_BYTES, MAX_NODES, Problem, VERSION};
use crate::profile::{
    By, FeatureProfile, MAX_FEATURES, MAX_TENSORS, MAX_TEXT_BYTES, MAX_VALUES, Profile, Scaler,
    TensorProfile, TextProfile,
};
use crate::tensor::{Class, DataType};
use crate::yaml::{Node, Place, Value};

/// A name of a file may be longer than other texts.
const MAX_SOURCE_BYTES: usize = 4096;
/// What rounding may add to a sum of shares.
const ROUNDING: f64 = 1e-3;

const TOP_KEYS: &[&str] = &["profile", "model", "signature", "rows", "sources", "inputs", "outputs"];
const TENSOR_KEYS: &[&str] = &["dtype", "by", "features", "raw", "scaler", "text"];
const FEATURE_KEYS: &[&str] = &[
    "name",
    "count",
    "missing",
    "non_finite",
    "min",
    "max",
    "mean",
    "std",
    "quantiles",
    "integral",
    "zero",
    "values",
];
const TEXT_KEYS: &[&str] = &["count", "empty", "length", "complete", "values"];

pub(super) fn profile(text: &str) -> Result<Profile, Vec<Problem>> {
    let found = Found::default();
    let node = if text.len() > MAX_FILE_BYTES {
        let text = format!("the file has {} bytes (limit {MAX_FILE_BYTES})", text.len());
        found.push(String::new(), Place { line: 1, column: 1 }, text);
        None
    } else {
        let mut faults = Vec::new();
        let parsed = crate::yaml::parse(text, MAX_NODES, &mut faults);
        for fault in faults {
            found.fault(fault);
        }
        parsed.map_err(|fault| found.fault(fault)).ok()
    };
    let profile = node.and_then(|node| top(&node, &found));
    let problems = found.into_list();
    match profile {
        Some(profile) if problems.is_empty() => Ok(profile),
        _ => Err(problems),
    }
}

fn top(node: &Node, found: &Found) -> Option<Profile> {
    let root = At::root(node, found);
    // Another kind of file gets one problem, not one for each of its keys.
    let Some(version) = root.get("profile") else {
        root.report(format!("this is no profile: the key `profile: {VERSION}` is missing"));
        return None;
    };
    if version.count()? != VERSION {
        version.report(format!("expected the version {VERSION}, got {}", version.node.describe()));
        return None;
    }
    root.only(TOP_KEYS);
    let name = |key: &str| root.get(key).and_then(|at| at.text(MAX_TEXT_BYTES)).map(str::to_owned);
    let sources = root.get("sources").map(|at| {
        at.items(MAX_TENSORS)
            .iter()
            .filter_map(|at| at.text(MAX_SOURCE_BYTES))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    });
    Some(Profile {
        model: name("model"),
        signature: name("signature"),
        rows: root.need("rows").and_then(|at| at.count()).unwrap_or_default(),
        sources: sources.unwrap_or_default(),
        inputs: root.need("inputs").map(tensors).unwrap_or_default(),
        outputs: root.get("outputs").map(tensors).unwrap_or_default(),
    })
}

fn tensors(at: At<'_>) -> BTreeMap<String, TensorProfile> {
    let mut tensors = BTreeMap::new();
    for (name, at) in at.entries() {
        if name.is_empty() || name.len() > MAX_TEXT_BYTES {
            at.report(format!("expected a name of 1 to {MAX_TEXT_BYTES} bytes"));
        } else if tensors.len() == MAX_TENSORS {
            at.report(format!("too many inputs or outputs (limit {MAX_TENSORS})"));
            break;
        } else if let Some(tensor) = tensor(&at) {
            tensors.insert(name.to_owned(), tensor);
        }
    }
    tensors
}

fn tensor(at: &At<'_>) -> Option<TensorProfile> {
    at.only(TENSOR_KEYS);
    let dtype_at = at.need("dtype")?;
    let text = dtype_at.text(64)?;
    let Some(dtype) = DataType::parse(text).filter(|dtype| has_statistics(*dtype)) else {
        dtype_at.report(format!("expected a dtype of real numbers, bool or string, got `{text}`"));
        return None;
    };
    if dtype == DataType::STRING {
        for key in ["by", "features", "raw", "scaler"] {
            if let Some(at) = at.get(key) {
                at.report("strings have `text` instead");
            }
        }
        let text = at.need("text").and_then(|at| strings(&at));
        return Some(TensorProfile {
            dtype,
            by: By::Whole,
            features: Vec::new(),
            names: Vec::new(),
            raw: None,
            scaler: None,
            text: Some(text?),
        });
    }
    if let Some(at) = at.get("text") {
        at.report("only strings have `text`");
    }
    let by = at.get("by").map_or(Some(By::Whole), |at| at.choice(&By::ALL))?;
    let (features, names) = features(&at.need("features")?)?;
    if by == By::Whole && features.len() != 1 {
        at.report(format!(
            "expected 1 feature, as `by` is not `feature` or `channel`, got {}",
            features.len()
        ));
    }
    let raw = at.get("raw").and_then(|at| {
        let (raw, raw_names) = self::features(&at)?;
        if raw.len() != features.len() {
            at.report(format!("expected {} features as in `features`, got {}", features.len(), raw.len()));
        }
        if !raw_names.is_empty() && raw_names != names {
            at.report("the names differ from those in `features`");
        }
        Some(raw)
    });
    let scaler = at.get("scaler").and_then(|at| scaler(&at, features.len()));
    Some(TensorProfile { dtype, by, features, names, raw, scaler, text: None })
}

/// Whether values of the dtype can be compared with a profile.
fn has_statistics(dtype: DataType) -> bool {
    let class = dtype.info().map(|info| info.class);
    matches!(class, Some(Class::Float | Class::Signed | Class::Unsigned | Class::Bool | Class::String))
}

/// The features of a list, and their names: of all or of none.
fn features(at: &At<'_>) -> Option<(Vec<FeatureProfile>, Vec<String>)> {
    let items = at.items(MAX_FEATURES);
    if items.is_empty() && matches!(at.node.value, Value::List(_)) {
        at.report(format!("expected 1 to {MAX_FEATURES} features"));
    }
    let mut names = Vec::new();
    let mut features = Vec::with_capacity(items.len());
    for item in &items {
        features.push(feature(item, true)?);
        names.extend(item.get("name").and_then(|at| at.text(MAX_TEXT_BYTES)).map(str::to_owned));
    }
    if !names.is_empty() && names.len() != items.len() {
        at.report("some features have a `name` and some have none");
    }
    (!features.is_empty()).then_some((features, names))
}

fn feature(at: &At<'_>, may_have_name: bool) -> Option<FeatureProfile> {
    at.only(if may_have_name { FEATURE_KEYS } else { FEATURE_KEYS.get(1..).unwrap_or_default() });
    let share = |key: &str| at.get(key).map_or(Some(0.0), |at| at.share());
    let mut feature = FeatureProfile {
        count: at.need("count")?.count()?,
        missing: share("missing")?,
        non_finite: share("non_finite")?,
        integral: share("integral")?,
        zero: share("zero")?,
        values: at.get("values").map_or(Some(Vec::new()), |at| values(&at))?,
        ..FeatureProfile::empty()
    };
    if feature.missing + feature.non_finite > 1.0 + ROUNDING {
        at.report("`missing` and `non_finite` are more than all values");
    }
    let keys = ["min", "max", "mean", "std", "quantiles"];
    if keys.iter().all(|key| at.get(key).is_none()) {
        // A feature that never had a finite value.
        return Some(feature);
    }
    let number = |key: &str| at.need(key)?.finite();
    let quantiles = at.need("quantiles")?;
    let list = numbers(&quantiles, 7)?;
    (feature.min, feature.max) = (number("min")?, number("max")?);
    (feature.mean, feature.std) = (number("mean")?, number("std")?);
    let Ok(found) = <[f64; 7]>::try_from(list) else {
        quantiles.report("expected 7 numbers: the quantiles 1, 5, 25, 50, 75, 95 and 99 %");
        return None;
    };
    feature.quantiles = found;
    let FeatureProfile { min, max, mean, std, .. } = feature;
    if min > max {
        at.report("`min` is above `max`");
    } else if !(min..=max).contains(&mean) {
        at.report("`mean` is not between `min` and `max`");
    } else if std < 0.0 || std / 2.0 > max / 2.0 - min / 2.0 {
        at.report("`std` is negative, or wider than the range of the values");
    } else if !found.is_sorted() || found.first() < Some(&min) || found.last() > Some(&max) {
        quantiles.report("quantiles must ascend, and be between `min` and `max`");
    }
    Some(feature)
}

/// Distinct values with their shares, ascending.
fn values(at: &At<'_>) -> Option<Vec<(f64, f64)>> {
    let mut values: Vec<(f64, f64)> = Vec::new();
    for item in at.items(MAX_VALUES) {
        let pair = item.items(2);
        let [value, share] = pair.as_slice() else {
            item.report("expected a value and its share, such as `[1, 0.25]`");
            return None;
        };
        values.push((value.finite()?, share.share()?));
    }
    if !values.is_sorted_by(|before, after| before.0 < after.0) {
        at.report("values must ascend");
    }
    if values.iter().map(|(_, share)| share).sum::<f64>() > 1.0 + ROUNDING {
        at.report("the shares are more than 1 together");
    }
    Some(values)
}

fn numbers(at: &At<'_>, max: usize) -> Option<Vec<f64>> {
    at.items(max).iter().map(At::finite).collect()
}

fn scaler(at: &At<'_>, features: usize) -> Option<Scaler> {
    #[derive(Clone, Copy)]
    enum Kind {
        Standard,
        MinMax,
        Robust,
    }
    let kinds = [(Kind::Standard, "standard"), (Kind::MinMax, "min_max"), (Kind::Robust, "robust")];
    let kind = at.need("kind")?.choice(&kinds)?;
    let (first, second) = match kind {
        Kind::Standard => ("mean", "scale"),
        Kind::MinMax => ("min", "max"),
        Kind::Robust => ("center", "scale"),
    };
    let to = at.get("to");
    at.only(&["kind", first, second, if matches!(kind, Kind::MinMax) { "to" } else { "kind" }]);
    let list = |key: &str| {
        let at = at.need(key)?;
        let list = numbers(&at, MAX_FEATURES)?;
        if list.len() != features && list.len() != 1 {
            at.report(format!("expected 1 number or {features}, one for each feature, got {}", list.len()));
        }
        Some(list)
    };
    let (first, second) = (list(first)?, list(second)?);
    let scaler = match kind {
        Kind::Standard => Scaler::Standard { mean: first, scale: second },
        Kind::MinMax => {
            let to = match to.map(|at| numbers(&at, 2)) {
                None => vec![0.0, 1.0],
                Some(to) => to?,
            };
            let [low, high] = to.as_slice() else {
                at.report("expected two numbers in `to`, such as `[0, 1]`");
                return None;
            };
            Scaler::MinMax { min: first, max: second, to: (*low, *high) }
        }
        Kind::Robust => Scaler::Robust { center: first, scale: second },
    };
    if let Err(text) = scaler.check() {
        at.report(text);
    }
    Some(scaler)
}

fn strings(at: &At<'_>) -> Option<TextProfile> {
    at.only(TEXT_KEYS);
    let mut values = Vec::new();
    let list = at.get("values");
    for item in list.iter().flat_map(|at| at.items(MAX_VALUES)) {
        let pair = item.items(2);
        let [value, share] = pair.as_slice() else {
            item.report("expected a text and its share, such as `[de, 0.25]`");
            return None;
        };
        values.push((value.text(MAX_TEXT_BYTES)?.to_owned(), share.share()?));
    }
    if values.iter().map(|(_, share)| share).sum::<f64>() > 1.0 + ROUNDING {
        at.report("the shares in `values` are more than 1 together");
    }
    Some(TextProfile {
        count: at.need("count")?.count()?,
        empty: at.get("empty").map_or(Some(0.0), |at| at.share())?,
        length: feature(&at.need("length")?, false)?,
        complete: at
            .get("complete")
            .map_or(Some(false), |at| at.choice(&[(true, "true"), (false, "false")]))?,
        values,
    })
}
