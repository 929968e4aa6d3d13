//! `diff`: how two versions of a model differ: signatures, operations, TensorFlow.
use std::path::Path;

use anyhow::anyhow;
use clap::ArgMatches;
use serde_json::json;

use super::settings::load_config;
use super::signature::fetch;
use super::traffic::args::DiffArgs;
use super::traffic::saved_model::{OnDisk, open};
use super::{Exit, Failure, render};
use crate::config::Config;
use crate::repair::report::one_line;
use crate::signature::{Signature, Signatures, TensorInfo};
use crate::wire::VersionChoice;

/// One side.
#[derive(Debug)]
struct Side {
    name: String,
    signatures: Signatures,
    /// What only a directory tells.
    disk: Option<OnDisk>,
}

/// Prints the differences. The exit code is that of `diff`: 0 without differences, 1 with some, 2
/// if one side cannot be read.
pub(super) fn diff(arguments: &DiffArgs, matches: &ArgMatches) -> Result<Exit, Failure> {
    let config = load_config(&arguments.server, matches)?;
    let side = |text| read(&config, text, arguments.timeout);
    let trouble = |failure: Failure| Failure { exit: Exit::Usage, ..failure };
    let (old, new) = (side(&arguments.old).map_err(trouble)?, side(&arguments.new).map_err(trouble)?);
    let lines = differences(&old, &new);
    if arguments.json {
        let shown = json!({"old": old.name, "new": new.name, "same": lines.is_empty(), "differences": lines});
        render::data(&serde_json::to_string_pretty(&shown).map_err(|error| trouble(error.into()))?);
    } else if lines.is_empty() {
        render::note("no differences");
    } else {
        let text: String = lines.iter().map(|line| line.clone() + "\n").collect();
        render::data(&format!("--- {}\n+++ {}\n{text}", one_line(&old.name), one_line(&new.name)));
    }
    Ok(if lines.is_empty() { Exit::Success } else { Exit::Failure })
}

fn read(config: &Config, text: &str, timeout: std::time::Duration) -> Result<Side, Failure> {
    let path = Path::new(text);
    let Some((address, model, choice)) = live(text).filter(|_| !path.exists()) else {
        let disk = open(path)?;
        let signatures = disk.graph.signatures.clone();
        return Ok(Side { name: text.to_owned(), signatures, disk: Some(disk) });
    };
    let upstream = address.parse().map_err(|error| Failure::usage(anyhow!("`{address}`: {error}")))?;
    let config = Config { upstream, ..config.clone() };
    let metadata = fetch(&config, model, &choice, timeout)?;
    let (signatures, version) = Signatures::from_metadata(&metadata)?;
    let version = version.map_or_else(String::new, |version| format!("/{version}"));
    Ok(Side { name: format!("{address}/{model}{version}"), signatures, disk: None })
}

/// `host:port/model` or `host:port/model/version`, with `https://` in front or without.
fn live(text: &str) -> Option<(&str, &str, VersionChoice)> {
    let scheme = text.find("://").map_or(0, |at| at + 3);
    let slash = scheme + text.get(scheme..)?.find('/')?;
    let (address, rest) = (text.get(..slash)?, text.get(slash + 1..)?);
    if !address.get(scheme..)?.contains(':') {
        return None;
    }
    let (model, choice) = match rest.split_once('/') {
        None => (rest, VersionChoice::Latest),
        Some((model, version)) => (model, VersionChoice::Version(version.parse().ok()?)),
    };
    (!model.is_empty()).then_some((address, model, choice))
}

