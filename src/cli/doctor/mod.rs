//! `doctor`: what is wrong with an export, before it is served or while it is.
mod args;
mod disk;
mod live;
mod warm;

use anyhow::anyhow;
use clap::ArgMatches;
use clap::parser::ValueSource;
use serde_json::json;

use super::settings::load_config;
use super::traffic::forecast::forecast;
use super::traffic::saved_model::open;
use super::{Exit, Failure, render};
use crate::census::Choice;
use crate::census::forecast::Class;
use crate::census::report::Report;
use crate::doctor::finding::{text, worst};
use crate::doctor::ops::Release;
use crate::doctor::{Actor, Finding, Level};
pub(super) use args::DoctorArgs;

pub(super) fn doctor(arguments: &DoctorArgs, matches: &ArgMatches) -> Result<Exit, Failure> {
    let is_live = arguments.probe || matches.value_source("upstream") == Some(ValueSource::CommandLine);
    if arguments.saved_model.is_none() && !is_live {
        return Err(Failure::usage(anyhow!("there is nothing to look at"))
            .hint("give an export (--saved-model DIR), a server (--upstream ADDR), or both"));
    }
    let mut findings = Vec::new();
    let release = release(arguments, &mut findings)?;
    let export = match &arguments.saved_model {
        Some(path) => disk::check(path, release, arguments.deep, &mut findings)?,
        None => None,
    };
    if arguments.write_warmup {
        let export = export.as_ref().ok_or_else(|| {
            Failure::usage(anyhow!("a warm-up file needs a SavedModel that can be read"))
                .hint("give its folder: --saved-model DIR")
        })?;
        findings.push(warm::write(export, &arguments.request)?);
    }
    let report = traffic(arguments, matches, &mut findings)?;
    if is_live {
        let config = load_config(&arguments.server, matches)?;
        let model = model(arguments, &config)?;
        let forms = report.iter().flat_map(|report| &report.forms);
        let labels = forms.filter_map(|(counted, _)| match &counted.form.choice {
            Choice::Label(label) => Some(label.as_str()),
            Choice::Latest | Choice::Version => None,
        });
        let labels = labels.chain(arguments.label.iter().map(String::as_str)).collect();
        live::check(&config, &model, arguments, export.as_ref(), &labels, &mut findings)?;
    }
    let worst = worst(&findings);
    if arguments.json {
        let all: Vec<_> = findings.iter().map(Finding::to_json).collect();
        let mut answer = json!({"format": 1, "level": worst.as_str(), "findings": all});
        if let Some(report) = report {
            answer["traffic"] = report.to_json(usize::MAX);
        }
        render::data(&format!("{answer:#}"));
    } else {
        render::data(&(text(&findings) + &report.map_or_else(String::new, |report| report.text())));
    }
    Ok(if worst == Level::Fail { Exit::Failure } else { Exit::Success })
}

/// What the export would make of the requests in a census.
fn traffic(
    arguments: &DoctorArgs,
    matches: &ArgMatches,
    findings: &mut Vec<Finding>,
) -> Result<Option<Report>, Failure> {
    let (Some(traffic), Some(directory)) = (&arguments.traffic, &arguments.saved_model) else {
        return Ok(None);
    };
    let config = load_config(&arguments.server, matches)?;
    let report = forecast(&config, &open(directory)?, traffic, arguments.model.as_deref())?;
    let mut summary = report.summary();
    if !report.gone.is_empty() {
        summary.push_str("; outputs are gone: ");
        summary.push_str(&report.gone.join(", "));
    }
    findings.push(match report.callers().into_values().max() {
        Some(Class::Refused) => Finding::new(Level::Fail, "traffic", summary)
            .act(Actor::Client, "change what these clients send, or export signatures that take it"),
        Some(Class::AsBefore | Class::Better | Class::Pinned) if report.gone.is_empty() => {
            Finding::new(Level::Ok, "traffic", summary)
        }
        Some(_) => Finding::new(Level::Warn, "traffic", summary)
            .act(Actor::Client, "look at what changes, and at what could not be judged: traffic forecast"),
        None => Finding::new(Level::Warn, "traffic", "the census has no requests for the model")
            .act(Actor::Platform, "save it after the clients have called"),
    });
    Ok(Some(report))
}

/// The TensorFlow of the server, if it is given. TF Serving itself does not say which one it runs.
fn release(arguments: &DoctorArgs, findings: &mut Vec<Finding>) -> Result<Option<Release>, Failure> {
    let Some(version) = &arguments.tf_version else { return Ok(None) };
    let (release, is_known) = Release::parse(version).map_err(|error| {
        Failure::usage(anyhow!(error)).hint("TensorFlow Serving has the version of its TensorFlow")
    })?;
    if !is_known {
        let what =
            format!("TensorFlow {version} is newer than the newest known, {release}, which is used instead");
        let action = "update tfs-sidecar";
        findings.push(Finding::new(Level::Warn, "ops", what).act(Actor::Platform, action));
    }
    Ok(Some(release))
}

/// The model of `--model`, else the only one of the configuration, else the name of the folder
/// above the version.
fn model(arguments: &DoctorArgs, config: &crate::config::Config) -> Result<String, Failure> {
    if let Some(name) = &arguments.model {
        return Ok(name.clone());
    }
    let mut declared = config.models.keys();
    if let (Some(only), None) = (declared.next(), declared.next()) {
        return Ok(only.clone());
    }
    let folder = arguments.saved_model.as_ref().and_then(|path| path.canonicalize().ok());
    let base = folder.as_deref().and_then(|path| path.parent()).and_then(|path| path.file_name());
    let name = base.map(|name| name.to_string_lossy().into_owned());
    name.ok_or_else(|| Failure::usage(anyhow!("the name of the model is not known")).hint("add --model NAME"))
}
