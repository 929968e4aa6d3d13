//! `explain`: what would be repaired or refused in a request, and why, by the same decision as for
//! real requests.
mod rest;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use clap::ArgMatches;
use prost::Message as _;

use super::args::{ExplainArgs, ModelArgs, RequestArgs};
use super::settings::load_config;
use super::signature::fetch;
use super::{Exit, Failure, batching, render};
use crate::config::Config;
use crate::explain::fed_outputs;
use crate::proto::tensorflow::serving::GetModelMetadataResponse;
use crate::repair::{self, Action, Change, Reason, Request, Verdict, notation, report};
use crate::signature::Signatures;
use crate::wire::{PredictView, Rope, VersionChoice};

pub(super) fn explain(arguments: &ExplainArgs, matches: &ArgMatches) -> Result<Exit, Failure> {
    let config = load_config(&arguments.model.server, matches)?;
    if let Some(path) = &arguments.rest_body {
        return explain_body(arguments, &config, path);
    }
    let message = request(&arguments.sample, &arguments.model)?;
    let view = PredictView::scan(&message)
        .map_err(|error| Failure::usage(anyhow!(error).context("cannot parse the request")))?;
    let model = model(arguments, &config, &view.model_spec.name)?;
    let (signatures, version) = signatures(arguments, &config, &model)?;
    let verdict = repair::judge(&Request {
        message: &message,
        view: &view,
        signatures: &signatures,
        policy: config.policy(&model),
        limits: config.request_limits(),
        raised: None,
        text: None,
    });
    let version = version.map_or_else(String::new, |version| format!(" version {version}"));
    let mut text = format!("model '{}'{version}\n", report::ascii(&model));
    text.push_str(&report::explain(&verdict, &view));
    text.push_str(&not_sent(&verdict, &view));
    text.push_str(&fed(&verdict, &view));
    let name =
        verdict.signature.as_ref().map_or_else(|| view.model_spec.effective_signature(), |known| &known.name);
    let policy = config.policy(&model).for_signature(name);
    text.push_str(&batching::line(&verdict, policy, &message, &view));
    render::data(&text);
    Ok(if verdict.action == Action::Refuse { Exit::Failure } else { Exit::Success })
}

/// Explains a JSON body.
fn explain_body(arguments: &ExplainArgs, config: &Config, path: &Path) -> Result<Exit, Failure> {
    let body = read(path)?;
    let model = model(arguments, config, "")?;
    let (signatures, version) = signatures(arguments, config, &model)?;
    let version = version.map_or_else(String::new, |version| format!(" version {version}"));
    let rest::Explained { text, refused } = rest::explain(config, &model, &signatures, &body);
    render::data(&format!("model '{}'{version}\n{text}", report::ascii(&model)));
    Ok(if refused { Exit::Failure } else { Exit::Success })
}

/// A line if the request asks for an output that is an input, which TensorFlow does not return.
fn fed(verdict: &Verdict, view: &PredictView) -> String {
    let signature = verdict.signature.as_ref();
    let fed = signature.and_then(|signature| fed_outputs(signature, &view.output_filter));
    fed.map_or_else(String::new, |fed| {
        format!(
            "TensorFlow will refuse it (`is both fed and fetched`): {fed}; the exporter can wrap the output in tf.identity\n"
        )
    })
}

/// A line for each input that the request lacks and the verdict does not complain about.
fn not_sent(verdict: &Verdict, view: &PredictView) -> String {
    let keys = view.inputs.iter().map(|input| input.key.as_str());
    let steps = verdict.plan.steps.iter().filter_map(|step| match &step.change {
        Change::Key { new, .. } => Some(new.as_str()),
        Change::Added { .. } => Some(step.input.as_str()),
        _ => None,
    });
    let told = verdict.problems.iter().filter(|problem| problem.reason == Reason::InputMissing);
    let known: BTreeSet<&str> = keys.chain(steps).chain(told.map(|problem| problem.input.as_str())).collect();
    let inputs = verdict.signature.iter().flat_map(|signature| &signature.inputs);
    let lines = inputs.filter(|info| !known.contains(info.alias.as_str())).map(|info| {
        let then = if info.has_default {
            "the signature has a default for it"
        } else {
            "TF Serving refuses the request unless the model has a default for it"
        };
        format!("{}: not sent; {then}\n", report::ascii(&info.alias))
    });
    lines.collect()
}

