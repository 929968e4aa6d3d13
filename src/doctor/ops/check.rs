//! The operations of a graph held against a release of TensorFlow.
use std::collections::BTreeSet;

use super::error::{PYTHON, known};
use super::{Op, Release, package_of};
use crate::doctor::finding::{Actor, Finding, Level};
use crate::doctor::graph::{OpUse, Place};
use crate::doctor::saved_model::MetaGraph;
use crate::tensor::DataType;

const CHECK: &str = "ops";
/// Findings of one kind that are listed one by one.
const MAX_LISTED: usize = 50;
/// `ref` dtypes and dtypes that do not fit the bits of the table are not compared.
const COMPARED: u64 = !1;

/// What a fault means that a load finds.
const LOAD: &str = "the version does not load";

/// Attributes that change no result: names for debugging.
const HARMLESS: &[&str] = &["debug_name"];

/// Where an operation is needed: it decides how bad it is if the server does not have it.
enum Need {
    /// In the main graph, which is checked when the version is loaded, or in what a load runs.
    Load,
    /// These signatures fail, on each request.
    Signatures(Vec<String>),
    /// In functions that no signature reaches: nothing fails.
    Nothing,
    /// The graph is too large to be followed.
    Unknown,
}

/// What each signature reaches, and under an empty name what is run when the version is loaded.
struct Reach<'a>(Option<Vec<(&'a str, BTreeSet<&'a str>)>>);

/// The pseudo-signature of the operation that initializes a version (saved_model/constants.h).
const INIT: &str = "__saved_model_init_op";

impl<'a> Reach<'a> {
    fn of(meta: &'a MetaGraph) -> Self {
        let name = |signature: &'a str| if signature == INIT { "" } else { signature };
        let called = meta
            .signatures
            .iter()
            .map(|signature| Some((name(&signature.name), meta.graph.reached_by(signature)?)));
        let restored = meta.graph.reached_from(std::slice::from_ref(&meta.restore_op), &[]);
        Self(called.chain([restored.map(|ops| ("", ops))]).collect())
    }

    /// Where it matters whether the server has an operation: every one in the main graph is looked
    /// up when the version is loaded.
    fn need(&self, op: &str, used: &OpUse) -> Need {
        if used.in_main > 0 { Need::Load } else { self.run(op) }
    }

    /// Where an operation is run.
    fn run(&self, op: &str) -> Need {
        let Some(all) = &self.0 else { return Need::Unknown };
        let reaching = all.iter().filter(|(_, ops)| ops.contains(op));
        let names: Vec<String> = reaching.map(|(name, _)| (*name).to_owned()).collect();
        if names.iter().any(String::is_empty) {
            return Need::Load;
        }
        if names.is_empty() { Need::Nothing } else { Need::Signatures(names) }
    }
}

impl Need {
    fn level(&self) -> Level {
        match self {
            Self::Nothing => Level::Ok,
            Self::Load | Self::Signatures(_) | Self::Unknown => Level::Fail,
        }
    }

    fn why(&self, place: &Place) -> String {
        let at = place_text(place);
        match self {
            Self::Load => format!("{at}: {LOAD}"),
            Self::Signatures(names) => format!(
                "{at}: the version loads, and each request of {} fails",
                names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
            ),
            Self::Nothing => format!("{at}, which no signature reaches: it loads, and nothing fails"),
            Self::Unknown => format!("{at}: requests that reach it fail"),
        }
    }
}

fn place_text(place: &Place) -> String {
    if place.function.is_empty() {
        format!("node `{}`", place.node)
    } else {
        format!("node `{}` in function `{}`", place.node, place.function)
    }
}

/// What a server of this release makes of the graph. Without a release, only what no TensorFlow
/// has is found.
pub fn check(meta: &MetaGraph, release: Option<Release>) -> Vec<Finding> {
    let reach = Reach::of(meta);
    let mut findings = Vec::new();
    for (name, used) in &meta.graph.ops {
        let need = reach.need(name, used);
        one(name, used, &need, &reach.run(name), release, &mut findings);
        if findings.len() >= MAX_LISTED {
            let rest = "more operations may be missing, which are not listed";
            findings.push(Finding::new(Level::Warn, CHECK, rest));
            break;
        }
    }
    broken(meta, &mut findings);
    if let Some(finding) = lowest(meta, &reach) {
        findings.push(finding);
    }
    if meta.graph.is_cut {
        let what = "the graph has more operations or attributes than are checked";
        findings.push(Finding::new(Level::Warn, CHECK, what));
    }
    findings
}

