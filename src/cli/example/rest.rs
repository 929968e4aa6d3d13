//! The example as a curl command that calls the REST listener.
use std::net::{Ipv4Addr, SocketAddr};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::inputs::samples;
use super::{comments, guesses, json, output_filter, problems, shell};
use crate::cli::admin::reachable;
use crate::config::{Config, ListenAddr, UpstreamAddr};
use crate::signature::{DEFAULT_SIGNATURE, Signature};

/// By convention.
const PORT: u16 = 8601;
/// Values of an input. An image of 224 x 224 has 150,528.
const MAX_ELEMENTS: i64 = 1 << 20;
/// What need not be escaped in a part of a path.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The command, with remarks as shell comments before it. Only remarks if no call can work.
pub(in crate::cli) fn rest(config: &Config, model: &str, signature: &Signature) -> String {
    let mut problems = problems(signature);
    let samples = samples(signature, config.policy(model).for_signature(&signature.name));
    let large = samples.iter().filter(|sample| sample.elements() > MAX_ELEMENTS);
    problems.extend(large.map(|sample| {
        format!("input {}: {} values are too many for an example", sample.alias(), sample.elements())
    }));
    if output_filter(signature).is_some() {
        problems.push(
            "an output is also an input or sparse, which TensorFlow cannot return; over gRPC, output_filter leaves it out".to_owned(),
        );
    }
    if !problems.is_empty() {
        let what = format!("the REST API cannot call signature '{}':", signature.name);
        return comments("# ", &[what]) + &comments("#   ", &problems);
    }
    let (options, base, remarks) = target(config);
    let inputs: Vec<String> =
        samples.iter().map(|sample| format!("{}: {}", json(sample.alias()), sample.nested())).collect();
    let name = if signature.name == DEFAULT_SIGNATURE {
        String::new()
    } else {
        format!("\"signature_name\": {}, ", json(&signature.name))
    };
    let model = utf8_percent_encode(model, UNRESERVED);
    format!(
        "{}{}curl{options} -d @- {base}/v1/models/{model}:predict <<'JSON'\n{{{name}\"inputs\": {{{}}}}}\nJSON\n",
        comments("# ", &remarks),
        guesses(&samples),
        inputs.join(", "),
    )
}

/// The options of curl and the beginning of the URL, and what the user has to know about them.
fn target(config: &Config) -> (String, String, Vec<String>) {
    let mut remarks = Vec::new();
    let (mut options, mut scheme) = (String::new(), "http");
    if let Some(tls) = &config.listen_tls {
        scheme = "https";
        remarks.push("the certificate must be valid for the address");
        options = format!(" --cacert {}", shell(&tls.cert.display().to_string()));
        if tls.client_ca.is_some() {
            options += " --cert client.pem --key client.key";
            remarks.push("the sidecar requires a client certificate: fill in the files of --cert and --key");
        }
    }
    let listen = config.rest_listen.clone().unwrap_or_else(|| {
        remarks.push("the sidecar must run with --rest-listen 0.0.0.0:8601");
        ListenAddr::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)))
    });
    if let ListenAddr::Tcp(address) = &listen
        && address.port() == 0
    {
        remarks.push("the sidecar picks a free port: fill in the one that it logs at start (`listening`)");
    }
    let remarks = remarks.into_iter().map(str::to_owned).collect();
    match reachable(listen) {
        UpstreamAddr::Unix(path) => {
            options = format!("{options} --unix-socket {}", shell(&path.display().to_string()));
            (options, format!("{scheme}://localhost"), remarks)
        }
        address => (options, format!("{scheme}://{address}"), remarks),
    }
}
