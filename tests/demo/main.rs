//! The demo: the founder's wrong requests, sent through the sidecar and past it, as a table; then
//! everything is left running.
//!
//! `ONCE=1` ends it after the table, with exit code 1 when an answer is not as expected.
//! `--upstream ADDR` asks a running server that has the model `mlp`; `--tf PYTHON` starts the
//! TensorFlow test server with that interpreter.
#[path = "../support/mod.rs"]
mod support;

mod ask;
mod cases;
mod table;
mod upstream;

use std::io::Write as _;
use std::process::ExitCode;

use crate::ask::{Answer, Asker};
use crate::cases::cases;
use crate::support::dense;
use crate::support::sidecar::{TestSidecar, config};
use crate::table::Table;
use crate::upstream::Upstream;

const HEAD: [&str; 4] = ["sent", "the sidecar", "answer", "without the sidecar"];
const WIDTHS: [usize; 4] = [28, 32, 38, 38];
const FAMILIES: [&str; 3] =
    ["tfs_sidecar_requests_total", "tfs_sidecar_repairs_total", "tfs_sidecar_rejections_total"];

fn main() -> ExitCode {
    let upstream = match Upstream::from_args(std::env::args().skip(1)) {
        Ok(upstream) => upstream,
        Err(usage) => {
            let _ = writeln!(std::io::stderr(), "tfs-sidecar-demo: {usage}");
            return ExitCode::from(2);
        }
    };
    let once = std::env::var_os("ONCE").is_some_and(|value| value == "1");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime of one thread needs no more than a file descriptor");
    runtime.block_on(run(upstream, once))
}

async fn run(upstream: Upstream, once: bool) -> ExitCode {
    let sidecar = TestSidecar::start(config(upstream.addr(), [dense::MODEL.to_owned()]));
    sidecar.ready().await;
    show(&format!(
        "model `mlp`: Dense 128 -> 64 relu -> 10 softmax; input_tensor float [-1,128] -> probs float [-1,10]\n\
         client -> sidecar {} -> {} {}\n",
        sidecar.grpc,
        upstream.kind(),
        upstream.addr(),
    ));

    let mut through = Asker::connect(&sidecar.grpc).await;
    let mut past = Asker::connect(upstream.addr()).await;
    let mut table = Table::new(HEAD, WIDTHS);
    let mut wrong = Vec::new();
    for case in cases() {
        let answer = through.ask(&case).await;
        let direct = past.ask(&case).await;
        if let Err(why) = case.check(&answer) {
            wrong.push(format!("{}: {why}", case.sent));
        }
        table.row([case.sent.into(), did(&answer), answer.cell(), direct.cell()]);
    }
    show(&table.render());

    let metrics = sidecar.metrics().await;
    let mut lines: Vec<&str> = FAMILIES.iter().flat_map(|family| metrics.samples(family)).collect();
    lines.sort_unstable();
    show(&format!("\nhttp://{}/metrics counted:\n{}\n", sidecar.admin, lines.join("\n")));
    for why in &wrong {
        show(&format!("\nnot as expected: {why}"));
    }
    if !once {
        show(&format!(
            "\nrunning until Ctrl-C: sidecar (gRPC) {}   {} {}   admin http://{}/\n\
             try: grpcurl -plaintext -d '{{\"model_spec\":{{\"name\":\"mlp\"}}}}' {} tensorflow.serving.ModelService/GetModelStatus\n",
            sidecar.grpc,
            upstream.kind(),
            upstream.addr(),
            sidecar.admin,
            sidecar.grpc,
        ));
        // An error means that signals cannot be had here: then there is nothing to wait for.
        let _ = tokio::signal::ctrl_c().await;
    }
    drop((through, past));
    sidecar.stop().await;
    drop(upstream);
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What the second column says.
fn did(answer: &Answer) -> String {
    match answer {
        Answer::Probabilities { repairs, .. } if repairs.is_empty() => "forwarded as it came".into(),
        Answer::Probabilities { repairs, .. } => {
            let repairs = repairs.iter().map(|repair| {
                let mut parts = repair.splitn(3, ';').skip(1);
                format!("{} {}", parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
            });
            repairs.collect::<Vec<_>>().join("\n")
        }
        Answer::Refused { reason: Some(reason), .. } => format!("refused: {reason}"),
        Answer::Refused { .. } => "passed the server's refusal on".into(),
    }
}

fn show(text: &str) {
    let mut out = std::io::stdout().lock();
    // A reader that has closed the pipe has seen enough.
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}
