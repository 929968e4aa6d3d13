//! Asks a running TF Serving for the doctor: its versions, their labels and signatures, and one
//! request for each signature.
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use tonic::Code;

use super::args::DoctorArgs;
use super::disk::Export;
use super::warm;
use crate::cli::Failure;
use crate::config::Config;
use crate::doctor::probe::{judge, zeros};
use crate::doctor::{Actor, Finding, Level, ops};
use crate::explain::{self, Context};
use crate::fault::Fault;
use crate::models::fetch::{self, Reported};
use crate::repair::report::{ascii, one_line};
use crate::signature::Signatures;
use crate::telemetry::metrics::code_name;
use crate::wire::{Rope, VersionChoice, emit};

const CHECK: &str = "live";
/// Labels by convention, which need not exist: TF Serving does not list those that it has.
const LABELS: [&str; 2] = ["stable", "canary"];
/// Labels that are looked up.
const MAX_LABELS: usize = 32;
/// How often the state of versions that are loading is read.
const EVERY: Duration = Duration::from_millis(250);
/// Versions that are listed; TF Serving lists every one that it has ever seen.
const MAX_VERSIONS: usize = 20;

pub(super) fn check(
    config: &Config,
    model: &str,
    arguments: &DoctorArgs,
    export: Option<&Export>,
    labels: &BTreeSet<&str>,
    findings: &mut Vec<Finding>,
) -> Result<(), Failure> {
    let within = arguments.timeout;
    let started = Instant::now();
    let versions = match loaded(config, model, within) {
        Ok(versions) => versions,
        Err(fault) if fault.code() == Code::NotFound => {
            let what = format!("TF Serving does not serve model '{}'", ascii(model));
            let action = "compare the name with its --model_name or --model_config_file";
            findings.push(
                Finding::new(Level::Fail, CHECK, what)
                    .why(one_line(&fault.to_string()))
                    .act(Actor::Platform, action),
            );
            return Ok(());
        }
        Err(fault) => {
            let what = format!("cannot read the status of model '{model}' from `{}`", config.upstream);
            return Err(
                Failure::from(anyhow!(fault).context(what)).hint("check that TensorFlow Serving runs there")
            );
        }
    };
    let watched = started.elapsed();
    findings.extend(versions.iter().take(MAX_VERSIONS).map(|version| of_version(version, watched)));
    let served = versions.iter().filter(|version| version.is_served).map(|version| version.version).max();
    let known = LABELS.into_iter().filter(|label| !labels.contains(label));
    for label in labels.iter().copied().take(MAX_LABELS).chain(known) {
        findings.extend(of_label(config, model, label, labels.contains(label), within));
    }
    if let Some(export) = export {
        findings.extend(on_disk(export, &versions));
    }
    let Some(version) = served else { return Ok(()) };
    let answer =
        fetch::metadata(config, model, &VersionChoice::Version(version), within).map_err(|fault| {
            anyhow!(fault).context(format!("cannot read the signatures of version {version}"))
        })?;
    let (signatures, _) = Signatures::from_metadata(&answer)?;
    if let Some(meta) = export.filter(|export| export.version() == Some(version)).and_then(Export::served) {
        findings.extend(meta.signatures.changes_to(&signatures).into_iter().map(|change| {
            let action = "put each export into a folder of its own number: TensorFlow Serving does not read a version twice";
            Finding::new(Level::Fail, CHECK, format!("version {version} is served with other signatures than the folder has: {change}"))
                .why("the folder was changed after the version was loaded")
                .act(Actor::Platform, action)
        }));
    }
    if arguments.probe {
        for signature in signatures.servable() {
            let recorded = export.and_then(|export| warm::recorded(export, &signature.name));
            let is_recorded = recorded.is_some();
            let request = match recorded {
                Some(request) => Ok(addressed(request, model, version)),
                None => zeros(model, Some(version), signature),
            };
            let finding = match request {
                Ok(request) => probed(&signature.name, is_recorded, &fetch::predict(config, request, within)),
                Err(why) => {
                    Finding::new(Level::Ok, CHECK, format!("signature '{}' was not probed", signature.name))
                        .why(why)
                }
            };
            findings.push(finding);
        }
    }
    Ok(())
}

/// The versions, as soon as none is loading or the time is over.
#[expect(clippy::disallowed_methods, reason = "a server has to be asked whether a load has ended")]
fn loaded(config: &Config, model: &str, within: Duration) -> Result<Vec<Reported>, Fault> {
    let started = Instant::now();
    loop {
        let versions = fetch::versions(config, model, within)?;
        let left = within.saturating_sub(started.elapsed());
        if left.is_zero() || !versions.iter().any(|version| version.is_loading) {
            return Ok(versions);
        }
        std::thread::sleep(left.min(EVERY));
    }
}

