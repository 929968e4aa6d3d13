//! The example of `signature`: a grpcurl or curl command that calls the sidecar, and what in it is
//! a guess.
//!
//! A signature does not say everything that a model requires: which features a `tf.Example` has, or
//! how large an image is. Where names and shapes suggest an answer, the example uses it and says
//! so.
mod inputs;
mod rest;

use super::admin::reachable;
use crate::config::{Config, ListenAddr, UpstreamAddr};
use crate::repair::report::one_line;
use crate::signature::{Signature, TensorInfo};
use inputs::{Sample, samples, unsendable};
pub(super) use rest::rest;

/// The command, with remarks as shell comments before it. Only remarks if no call can work.
pub(super) fn example(config: &Config, model: &str, signature: &Signature) -> String {
    let problems = problems(signature);
    if !problems.is_empty() {
        let what = format!("Predict cannot call signature '{}':", signature.name);
        return comments("# ", &[what]) + &comments("#   ", &problems);
    }
    let policy = config.policy(model).for_signature(&signature.name);
    let samples = samples(signature, policy);
    let (flags, target, mut remarks) = target(config);
    let filter = output_filter(signature);
    let left_out: Vec<&str> = signature
        .outputs
        .iter()
        .filter(|output| filter.is_some() && !is_returned(signature, output))
        .map(|output| output.alias.as_str())
        .collect();
    if !left_out.is_empty() {
        remarks.push(format!(
            "output_filter leaves out {}: Predict cannot return an output that is also an input, nor a sparse one",
            left_out.join(", ")
        ));
    }
    let text = comments("# ", &remarks) + &guesses(&samples);
    let body = body(model, &signature.name, &samples, filter.as_deref());
    text + &format!(
        "grpcurl {flags} -d @ {target} tensorflow.serving.PredictionService/Predict <<'JSON'\n{body}\nJSON\n"
    )
}

/// What in the values is a guess.
fn guesses(samples: &[Sample<'_>]) -> String {
    let guesses: Vec<String> = samples.iter().filter_map(Sample::guess).collect();
    if guesses.is_empty() {
        return String::new();
    }
    "# The signature does not say everything. Replace what does not fit:\n".to_owned()
        + &comments("#   ", &guesses)
}

/// Shell comments. Names in them come from the model, and must not end the comment.
fn comments(start: &str, remarks: &[String]) -> String {
    remarks.iter().flat_map(|remark| [start.to_owned(), one_line(remark), "\n".to_owned()]).collect()
}

/// Why no Predict call of the signature can work.
fn problems(signature: &Signature) -> Vec<String> {
    let inputs = signature
        .inputs
        .iter()
        .filter_map(|info| unsendable(info).map(|why| format!("input {}: {why}", info.alias)));
    let mut problems: Vec<String> = inputs.collect();
    let returned = signature.outputs.iter().any(|output| is_returned(signature, output));
    if !returned && !signature.outputs.is_empty() {
        problems.push(
            "every output is also an input or sparse, and Predict cannot return those; export them with tf.identity or as their components".to_owned(),
        );
    }
    problems
}

/// TensorFlow does not return an output that it was fed, and Predict cannot return a sparse one.
fn is_returned(signature: &Signature, output: &TensorInfo) -> bool {
    !output.tensor_name.is_empty() && !signature.is_fed(output)
}

/// The outputs to ask for, if Predict cannot return all.
fn output_filter(signature: &Signature) -> Option<Vec<&str>> {
    let returned = signature.outputs.iter().filter(|output| is_returned(signature, output));
    let names: Vec<&str> = returned.map(|output| output.alias.as_str()).collect();
    (names.len() < signature.outputs.len()).then_some(names)
}

fn body(model: &str, signature: &str, samples: &[Sample<'_>], filter: Option<&[&str]>) -> String {
    let inputs: Vec<String> =
        samples.iter().map(|sample| format!("{}: {}", json(sample.alias()), sample.tensor())).collect();
    let filter = filter.map_or_else(String::new, |names| {
        let names: Vec<String> = names.iter().map(|name| json(name)).collect();
        format!(", \"output_filter\": [{}]", names.join(", "))
    });
    format!(
        "{{\"model_spec\": {{\"name\": {}, \"signature_name\": {}}}, \"inputs\": {{{}}}{filter}}}",
        json(model),
        json(signature),
        inputs.join(", ")
    )
}

/// The flags and the address of grpcurl for the sidecar, and what the user has to know about them.
fn target(config: &Config) -> (String, String, Vec<String>) {
    let mut remarks = Vec::new();
    let mut flags = match &config.listen_tls {
        None => "-plaintext".to_owned(),
        Some(tls) => {
            remarks.push("the certificate must be valid for the address; otherwise add -authority NAME");
            // A certificate that is trusted itself needs no authority.
            format!("-cacert {}", shell(&tls.cert.display().to_string()))
        }
    };
    if config.listen_tls.as_ref().is_some_and(|tls| tls.client_ca.is_some()) {
        flags += " -cert client.pem -key client.key";
        remarks.push("the sidecar requires a client certificate: fill in the files of -cert and -key");
    }
    if let ListenAddr::Tcp(address) = &config.listen
        && address.port() == 0
    {
        remarks.push("the sidecar picks a free port: fill in the one that it logs at start (`listening`)");
    }
    let remarks = remarks.into_iter().map(str::to_owned).collect();
    match reachable(config.listen.clone()) {
        UpstreamAddr::Unix(path) => {
            flags += " -unix";
            (flags, shell(&path.display().to_string()), remarks)
        }
        address => (flags, address.to_string(), remarks),
    }
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A word of a shell command, in quotes if it needs them.
fn shell(word: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || "/._-:@%+=".contains(char);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests;
