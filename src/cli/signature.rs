//! `signature`: a model's inputs and outputs, and an example call.
use std::fmt::Write as _;

use anyhow::anyhow;
use clap::ArgMatches;

use super::args::SignatureArgs;
use super::settings::load_config;
use super::{Failure, example, render};
use crate::config::Config;
use crate::proto::tensorflow::serving::GetModelMetadataResponse;
use crate::signature::{DEFAULT_SIGNATURE, Signature, Signatures, TensorInfo};
use crate::wire::VersionChoice;

pub(super) fn signature(arguments: &SignatureArgs, matches: &ArgMatches) -> Result<(), Failure> {
    let config = load_config(&arguments.model.server, matches)?;
    let model = arguments.model.name(&config)?;
    let metadata = fetch(&config, &model, &VersionChoice::Latest, arguments.model.timeout)?;
    let (signatures, version) = Signatures::from_metadata(&metadata)?;
    let version = version.map_or_else(String::new, |version| format!(" version {version}"));
    let mut text = format!("model '{model}'{version}\n");
    for signature in signatures.servable() {
        write!(text, "\nsignature '{}'", signature.name)?;
        let method = if signature.method_name.is_empty() {
            String::new()
        } else {
            format!(" ({})", signature.method_name)
        };
        writeln!(text, "{method}")?;
        let rows: Vec<[String; 5]> = signature
            .inputs
            .iter()
            .map(|info| row("input", info))
            .chain(signature.outputs.iter().map(|info| row("output", info)))
            .collect();
        text.push_str(&render::table(["", "name", "dtype", "shape", "tensor"], &rows));
    }
    if arguments.example {
        let chosen = choose(&signatures, arguments.signature_name.as_deref())?;
        let call = if arguments.rest {
            example::rest(&config, &model, chosen)
        } else {
            example::example(&config, &model, chosen)
        };
        write!(text, "\n{call}")?;
    }
    render::data(&text);
    Ok(())
}

/// Fetches the metadata of a version of a model from TF Serving.
pub(super) fn fetch(
    config: &Config,
    model: &str,
    choice: &VersionChoice,
    timeout: std::time::Duration,
) -> Result<GetModelMetadataResponse, Failure> {
    crate::models::fetch::metadata(config, model, choice, timeout).map_err(|fault| {
        let what = format!("cannot read the signatures of model '{model}' from `{}`", config.upstream);
        Failure::from(anyhow!(fault).context(what))
            .hint("check that TensorFlow Serving runs there and serves a model of this name")
    })
}

/// The signature of the example.
fn choose<'a>(signatures: &'a Signatures, name: Option<&str>) -> Result<&'a Signature, Failure> {
    if let Some(name) = name.filter(|name| !name.is_empty()) {
        let found = signatures.get(name).map(|signature| &**signature);
        return found.ok_or_else(|| Failure::usage(anyhow!("the model has no signature `{name}`")));
    }
    let found = signatures.get(DEFAULT_SIGNATURE).or_else(|| signatures.servable().next());
    Ok(found.ok_or_else(|| anyhow!("the model has no signature that can be called"))?)
}

fn row(kind: &str, info: &TensorInfo) -> [String; 5] {
    let default = if info.has_default { " (has a default)" } else { "" };
    let tensor = if info.tensor_name.is_empty() { "(sparse or composite)" } else { &info.tensor_name };
    [
        kind.to_owned(),
        info.alias.clone(),
        info.dtype.to_string(),
        info.shape.to_string(),
        format!("{tensor}{default}"),
    ]
}
