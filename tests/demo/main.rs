//! The demo: sends wrong requests with and without the sidecar, prints the results as a table, and
//! keeps everything running.
//!
//! With `ONCE=1` it exits after the table, with code 1 if an answer is not the expected one.
//! `--upstream ADDR` uses a running server that serves the model `mlp`; `--tf PYTHON` starts the
//! TensorFlow test server with that interpreter; `--ops` runs the demo with Prometheus instead.
#[path = "../support/mod.rs"]
mod support;

mod cases;
mod client;
mod ops;
mod preprocessing;
mod rest;
mod table;
mod upstream;

use std::io::Write as _;
use std::process::ExitCode;

use crate::cases::cases;
use crate::client::{Answer, Client};
use crate::preprocessing::Profiled;
use crate::rest::rest_cases;
use crate::support::dense;
use crate::support::sidecar::{TestSidecar, config};
use crate::table::Table;
use crate::upstream::Upstream;

const HEAD: [&str; 4] = ["request", "the sidecar", "answer", "without the sidecar"];
const WIDTHS: [usize; 4] = [28, 32, 38, 38];
const FAMILIES: [&str; 4] = [
    "tfs_sidecar_requests_total",
    "tfs_sidecar_repairs_total",
    "tfs_sidecar_rejections_total",
    "tfs_sidecar_preprocessing_findings_total",
];

fn main() -> ExitCode {
    let once = std::env::var_os("ONCE").is_some_and(|value| value == "1");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a single-threaded runtime needs only a file descriptor");
    if std::env::args().skip(1).eq(["--ops"]) {
        return runtime.block_on(ops::run(once));
    }
    let upstream = match Upstream::from_args(std::env::args().skip(1)) {
        Ok(upstream) => upstream,
        Err(usage) => {
            let _ = writeln!(std::io::stderr(), "tfs-sidecar-demo: {usage}");
            return ExitCode::from(2);
        }
    };
    runtime.block_on(run(upstream, once))
}

async fn run(upstream: Upstream, once: bool) -> ExitCode {
    let mut settings = config(upstream.addr(), [dense::MODEL.to_owned()]);
    let profile = Profiled::new(&mut settings);
    settings.rest_listen = Some(settings.listen.clone());
    let sidecar = TestSidecar::start(settings);
    sidecar.ready().await;
    show(&format!(
        "model `mlp`: Dense 128 -> 64 relu -> 10 softmax; input_tensor float [-1,128] -> probs float [-1,10]\n\
         client -> sidecar {} (JSON: {}) -> {} {}\n",
        sidecar.grpc,
        sidecar.rest,
        upstream.kind(),
        upstream.addr(),
    ));

    let mut through = Client::connect(&sidecar.grpc).await;
    let mut bypassing = Client::connect(upstream.addr()).await;
    let mut table = Table::new(HEAD, WIDTHS);
    let mut wrong = Vec::new();
    for case in cases() {
        let answer = through.predict(&case.request.message).await;
        let direct = bypassing.predict(&case.request.message).await;
        if let Err(why) = case.expected.check(&answer) {
            wrong.push(format!("{}: {why}", case.sent));
        }
        table.row([case.sent.into(), did(&answer), answer.cell(), direct.cell()]);
    }
    let signatures = bypassing.signatures().await;
    for case in rest_cases() {
        let answer = case.through(&sidecar.rest).await;
        let direct = case.without(&mut bypassing, &signatures).await;
        if let Err(why) = case.expected.check(&answer) {
            wrong.push(format!("{}: {why}", case.sent));
        }
        table.row([case.sent.into(), did(&answer), answer.cell(), direct.cell()]);
    }
    show(&table.render());
    match profile.send(&sidecar, upstream.addr()).await {
        Ok(text) => show(&text),
        Err(why) => wrong.push(why),
    }

    let metrics = sidecar.metrics().await;
    let mut lines: Vec<&str> = FAMILIES.iter().flat_map(|family| metrics.samples(family)).collect();
    lines.sort_unstable();
    show(&format!("\ncounted at http://{}/metrics:\n{}\n", sidecar.admin, lines.join("\n")));
    for why in &wrong {
        show(&format!("\nunexpected: {why}"));
    }
    if !once {
        show(&format!(
            "\nrunning until Ctrl-C: sidecar (gRPC) {}   (REST) {}   {} {}   admin http://{}/\n\
             try: curl http://{}/v1/models/mlp\n\
             try: grpcurl -plaintext -d '{{\"model_spec\":{{\"name\":\"mlp\"}}}}' {} tensorflow.serving.ModelService/GetModelStatus\n",
            sidecar.grpc,
            sidecar.rest,
            upstream.kind(),
            upstream.addr(),
            sidecar.admin,
            sidecar.rest,
            sidecar.grpc,
        ));
        // An error means that signals are not available, so there is nothing to wait for.
        let _ = tokio::signal::ctrl_c().await;
    }
    drop((through, bypassing));
    sidecar.stop().await;
    drop(upstream);
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The text of the second column.
fn did(answer: &Answer) -> String {
    match answer {
        Answer::Probabilities { repairs, .. } if repairs.is_empty() => "forwarded unchanged".into(),
        Answer::Probabilities { repairs, .. } => {
            let repairs = repairs.iter().map(|repair| {
                let mut parts = repair.splitn(3, ';').skip(1);
                format!("{} {}", parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
            });
            repairs.collect::<Vec<_>>().join("\n")
        }
        Answer::Refused { reason: Some(reason), .. } => format!("refused: {reason}"),
        Answer::Refused { .. } => "forwarded the server's refusal".into(),
    }
}

fn show(text: &str) {
    let mut out = std::io::stdout().lock();
    // A closed pipe is not an error: the reader has seen enough.
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}
