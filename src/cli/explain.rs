//! `explain`: what would be repaired or refused in a request, and why, by the same decision as for
//! real requests.
use anyhow::{Context as _, anyhow};
use prost::Message as _;

use super::args::ExplainArgs;
use super::signature::fetch;
use super::{Exit, Failure, load_file, render};
use crate::config::load::{Setting, Settings};
use crate::explain::fed_outputs;
use crate::proto::tensorflow::serving::GetModelMetadataResponse;
use crate::repair::{self, Action, Request, notation, report};
use crate::signature::Signatures;
use crate::wire::{PredictView, Rope};

pub(super) fn explain(arguments: &ExplainArgs) -> Result<Exit, Failure> {
    let mode = arguments.mode.clone().map(|value| Setting { value, source: "--mode".into() });
    let config = load_file(&Settings { mode, ..Settings::default() }, arguments.config.as_deref())?;
    let message = request(arguments)?;
    let view = PredictView::scan(&message).context("cannot parse the request")?;
    let (signatures, version) = signatures(arguments, &view)?;
    let model = arguments.server.model().unwrap_or_else(|_| view.model_spec.name.clone());
    let verdict = repair::judge(&Request {
        message: &message,
        view: &view,
        signatures: &signatures,
        policy: config.policy(&model),
        limits: config.request_limits(),
        raised: None,
    });
    let version = version.map_or_else(String::new, |version| format!(" version {version}"));
    let mut text = format!("model '{}'{version}\n", report::ascii(&model));
    text.push_str(&report::explain(&verdict, &view));
    let fed = verdict.signature.as_ref().and_then(|signature| fed_outputs(signature, &view.output_filter));
    if let Some(fed) = fed {
        text += "TensorFlow will refuse it (`is both fed and fetched`): ";
        text += &fed;
        text.push('\n');
    }
    render::data(&text);
    Ok(if verdict.action == Action::Refuse { Exit::Failure } else { Exit::Success })
}

fn request(arguments: &ExplainArgs) -> Result<Rope, Failure> {
    if let Some(path) = &arguments.request {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        return Ok(Rope::from(bytes));
    }
    let model = arguments.server.model().unwrap_or_default();
    let inputs = arguments.input.join(" ");
    let request = notation::request(&model, &format!("@{} {inputs}", arguments.signature_name));
    request.map_err(|error| {
        Failure::usage(anyhow!(error).context("cannot parse `--input`"))
            .hint("write name:dtype[shape], such as x:float[1,128]")
    })
}

fn signatures(arguments: &ExplainArgs, view: &PredictView) -> Result<(Signatures, Option<i64>), Failure> {
    let response = match &arguments.signature {
        Some(path) => {
            let bytes = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
            GetModelMetadataResponse::decode(bytes.as_slice())
                .with_context(|| format!("`{}` is not a GetModelMetadataResponse", path.display()))?
        }
        None => {
            let named = arguments.server.model().or_else(|failure| match view.model_spec.name.as_str() {
                "" => Err(failure),
                name => Ok(name.to_owned()),
            });
            fetch(&arguments.server, &named?)?
        }
    };
    Ok(Signatures::from_metadata(&response)?)
}
