//! TF Serving's stand-in as a process of its own, so that it can be killed and frozen, and whose
//! models change their version.
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::support::fake_tfs::model::{Model, Sig};
use crate::support::fake_tfs::{FakeTfs, Options};
use crate::support::requests::{FLOAT, INT32, INT64};
use crate::support::training::{FEATURES, INPUT};

/// The argument that makes this program the server; the port and the version follow.
const SERVE: &str = "serve";
/// Pairs of integers: int64 in odd versions, int32 in even ones.
pub(crate) const ECHO: &str = "echo";
/// Rows of scaled features, which the sidecar compares with a profile.
pub(crate) const SCALED: &str = "scaled";
/// Nobody but the attackers asks for it.
pub(crate) const ATTACKED: &str = "attacked";

/// A process that serves the models, on the same port after each restart.
#[derive(Debug)]
pub(crate) struct Upstream {
    addr: String,
    version: i64,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// The port and the version to serve, if the arguments ask for it.
pub(crate) fn requested(arguments: &[String]) -> Option<(u16, i64)> {
    let at = arguments.iter().position(|argument| argument == SERVE)?;
    Some((arguments[at + 1].parse().unwrap(), arguments[at + 2].parse().unwrap()))
}

/// Whether a version of `echo` declares int32 instead of int64.
pub(crate) fn is_narrow(version: i64) -> bool {
    version % 2 == 0
}

/// All models in one version.
fn models(version: i64) -> [Model; 3] {
    let signature = |dtype: i32, width: i64| {
        Sig::new("serving_default").input(INPUT, dtype, &[-1, width]).output("y", dtype, &[-1, width])
    };
    let echo = signature(if is_narrow(version) { INT32 } else { INT64 }, 2);
    let scaled = signature(FLOAT, FEATURES as i64);
    [
        Model::new(ECHO).version(version, [echo]),
        Model::new(SCALED).version(version, [scaled.clone()]),
        Model::new(ATTACKED).version(version, [scaled]),
    ]
}

/// Serves until the parent closes the standard input. Each line of it is a version to change to.
pub(crate) fn serve(port: u16, version: i64) {
    // Long enough for requests to wait for a run, and so to share the next one.
    let delays = [ECHO, SCALED].map(|model| (model.to_owned(), Duration::from_millis(3))).into();
    let options = Options { port: Some(port), forgets: true, delays, ..Options::default() };
    let fake = FakeTfs::start_with(options, models(version));
    let tell = |text: &str| {
        println!("{text}");
        std::io::stdout().flush().unwrap();
    };
    tell(fake.addr());
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let next = models(line.trim().parse().unwrap());
        fake.change(|served| {
            served.clear();
            served.extend(next.map(|model| (model.name.clone(), model)));
        });
        tell(&line);
    }
}

impl Upstream {
    pub(crate) fn start() -> Self {
        let mut upstream = Self { addr: "127.0.0.1:0".to_owned(), version: 1, running: None };
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
            .args([SERVE, port, &self.version.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (commands, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut running = Running { child, commands, answers: BufReader::new(answers) };
        let line = running.answer();
        assert!(!line.is_empty(), "the server on {} does not start", self.addr);
        (self.addr, self.running) = (line, Some(running));
    }

    /// Serves another version of all models instead. It is in use when this returns.
    pub(crate) fn change_version(&mut self, version: i64) {
        self.version = version;
        let running = self.running.as_mut().unwrap();
        writeln!(running.commands, "{version}").unwrap();
        assert_eq!(running.answer(), version.to_string());
    }

    /// Ends the process as SIGKILL does: no GOAWAY, and everything in flight is lost.
    pub(crate) fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.child.kill().unwrap();
            running.child.wait().unwrap();
        }
    }

    /// Sends a signal by name: `STOP` freezes the process, `CONT` wakes it.
    pub(crate) fn signal(&self, name: &str) {
        let child = &self.running.as_ref().unwrap().child;
        let sent = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status().unwrap();
        assert!(sent.success(), "kill -{name}");
    }
}

impl Running {
    /// The next line that the process prints.
    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.kill();
    }
}
