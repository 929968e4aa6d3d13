//! The program as a process of its own, beside a fake server.
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::admin;
use crate::support::fake_tfs::FakeTfs;
use crate::support::within;

/// The running program, which ends when dropped.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    pub(crate) grpc: String,
    pub(crate) admin: String,
}

impl Program {
    /// Before a fake server, ready for this model.
    pub(crate) async fn start(fake: &FakeTfs, model: &str) -> Self {
        Self::with_descriptors(fake, model, 1024).await
    }

    /// With at most so many open files.
    pub(crate) async fn with_descriptors(fake: &FakeTfs, model: &str, descriptors: u32) -> Self {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"")]);
        command.arg(env!("CARGO_BIN_EXE_tfs-sidecar"));
        command.args(["run", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        command.args(["--workers", "1", "--upstream", fake.addr(), "--model", model]);
        command.args(["--log-format", "json"]).env_clear().stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut address = |server: &str| {
            lines.by_ref().find_map(|line| {
                let line: Value = serde_json::from_str(&line).unwrap();
                (line["server"] == server).then(|| line["addr"].as_str().unwrap().to_owned())
            })
        };
        let (grpc, admin) = (address("grpc").unwrap(), address("admin").unwrap());
        std::thread::spawn(move || lines.for_each(drop));
        within("readiness", async { while admin::get(&admin, "/readyz").await.status != 200 {} }).await;
        Self { child, grpc, admin }
    }

    /// Resident memory in MiB.
    pub(crate) fn memory(&self) -> f64 {
        self.status("VmRSS:")
    }

    /// The most that it ever was.
    pub(crate) fn highest_memory(&self) -> f64 {
        self.status("VmHWM:")
    }

    fn status(&self, key: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