/// The version of a label. One that nobody `asked` for need not be assigned.
fn of_label(config: &Config, model: &str, label: &str, asked: bool, within: Duration) -> Option<Finding> {
    let answer = fetch::metadata(config, model, &VersionChoice::Label(label.to_owned()), within);
    let label = ascii(label);
    match answer {
        Ok(answer) => {
            let (_, version) = Signatures::from_metadata(&answer).ok()?;
            Some(Finding::new(Level::Ok, CHECK, format!("label `{label}` is version {}", version?)))
        }
        Err(_) if !asked => None,
        Err(fault) => {
            let is_answer = matches!(fault, Fault::Upstream { .. } | Fault::ModelUnknown { .. });
            let (level, what) = if is_answer {
                (Level::Fail, format!("label `{label}` is no version that is served"))
            } else {
                (Level::Warn, format!("label `{label}` cannot be looked up"))
            };
            let action = "assign it in version_labels of --model_config_file, to a version that is served";
            Some(
                Finding::new(level, CHECK, what)
                    .why(one_line(&fault.to_string()))
                    .act(Actor::Platform, action),
            )
        }
    }
}

/// The state of a version that was `watched` for so long.
fn of_version(version: &Reported, watched: Duration) -> Finding {
    let number = version.version;
    match &version.error {
        Some(error) => explained(format!("version {number} failed to load"), error, Level::Fail),
        None if version.is_loading => {
            let what = format!("version {number} was loading for the {} s of this check", watched.as_secs());
            Finding::new(Level::Warn, CHECK, what)
                .why("TensorFlow Serving tries a load that fails up to six times, a minute apart, and says nothing meanwhile; warm-up is part of it")
                .act(Actor::Platform, "wait longer (--timeout 6m); if it does not end, TensorFlow Serving's log has the error of each try")
        }
        None => Finding::new(Level::Ok, CHECK, format!("version {number} is {}", version.state)),
    }
}

/// An error of TF Serving with what it means.
fn explained(what: String, error: &str, level: Level) -> Finding {
    let meaning = explain::explain(error, &Context::default());
    let finding = Finding::new(level, CHECK, what).why(one_line(error));
    let detail = ops::of_error(error);
    match meaning {
        Some(meaning) => {
            let detail = detail.map_or_else(String::new, |detail| format!("; {detail}"));
            finding.act(meaning.row.actor, format!("{}{detail}", meaning.row.meaning))
        }
        None => finding.act(Actor::Platform, "read TensorFlow Serving's log"),
    }
}

/// The version of the folder as the server has it.
fn on_disk(export: &Export, versions: &[Reported]) -> Option<Finding> {
    let number = export.version()?;
    let highest = versions.iter().filter(|version| version.is_served).map(|version| version.version).max();
    let is_listed = versions.iter().any(|version| version.version == number);
    if is_listed {
        return None;
    }
    let what = format!("version {number} is on disk, and TensorFlow Serving has not seen it");
    let (level, action) = match highest {
        Some(highest) if highest > number => {
            (Level::Ok, "older versions are not loaded: its policy is to serve the latest")
        }
        _ => (
            Level::Warn,
            "check its base path, and --file_system_poll_wait_seconds: with 0 it never looks again",
        ),
    };
    Some(Finding::new(level, CHECK, what).act(Actor::Platform, action))
}

/// A request for this version of this model. A second `model_spec` is merged into the first.
fn addressed(mut message: Rope, model: &str, version: i64) -> Rope {
    let mut spec = emit::field(1, Rope::from(model.as_bytes().to_vec()));
    let mut value = vec![1 << 3];
    emit::put_varint(&mut value, version as u64);
    spec.append(emit::field(2, Rope::from(value)));
    message.append(emit::field(1, spec));
    message
}

fn probed(signature: &str, is_recorded: bool, answer: &Result<Rope, Fault>) -> Finding {
    let with = if is_recorded { "a warm-up record" } else { "one row of zeros" };
    let Err(fault) = answer else {
        return Finding::new(Level::Ok, CHECK, format!("signature '{signature}' answers {with}"));
    };
    let Fault::Upstream { code, message } = fault else {
        let what = format!("signature '{signature}' did not answer {with}");
        let action = "send it again with a longer --timeout; the first call may compile kernels";
        return Finding::new(Level::Warn, CHECK, what)
            .why(one_line(&fault.to_string()))
            .act(Actor::Platform, action);
    };
    let text = format!("{}: {message}", code_name(*code));
    // A record has worked before.
    let level = if is_recorded { Level::Fail } else { judge(message, *code == Code::InvalidArgument) };
    let what = format!("signature '{signature}' fails with {with}");
    explained(what, &text, level)
}