/// Checks one operation. `need` is where it must exist, `run` where its attributes must be right:
/// they are checked when a part of the graph is made ready to run.
fn one(
    name: &str,
    used: &OpUse,
    need: &Need,
    run: &Need,
    release: Option<Release>,
    findings: &mut Vec<Finding>,
) {
    let mut add =
        |need: &Need, level: Level, what: String, place: &Place, who: Actor, action: &'static str| {
            let level = level.min(need.level());
            findings.push(Finding::new(level, CHECK, what).why(need.why(place)).act(who, action));
        };
    let mut find = |level: Level, what: String, place: &Place, who: Actor, action: &'static str| {
        add(need, level, what, place, who, action);
    };
    if PYTHON.contains(&name) {
        let what = format!(
            "op `{name}` calls Python (tf.py_function, tf.numpy_function), which no TensorFlow Serving has"
        );
        let action = "write that part in TensorFlow operations, or move it to the client, and export again";
        return find(Level::Fail, what, &used.first, Actor::Exporter, action);
    }
    let Some(op) = Op::find(name) else {
        return match package_of(name) {
            Some(package) => {
                let (level, where_it_is) = match package.in_serving {
                    Some(since) => {
                        (Level::Warn, format!("the official TensorFlow Serving has them since {since}"))
                    }
                    None => (Level::Fail, "TensorFlow Serving is not built with it".to_owned()),
                };
                let what = format!("op `{name}` is of {}: {where_it_is}", package.name);
                find(level, what, &used.first, Actor::Platform, package.action);
            }
            None => {
                let what = format!("op `{name}` is not TensorFlow's own in {}: it is a custom op", known());
                let action = "build the op into TensorFlow Serving, or export the model without it";
                find(Level::Fail, what, &used.first, Actor::Platform, action);
            }
        };
    };
    let Some(release) = release else { return };
    let upgrade = "run a newer TensorFlow Serving, or export with the server's TensorFlow";
    if op.first > release {
        let what = format!("op `{name}` exists since TensorFlow {}, the server runs {release}", op.first);
        return find(Level::Fail, what, &used.first, Actor::Platform, upgrade);
    }
    if op.last < release {
        let what = format!("op `{name}` exists up to TensorFlow {}, the server runs {release}", op.last);
        let action = "export the model again with the server's TensorFlow";
        return find(Level::Fail, what, &used.first, Actor::Exporter, action);
    }
    for (attr, seen) in used.attrs.iter().filter(|(attr, _)| !attr.starts_with('_')) {
        let known_attr = op.attr(attr);
        let Some(is) = known_attr.filter(|is| is.is_in(release)) else {
            let when = known_attr.map_or_else(
                || format!("no TensorFlow in {} has it", known()),
                |is| format!("TensorFlow {} to {} have it", is.first, is.last),
            );
            let what = format!("attribute `{attr}` of {name} is unknown to TensorFlow {release} ({when})");
            if release.ignores_attributes() {
                // What is ignored and says nothing changes nothing.
                if !seen.is_set && known_attr.is_some_and(|is| is.is_zero)
                    || HARMLESS.contains(&attr.as_str())
                {
                    continue;
                }
                let action = "check that the model computes the same there: the server ignores the attribute";
                add(run, Level::Warn, what, &seen.first, Actor::Exporter, action);
            } else {
                add(run, Level::Fail, what, &seen.first, Actor::Platform, upgrade);
            }
            continue;
        };
        let unknown = seen.types & !is.types(release) & COMPARED;
        if unknown != 0 {
            let dtype = DataType::from_number(unknown.trailing_zeros() as i32);
            let since =
                Release::all().find(|other| is.is_in(*other) && is.types(*other) & unknown == unknown);
            let when = since.map_or_else(
                || format!("no TensorFlow in {} takes it", known()),
                |since| format!("since {since}"),
            );
            let what = format!("{name} does not take {dtype} as `{attr}` in TensorFlow {release} ({when})");
            add(run, Level::Fail, what, &seen.first, Actor::Platform, upgrade);
        }
    }
    for attr in op.attrs().filter(|attr| !attr.has_default && attr.is_in(release)) {
        let lacking = match used.attrs.get(attr.name) {
            None => Some(&used.first),
            Some(seen) => seen.lacking.as_ref(),
        };
        if let Some(place) = lacking {
            let what = format!("{name} lacks attribute `{}`, which it needs", attr.name);
            let action = "export the model again: the file is damaged or was edited";
            add(need, Level::Fail, what, place, Actor::Exporter, action);
        }
    }
    if let Some(needed) = stable_hlo(name, used).filter(|needed| *needed > release) {
        let version = used.attrs.get("version").and_then(|attr| attr.numbers).map_or(0, |(_, most)| most);
        let what =
            format!("XlaCallModule version {version} needs TensorFlow {needed}, the server runs {release}");
        let action = "run a newer TensorFlow Serving, or export with an older serialization version (jax_serialization_version of JAX)";
        add(run, Level::Fail, what, &used.first, Actor::Platform, action);
    }
}

