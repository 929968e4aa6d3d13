//! The server behind the sidecar: the stand-in in this process, a running server, or the TensorFlow
//! test server.
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::dense;
use crate::support::fake_tfs::FakeTfs;

const USAGE: &str =
    "unexpected arguments (usage: tfs-sidecar-demo [--upstream HOST:PORT | --tf PYTHON | --ops])";

pub(crate) enum Upstream {
    StandIn(FakeTfs),
    Running(String),
    TensorFlow { server: Child, addr: String },
}

impl Upstream {
    pub(crate) fn from_args(args: impl Iterator<Item = String>) -> Result<Self, String> {
        let args: Vec<String> = args.collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        match args[..] {
            [] => Ok(Self::StandIn(FakeTfs::start([dense::model()]))),
            ["--upstream", addr] => Ok(Self::Running(addr.to_owned())),
            ["--tf", python] => tensorflow(python),
            _ => Err(USAGE.to_owned()),
        }
    }

    pub(crate) fn addr(&self) -> &str {
        match self {
            Self::StandIn(fake) => fake.addr(),
            Self::Running(addr) | Self::TensorFlow { addr, .. } => addr,
        }
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::StandIn(_) => "stand-in for TensorFlow Serving",
            Self::Running(_) => "server",
            Self::TensorFlow { .. } => "TensorFlow test server",
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if let Self::TensorFlow { server, .. } = self {
            // Killing it loses nothing.
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// Starts the test server and waits until it prints its address.
fn tensorflow(python: &str) -> Result<Upstream, String> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let models = tests.join("fixtures").join("models").join("mlp");
    let mut server = Command::new(python)
        .arg(tests.join("tfserving").join("server.py"))
        .arg("--model")
        .arg(format!("mlp={}", models.display()))
        .args(["--port", "0"])
        // The demo prints all refusals itself.
        .env("TF_CPP_MIN_LOG_LEVEL", "3")
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("failed to start `{python}`: {error}"))?;
    let lines = BufReader::new(server.stdout.take().expect("stdout is piped")).lines();
    let addr =
        lines.map_while(Result::ok).find_map(|line| line.strip_prefix("listening ").map(str::to_owned));
    match addr {
        Some(addr) => Ok(Upstream::TensorFlow { server, addr }),
        None => {
            let _ = server.kill();
            let _ = server.wait();
            Err("the TensorFlow test server exited before it was listening".to_owned())
        }
    }
}