/// The model of `--model`, else the one that the request names, else that of the configuration.
fn model(arguments: &ExplainArgs, config: &Config, sent: &str) -> Result<String, Failure> {
    match (arguments.model.named()?, Some(sent).filter(|name| !name.is_empty())) {
        (Some(named), _) => Ok(named.to_owned()),
        (None, Some(sent)) => Ok(sent.to_owned()),
        // A signature from a file needs no model.
        (None, None) if arguments.signature.is_some() => Ok(arguments.model.name(config).unwrap_or_default()),
        (None, None) => arguments.model.name(config),
    }
}

/// The request of a file or of `--input`.
pub(super) fn request(sample: &RequestArgs, model: &ModelArgs) -> Result<Rope, Failure> {
    if let Some(path) = &sample.request {
        return Ok(Rope::from(read(path)?));
    }
    let model = model.named()?.unwrap_or_default();
    let inputs = sample.input.join(" ");
    let request = notation::request(model, &format!("@{} {inputs}", sample.signature_name));
    request.map_err(|error| {
        Failure::usage(anyhow!(error).context("cannot parse `--input`"))
            .hint("write name:dtype[shape], such as x:float[1,128]")
    })
}

fn signatures(
    arguments: &ExplainArgs,
    config: &Config,
    model: &str,
) -> Result<(Signatures, Option<i64>), Failure> {
    let response = match &arguments.signature {
        Some(path) => GetModelMetadataResponse::decode(read(path)?.as_slice()).map_err(|error| {
            let what = format!("`{}` is not a GetModelMetadataResponse", path.display());
            Failure::usage(anyhow!(error).context(what))
        })?,
        None => fetch(config, model, &VersionChoice::Latest, arguments.model.timeout)?,
    };
    Signatures::from_metadata(&response).map_err(|error| match arguments.signature {
        Some(_) => Failure::usage(error),
        None => error.into(),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let read = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()));
    read.map_err(Failure::usage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::{File, Settings, load};

    fn lines(signature: &str, request: &str, policy: &str) -> String {
        let text = format!("models: {{m: {{signatures: {{serving_default: {{{policy}}}}}}}}}");
        let config = load(&Settings::default(), Some(File { name: "c.yaml", text: &text })).unwrap();
        let message = notation::request("m", request).unwrap();
        let view = PredictView::scan(&message).unwrap();
        let signatures = notation::signature(signature).unwrap();
        let (policy, limits) = (config.policy("m"), config.request_limits());
        let (message, signatures) = (&message, &signatures);
        let request = Request { message, view: &view, signatures, policy, limits, raised: None, text: None };
        let verdict = repair::judge(&request);
        not_sent(&verdict, &view) + &fed(&verdict, &view)
    }

    #[test]
    fn an_input_that_was_not_sent_is_said_although_the_request_is_forwarded() {
        let signature = "input_ids:int64[-1,-1] attention_mask:int64[-1,-1]";
        assert_eq!(
            lines(signature, "input_ids:int32[5]", ""),
            "attention_mask: not sent; TF Serving refuses the request unless the model has a default for it\n"
        );
        assert_eq!(lines(signature, "input_ids:int64[1,5] attention_mask:int64[1,5]", ""), "");
    }

    #[test]
    fn an_input_that_is_sent_under_another_name_or_filled_in_is_not_missing() {
        let settings = "aliases: {ids: input_ids}, inputs: {keep_prob: {default: 1.0}}";
        assert_eq!(lines("input_ids:int64[-1] keep_prob:float[]", "ids:int64[2]", settings), "");
    }

    #[test]
    fn a_missing_input_that_is_a_problem_is_said_once() {
        assert_eq!(lines("x:float[-1] y:float[-1]", "x:float[1]", "missing_inputs: refuse"), "");
    }

    #[test]
    fn an_output_that_is_an_input_is_said_with_what_avoids_it() {
        let signature = "ids=ids:0:int64[-1] -> ids=ids:0:int64[-1] logits=y:0:float[-1]";
        assert_eq!(
            lines(signature, "ids:int64[1]", ""),
            "TensorFlow will refuse it (`is both fed and fetched`): outputs that are inputs: ids; output_filter: logits; the exporter can wrap the output in tf.identity\n"
        );
    }
}
