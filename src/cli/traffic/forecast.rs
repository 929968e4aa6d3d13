//! What a SavedModel would make of the requests in a census.
use std::collections::BTreeSet;
use std::path::Path;

use anyhow::anyhow;
use clap::ArgMatches;

use super::args::ForecastArgs;
use super::read;
use super::saved_model::{OnDisk, open};
use crate::census::forecast::Target;
use crate::census::outputs::SignatureOutputs;
use crate::census::report::Report;
use crate::cli::settings::load_config;
use crate::cli::{Exit, Failure, render};
use crate::config::Config;
use crate::pipeline::census::judge_body;

/// The work of a forecast: bytes of messages that are made and judged. That takes about a minute.
const MAX_WORK: u64 = 64 << 30;

pub(super) fn command(arguments: &ForecastArgs, matches: &ArgMatches) -> Result<Exit, Failure> {
    let config = load_config(&arguments.server, matches)?;
    let new = open(&arguments.saved_model)?;
    let report = forecast(&config, &new, &arguments.traffic, arguments.model.as_deref())?;
    if arguments.json {
        render::data(&serde_json::to_string_pretty(&report.to_json(usize::MAX))?);
    } else {
        render::data(&report.text());
    }
    Ok(if report.refused() > 0 { Exit::Failure } else { Exit::Success })
}

/// Judges the forms of a model in the census at `traffic` by the signatures of a SavedModel, under
/// the policy of the model in the configuration.
///
/// # Errors
/// If the file is no census, or it is not clear which of its models is meant.
pub(in crate::cli) fn forecast(
    config: &Config,
    new: &OnDisk,
    traffic: &Path,
    model: Option<&str>,
) -> Result<Report, Failure> {
    let traffic = read(traffic)?;
    let models: BTreeSet<&str> = traffic.forms.iter().map(|counted| counted.form.model.as_str()).collect();
    let model = choose(&models, model, new.model.as_deref())?.to_owned();
    let signatures = &new.graph.signatures;
    let (policy, limits) = (config.policy(&model), config.request_limits());
    let target = Target::new(signatures, policy, limits, true).json(judge_body, config).work(MAX_WORK);
    let mut report = Report::new(&model, new.version, traffic.forms, &target);
    report.gone = SignatureOutputs::gone(&traffic.outputs, &model, signatures);
    Ok(report)
}

/// The model that is meant: the one of this name, else the only one, else that of the directory.
fn choose<'a>(
    models: &BTreeSet<&'a str>,
    named: Option<&str>,
    directory: Option<&str>,
) -> Result<&'a str, Failure> {
    let list = || {
        const SHOWN: usize = 20;
        let names: Vec<String> = models.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
        format!(
            "the census has {}",
            if names.is_empty() { "no requests".to_owned() } else { names.join(", ") }
        )
    };
    if let Some(named) = named.filter(|name| !name.is_empty()) {
        let found = models.get(named).copied();
        return found.ok_or_else(|| {
            Failure::usage(anyhow!("the census has no requests for model `{named}`")).hint(list())
        });
    }
    let mut all = models.iter().copied();
    if let (Some(only), None) = (all.next(), all.next()) {
        return Ok(only);
    }
    let of_directory = directory.and_then(|name| models.get(name)).copied();
    of_directory.ok_or_else(|| {
        Failure::usage(anyhow!("it is not clear which model of the census is meant ({})", list()))
            .hint("choose one with --model NAME")
    })
}