/// A line for each difference.
fn differences(old: &Side, new: &Side) -> Vec<String> {
    let mut lines = Vec::new();
    for signature in old.signatures.servable() {
        match new.signatures.get(&signature.name) {
            None => lines.push(format!("- {}", signature_line(signature))),
            Some(now) => {
                let both = old.disk.is_some() && new.disk.is_some();
                tensors(&mut lines, &signature.name, "input", (&signature.inputs, &now.inputs), both);
                tensors(&mut lines, &signature.name, "output", (&signature.outputs, &now.outputs), both);
                if signature.method_name != now.method_name {
                    let (name, was, is) = (&signature.name, &signature.method_name, &now.method_name);
                    lines.push(format!("~ signature '{name}': method '{was}', now '{is}'"));
                }
            }
        }
    }
    let added = new.signatures.servable().filter(|signature| old.signatures.get(&signature.name).is_none());
    lines.extend(added.map(|signature| format!("+ {}", signature_line(signature))));
    if let (Some(old), Some(new)) = (&old.disk, &new.disk) {
        graphs(&mut lines, old, new);
    }
    lines.iter().map(|line| one_line(line)).collect()
}

fn signature_line(signature: &Signature) -> String {
    let inputs: Vec<String> = signature.inputs.iter().map(declared).collect();
    format!("signature '{}' ({})", signature.name, inputs.join(", "))
}

fn declared(info: &TensorInfo) -> String {
    format!("{}: {} {}", info.alias, info.dtype, info.shape)
}

/// The differences of the inputs or outputs of one signature. `defaults`: both sides say which
/// inputs have one.
fn tensors(
    lines: &mut Vec<String>,
    signature: &str,
    kind: &str,
    (old, new): (&[TensorInfo], &[TensorInfo]),
    defaults: bool,
) {
    let find = |all: &[TensorInfo], alias: &str| all.iter().position(|info| info.alias == alias);
    let added: Vec<&TensorInfo> = new.iter().filter(|info| find(old, &info.alias).is_none()).collect();
    let gone: Vec<&TensorInfo> = old.iter().filter(|info| find(new, &info.alias).is_none()).collect();
    for info in old {
        let Some(now) = find(new, &info.alias).and_then(|at| new.get(at)) else {
            // Only one is gone and one is new, and they are alike.
            let renamed = match (gone.as_slice(), added.as_slice()) {
                ([_], [other]) if (other.dtype, &other.shape) == (info.dtype, &info.shape) => {
                    format!(" (renamed to '{}'?)", other.alias)
                }
                _ => String::new(),
            };
            lines.push(format!("- signature '{signature}': {kind} {}{renamed}", declared(info)));
            continue;
        };
        if info.dtype != now.dtype {
            let (name, was, is) = (&info.alias, info.dtype, now.dtype);
            lines.push(format!("~ signature '{signature}': {kind} '{name}': dtype {was}, now {is}"));
        }
        if info.shape != now.shape {
            let (name, was, is) = (&info.alias, &info.shape, &now.shape);
            lines.push(format!("~ signature '{signature}': {kind} '{name}': shape {was}, now {is}"));
        }
        if defaults && info.has_default != now.has_default {
            let change = if now.has_default { "has a default now" } else { "has no default any more" };
            lines.push(format!("~ signature '{signature}': {kind} '{}' {change}", info.alias));
        }
    }
    for info in added {
        let default = if info.has_default { ", with a default" } else { "" };
        lines.push(format!("+ signature '{signature}': {kind} {}{default}", declared(info)));
    }
}

/// The differences of TensorFlow's version and of the operations.
fn graphs(lines: &mut Vec<String>, old: &OnDisk, new: &OnDisk) {
    let (was, is) = (&old.graph.tensorflow_version, &new.graph.tensorflow_version);
    if was != is {
        lines.push(format!("~ written by TensorFlow {was}, now {is}"));
    }
    let (was, is) = (&old.graph.versions, &new.graph.versions);
    if was.producer != is.producer {
        lines.push(format!("~ graph version {}, now {}", was.producer, is.producer));
    }
    if was.min_consumer != is.min_consumer {
        lines.push(format!(
            "~ lowest graph version that can read it: {}, now {}",
            was.min_consumer, is.min_consumer
        ));
    }
    let (was, is) = (&old.graph.graph.ops, &new.graph.graph.ops);
    lines.extend(was.keys().filter(|op| !is.contains_key(*op)).map(|op| format!("- operation {op}")));
    lines.extend(is.keys().filter(|op| !was.contains_key(*op)).map(|op| format!("+ operation {op}")));
}
