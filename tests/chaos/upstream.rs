//! TF Serving's stand-in as a process of its own, so that it can be killed and frozen.
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, Stdio};

use crate::support::fake_tfs::model::{Model, Sig};
use crate::support::fake_tfs::{FakeTfs, Options};
use crate::support::requests::INT64;

/// The argument that makes this program the server; the port follows.
const SERVE: &str = "serve";
pub(crate) const MODEL: &str = "echo";

/// A process that serves the model `echo`, on the same port after each restart.
#[derive(Debug)]
pub(crate) struct Upstream {
    addr: String,
    child: Option<Child>,
}

/// The port to serve on, if the arguments ask for it.
pub(crate) fn requested(arguments: &[String]) -> Option<u16> {
    let at = arguments.iter().position(|argument| argument == SERVE)?;
    Some(arguments[at + 1].parse().unwrap())
}

/// Serves until the parent closes the standard input.
pub(crate) fn serve(port: u16) {
    let signature = Sig::new("serving_default").input("x", INT64, &[-1, 2]).output("y", INT64, &[-1, 2]);
    let options = Options { port: Some(port), forgets: true, ..Options::default() };
    let fake = FakeTfs::start_with(options, [Model::new(MODEL).version(1, [signature])]);
    println!("{}", fake.addr());
    std::io::stdout().flush().unwrap();
    std::io::stdin().read_to_end(&mut Vec::new()).ok();
}

impl Upstream {
    pub(crate) fn start() -> Self {
        let mut upstream = Self { addr: "127.0.0.1:0".to_owned(), child: None };
        upstream.restart();
        upstream
    }

    pub(crate) fn addr(&self) -> &str {
        &self.addr
    }

    pub(crate) fn restart(&mut self) {
        self.kill();
        let port = self.addr.rsplit(':').next().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([SERVE, port])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the server on {} does not start", self.addr);
        line.trim().clone_into(&mut self.addr);
        self.child = Some(child);
    }

    /// Ends the process as SIGKILL does: no GOAWAY, and everything in flight is lost.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Sends a signal by name: `STOP` freezes the process, `CONT` wakes it.
    pub(crate) fn signal(&self, name: &str) {
        let child = self.child.as_ref().unwrap();
        let sent = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status().unwrap();
        assert!(sent.success(), "kill -{name}");
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.kill();
    }
}