/// The oldest release that can run the StableHLO of a graph. The versions came with attributes of
/// the operation: 6 with `disabled_checks`, 10 with `use_shardy_partitioner`
/// (compiler/tf2xla/kernels/xla_call_module_loader.cc).
fn stable_hlo(name: &str, used: &OpUse) -> Option<Release> {
    let (_, version) = used.attrs.get("version").filter(|_| name == "XlaCallModule")?.numbers?;
    let attr = match version {
        10.. => "use_shardy_partitioner",
        6..10 => "disabled_checks",
        _ => "version",
    };
    Some(Op::find(name)?.attr(attr)?.first)
}

/// Nodes and functions that do not exist.
fn broken(meta: &MetaGraph, findings: &mut Vec<Finding>) {
    let again = "export the model again: the file is damaged or was edited";
    for (name, place) in meta.graph.unknown_inputs.iter().take(MAX_LISTED) {
        let what = format!("an input of node `{}` is node `{name}`, which does not exist", place.node);
        findings.push(
            Finding::new(Level::Fail, CHECK, what)
                .why("the version does not load")
                .act(Actor::Exporter, again),
        );
    }
    for (name, place) in meta.graph.unknown_functions.iter().take(MAX_LISTED) {
        // Gradient functions are looked up only in training.
        let is_main = place.function.is_empty();
        let level = if is_main { Level::Fail } else { Level::Warn };
        let what = format!("function `{name}` is called, and does not exist");
        findings.push(Finding::new(level, CHECK, what).why(place_text(place)).act(Actor::Exporter, again));
    }
}

/// The oldest release that has all that the signatures and the main graph need, and why.
fn lowest(meta: &MetaGraph, reach: &Reach<'_>) -> Option<Finding> {
    let (release, because) = oldest_of(meta, reach)?;
    let why = if because.is_empty() { String::new() } else { format!("because of {because}") };
    let what = format!("TensorFlow {release} is the oldest that can serve the model");
    Some(Finding::new(Level::Ok, CHECK, what).why(why))
}

/// The oldest release of the table that can serve the model; `None` if none can, or only one that
/// is older than the table matters.
pub fn oldest(meta: &MetaGraph) -> Option<Release> {
    oldest_of(meta, &Reach::of(meta)).map(|(release, _)| release)
}

fn oldest_of(meta: &MetaGraph, reach: &Reach<'_>) -> Option<(Release, String)> {
    let mut lowest = (Release::all().next()?, String::new());
    for (name, used) in &meta.graph.ops {
        if matches!(reach.need(name, used), Need::Nothing) {
            continue;
        }
        let Some(op) = Op::find(name) else { continue };
        let mut needs = |release: Release, what: &str| {
            if release > lowest.0 {
                lowest = (release, what.to_owned());
            }
        };
        needs(op.first, &format!("op `{name}`"));
        let runs = !matches!(reach.run(name), Need::Nothing);
        for (attr, seen) in used.attrs.iter().filter(|_| runs) {
            let Some(is) = op.attr(attr) else { continue };
            let takes = |release: &Release| {
                (is.is_in(*release) || release.ignores_attributes())
                    && seen.types & !is.types(*release) & COMPARED == 0
            };
            if let Some(release) = Release::all().find(|release| *release >= op.first && takes(release)) {
                needs(release, &format!("attribute `{attr}` of {name}"));
            }
        }
        if let Some(release) = stable_hlo(name, used) {
            needs(release, "the version of its XlaCallModule");
        }
    }
    Some(lowest)
}
