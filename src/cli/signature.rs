//! `signature`: a model's inputs and outputs, and an example call.
use std::fmt::Write as _;

use anyhow::anyhow;

use super::args::{SignatureArgs, UpstreamArgs};
use super::{Failure, render};
use crate::config::{Config, UpstreamAddr};
use crate::proto::tensorflow::serving::GetModelMetadataResponse;
use crate::signature::{DEFAULT_SIGNATURE, Signature, Signatures, TensorInfo};
use crate::tensor::ValueList;

pub(super) fn signature(arguments: &SignatureArgs) -> Result<(), Failure> {
    let model = arguments.server.model()?;
    let (signatures, version) = Signatures::from_metadata(&fetch(&arguments.server, &model)?)?;
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
        let example = signatures.get(DEFAULT_SIGNATURE).or_else(|| signatures.servable().next());
        let example = example.ok_or_else(|| anyhow!("the model has no signature that can be called"))?;
        write!(text, "\n{}\n", grpcurl(&address(&arguments.server)?, &model, example))?;
    }
    render::data(&text);
    Ok(())
}

/// Fetches the metadata of a model from the given server.
pub(super) fn fetch(server: &UpstreamArgs, model: &str) -> Result<GetModelMetadataResponse, Failure> {
    let config = Config { upstream: address(server)?, ..Config::default() };
    crate::models::fetch::metadata(&config, model, server.timeout).map_err(|fault| {
        Failure::from(
            anyhow!(fault)
                .context(format!("cannot read the signatures of model '{model}' from `{}`", server.upstream)),
        )
        .hint("check that TensorFlow Serving runs there and serves a model of this name")
    })
}

fn address(server: &UpstreamArgs) -> Result<UpstreamAddr, Failure> {
    server.upstream.parse().map_err(|error| Failure::usage(anyhow!("`--upstream`: {error}")))
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

/// A call that works as printed: one row, unknown sizes as 1, all values 0 (a single value fills
/// the tensor).
fn grpcurl(upstream: &UpstreamAddr, model: &str, signature: &Signature) -> String {
    let inputs: Vec<String> =
        signature.inputs.iter().map(|info| format!("{}: {}", json(&info.alias), example(info))).collect();
    let body = format!(
        "{{\"model_spec\": {{\"name\": {}, \"signature_name\": {}}}, \"inputs\": {{{}}}}}",
        json(model),
        json(&signature.name),
        inputs.join(", ")
    );
    let target = match upstream {
        UpstreamAddr::Tcp { host, port } => format!("-plaintext -d @ {host}:{port}"),
        UpstreamAddr::Unix(path) => format!("-plaintext -unix -d @ {}", path.display()),
        UpstreamAddr::Tls { host, port } => format!("-d @ {host}:{port}"),
    };
    format!("grpcurl {target} tensorflow.serving.PredictionService/Predict <<'JSON'\n{body}\nJSON")
}

fn example(info: &TensorInfo) -> String {
    let dims: Vec<String> = info
        .shape
        .dims()
        .unwrap_or_default()
        .iter()
        .map(|size| format!("{{\"size\": {}}}", if *size < 0 { 1 } else { *size }))
        .collect();
    let list = info.dtype.info().map_or(ValueList::Int, |dtype| dtype.list);
    let value = match list {
        // "example" in base64, as JSON encodes bytes.
        ValueList::String => "[\"ZXhhbXBsZQ==\"]",
        ValueList::Bool => "[false]",
        ValueList::Float8 => "\"AA==\"",
        ValueList::SComplex | ValueList::DComplex => "[0, 0]",
        _ => "[0]",
    };
    format!(
        "{{\"dtype\": \"{}\", \"tensor_shape\": {{\"dim\": [{}]}}, \"{}\": {value}}}",
        info.dtype.enum_name(),
        dims.join(", "),
        list.name()
    )
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repair::notation;

    #[test]
    fn the_example_is_a_call_with_one_row() {
        let signatures = notation::signature("x:float[-1,128] k:int32[] s:string[-1]").unwrap();
        let upstream = UpstreamAddr::Tcp { host: "127.0.0.1".into(), port: 8500 };
        insta::assert_snapshot!(grpcurl(&upstream, "m", signatures.get(DEFAULT_SIGNATURE).unwrap()), @r#"
        grpcurl -plaintext -d @ 127.0.0.1:8500 tensorflow.serving.PredictionService/Predict <<'JSON'
        {"model_spec": {"name": "m", "signature_name": "serving_default"}, "inputs": {"k": {"dtype": "DT_INT32", "tensor_shape": {"dim": []}, "int_val": [0]}, "s": {"dtype": "DT_STRING", "tensor_shape": {"dim": [{"size": 1}]}, "string_val": ["ZXhhbXBsZQ=="]}, "x": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": 1}, {"size": 128}]}, "float_val": [0]}}}
        JSON
        "#);
    }
}
