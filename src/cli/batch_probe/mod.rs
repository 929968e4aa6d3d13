//! `batch-probe`: measures whether batching pays for a model, and prints the configuration for it.
mod advice;
mod measure;
mod report;
mod sizes;

use std::fmt::Write as _;

use anyhow::anyhow;
use clap::ArgMatches;

use super::args::BatchProbeArgs;
use super::explain::request;
use super::settings::{load_config, variable};
use super::signature::fetch;
use super::{Failure, render};
use crate::config::Config;
use crate::repair::report::{ascii, explain};
use crate::repair::{self, Action, Mode, Request};
use crate::signature::Signatures;
use crate::wire::{PredictView, Rope, emit};
use advice::{Advice, advise};
use measure::{Measured, announce, measure};
use sizes::Rows;

/// The width of the chart if the environment does not say how wide the terminal is.
const WIDTH: usize = 80;

pub(super) fn batch_probe(arguments: &BatchProbeArgs, matches: &ArgMatches) -> Result<(), Failure> {
    let config = load_config(&arguments.model.server, matches)?;
    let sent = request(&arguments.sample, &arguments.model)?;
    let view = scan(&sent)?;
    let model = model(arguments, &config, &view)?;
    let metadata = fetch(&config, &model, &view.model_spec.version, arguments.model.timeout)?;
    let (signatures, version) = Signatures::from_metadata(&metadata)?;
    let addressed = addressed(sent, &model, version);
    let (message, repairs) = conforming(&addressed, &config, &model, &signatures)?;
    let name = scan(&message)?.model_spec.effective_signature().to_owned();
    let signature = signatures.get(&name).ok_or_else(|| anyhow!("the model has no signature `{name}`"))?;
    let rows = Rows::of(signature, &message, arguments.max_rows).map_err(|error| {
        let what = format!("model '{}' cannot be measured in runs of several rows", ascii(&model));
        let hints = error.hint().into_iter().map(str::to_owned).collect();
        Failure { hints, ..Failure::from(anyhow!(error).context(what)) }
    })?;
    let sizes = sizes(arguments.max_rows);
    announce(&config, &sizes, arguments.duration);
    let measured = measure(&config, &rows, &sizes, arguments.duration, arguments.model.timeout)
        .map_err(|failure| in_context(failure, &model))?;
    let advice = advise(&measured.curve, &measured.pairs);
    let version = version.map_or_else(String::new, |version| format!(" version {version}"));
    let mut text = format!("model '{}'{version}, signature '{}'\n", ascii(&model), ascii(&name));
    if repairs > 0 {
        writeln!(text, "the request was repaired with {repairs} change(s)")?;
    }
    text += &result(&measured, &rows, &advice);
    if advice.pays() {
        let sizes: Vec<u64> = measured.curve.iter().map(|times| times.rows).collect();
        write!(text, "\n{}", advice.configuration(&model, &name, &sizes))?;
    }
    render::data(&text);
    Ok(())
}

/// The name of the model is added to what went wrong with its runs.
fn in_context(failure: Failure, model: &str) -> Failure {
    let what = format!("cannot measure model '{}'", ascii(model));
    Failure { error: failure.error.context(what), ..failure }
}

fn result(measured: &Measured, rows: &Rows<'_>, advice: &Advice) -> String {
    let Measured { curve, pairs, notes } = measured;
    let width = variable("COLUMNS").and_then(|columns| columns.value.parse().ok()).unwrap_or(WIDTH);
    let mut text = format!("\n{}\n{}\n", report::table(curve), report::chart(curve, width));
    for note in notes {
        text.push_str(note);
        text.push('\n');
    }
    text += "Each row got the answer that it gets alone, whatever the size of the run.\n";
    if rows.distinct() == 1 {
        text += "All rows were the same: a request with several different rows makes this check stronger.\n";
    }
    text += &report::at_once(pairs);
    text + &report::verdict(advice, curve)
}

fn scan(message: &Rope) -> Result<PredictView, Failure> {
    PredictView::scan(message)
        .map_err(|error| Failure::usage(anyhow!(error).context("cannot parse the request")))
}

/// The model of `--model`, else the one that the request names, else that of the configuration.
fn model(arguments: &BatchProbeArgs, config: &Config, view: &PredictView) -> Result<String, Failure> {
    let sent = Some(view.model_spec.name.clone()).filter(|name| !name.is_empty());
    match (arguments.model.named()?, sent) {
        (Some(named), _) => Ok(named.to_owned()),
        (None, Some(sent)) => Ok(sent),
        (None, None) => arguments.model.name(config),
    }
}

/// The request for this version of the model, so that all runs are of one version. A second
/// `model_spec` is merged into the first.
fn addressed(mut message: Rope, model: &str, version: Option<i64>) -> Rope {
    let mut spec = emit::field(1, Rope::from(model.as_bytes().to_vec()));
    if let Some(version) = version {
        // `version` is an `Int64Value`, whose field 1 is the number.
        let mut value = vec![1 << 3];
        emit::put_varint(&mut value, version as u64);
        spec.append(emit::field(2, Rope::from(value)));
    }
    message.append(emit::field(1, spec));
    message
}

/// The request after the repairs of the model's policy, and how many there were.
fn conforming(
    message: &Rope,
    config: &Config,
    model: &str,
    signatures: &Signatures,
) -> Result<(Rope, usize), Failure> {
    let view = scan(message)?;
    let verdict = repair::judge(&Request {
        message,
        view: &view,
        signatures,
        policy: config.policy(model),
        limits: config.request_limits(),
        // Only a request that conforms can share a run, whatever the mode.
        raised: Some(Mode::Repair),
        text: None,
    });
    match verdict.action {
        Action::Refuse => {
            let problems = explain(&verdict, &view);
            Err(anyhow!("the request does not conform to the signature\n{}", problems.trim_end()).into())
        }
        Action::Forward => Ok((message.clone(), 0)),
        Action::Apply => Ok((repair::apply(message, &view, &verdict.plan)?, verdict.plan.steps.len())),
    }
}

/// 1, 2, 4, ... and the largest.
fn sizes(max: u64) -> Vec<u64> {
    let powers = std::iter::successors(Some(1_u64), |size| size.checked_mul(2));
    powers.take_while(|size| *size < max).chain([max]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repair::notation;
    use crate::wire::VersionChoice;

    #[test]
    fn the_largest_size_need_not_be_a_power_of_two() {
        assert_eq!(sizes(2), [1, 2]);
        assert_eq!(sizes(8), [1, 2, 4, 8]);
        assert_eq!(sizes(12), [1, 2, 4, 8, 12]);
    }

    #[test]
    fn the_request_names_the_model_and_the_version_that_were_read() {
        let message = notation::request("", "@s x:float[1]").unwrap();
        let view = PredictView::scan(&addressed(message, "m", Some(300))).unwrap();
        let spec = &view.model_spec;
        assert_eq!((spec.name.as_str(), spec.effective_signature()), ("m", "s"));
        assert_eq!(spec.version, VersionChoice::Version(300));
    }
}
