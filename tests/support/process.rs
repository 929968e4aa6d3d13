//! The sidecar as a process of its own, so that its memory can be read.
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use super::{admin, within};

/// Is given each line of the log; whether the line is not to be kept.
pub type OnLine = Box<dyn FnMut(&str) -> bool + Send>;

/// A running sidecar; killed on drop.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// The file of its configuration, and what every version of it begins with.
    file: PathBuf,
    common: String,
    pub grpc: String,
    pub admin: String,
    /// The REST listener, if the configuration has one.
    pub rest: Option<String>,
    log: Arc<Mutex<String>>,
    /// Whether the log is not read any more.
    stuck: Arc<(Mutex<bool>, Condvar)>,
    reader: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts the program named by `TFS_SIDECAR_BIN`, or the one that Cargo built for the tests.
    /// `yaml` is added to a configuration for tests.
    pub fn start(upstream: &str, yaml: &str) -> Self {
        Self::launch(upstream, yaml, None, &[], None)
    }

    /// With a reader of its log.
    pub fn with_log(upstream: &str, yaml: &str, on_line: OnLine) -> Self {
        Self::launch(upstream, yaml, None, &[], Some(on_line))
    }

    /// With these environment variables, and no others.
    pub fn with_environment(upstream: &str, yaml: &str, environment: &[(&str, &str)]) -> Self {
        Self::launch(upstream, yaml, None, environment, None)
    }

    /// With at most so many open files, or as many as the tests themselves may have.
    pub fn with_descriptors(upstream: &str, yaml: &str, descriptors: Option<u32>) -> Self {
        Self::launch(upstream, yaml, descriptors, &[], None)
    }

    fn launch(
        upstream: &str,
        yaml: &str,
        descriptors: Option<u32>,
        environment: &[(&str, &str)],
        mut on_line: Option<OnLine>,
    ) -> Self {
        let file = std::env::temp_dir().join(format!("tfs-sidecar-process-{}.yaml", unique()));
        let mut config = format!("upstream: {upstream}\nlisten: 127.0.0.1:0\nadmin_listen: 127.0.0.1:0\n");
        if !yaml.contains("workers:") {
            // All clients of a test share one shard.
            config.push_str("workers: 1\n");
        }
        std::fs::write(&file, format!("{config}{yaml}\n")).unwrap();
        let program = std::env::var_os("TFS_SIDECAR_BIN")
            .or_else(|| option_env!("CARGO_BIN_EXE_tfs-sidecar").map(Into::into))
            .expect("TFS_SIDECAR_BIN names the program");
        let limit = descriptors.map_or_else(String::new, |limit| format!("ulimit -n {limit} && "));
        let mut child = Command::new("/bin/sh")
            .env_clear()
            .envs(environment.iter().copied())
            .args(["-c", &format!("{limit}exec \"$0\" \"$@\"")])
            .arg(program)
            .args(["run", "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let (mut grpc, mut admin, mut rest) = (None, None, None);
        let has_rest = yaml.contains("rest_listen:");
        while grpc.is_none() || admin.is_none() || rest.is_none() && has_rest {
            let line =
                lines.next().unwrap_or_else(|| panic!("the sidecar ended: {}", log.lock().unwrap())).unwrap();
            // `addr=127.0.0.1:1`, or `"addr":"127.0.0.1:1"`.
            let addr = line.split("addr").nth(1).map(|rest| rest.trim_start_matches(['=', ':', '"']));
            let addr = addr.and_then(|rest| rest.split([' ', '"']).next());
            if line.contains("grpc") && line.contains("listening") {
                grpc = addr.map(str::to_owned);
            } else if line.contains("admin") && line.contains("listening") {
                admin = addr.map(str::to_owned);
            } else if line.contains("rest") && line.contains("listening") {
                rest = addr.map(str::to_owned);
            }
            writeln!(log.lock().unwrap(), "{line}").unwrap();
        }
        let kept = Arc::clone(&log);
        let stuck = Arc::new((Mutex::new(false), Condvar::new()));
        let while_stuck = Arc::clone(&stuck);
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let (stuck, changed) = &*while_stuck;
                drop(changed.wait_while(stuck.lock().unwrap(), |stuck| *stuck).unwrap());
                let taken = on_line.as_mut().is_some_and(|on_line| on_line(&line));
                let mut kept = kept.lock().unwrap();
                if !taken && kept.len() < 1 << 20 {
                    writeln!(kept, "{line}").unwrap();
                }
            }
        });
        Self {
            child,
            file,
            common: config,
            grpc: grpc.unwrap(),
            admin: admin.unwrap(),
            rest,
            log,
            stuck,
            reader: Some(reader),
        }
    }

    /// Nobody reads the log any more, so that its pipe fills up.
    pub fn stop_reading_the_log(&self) {
        self.set_stuck(true);
    }

    fn set_stuck(&self, stuck: bool) {
        *self.stuck.0.lock().unwrap() = stuck;
        self.stuck.1.notify_all();
    }

    /// Waits until `/readyz` answers 200.
    pub async fn ready(&self) {
        within("readiness", async { while admin::get(&self.admin, "/readyz").await.status != 200 {} }).await;
    }

    /// Replaces what was added to its configuration.
    pub fn configure(&self, yaml: &str) {
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{}{yaml}\n", self.common)).unwrap();
        std::fs::rename(new, &self.file).unwrap();
    }

    /// Sends a signal such as `HUP`.
    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("/bin/sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Waits until the log contains a text.
    pub async fn logged(&self, text: &str) {
        within(&format!("`{text}` in the log"), async {
            while !self.log().contains(text) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Waits for its end; its exit code, if it was not ended by a signal.
    pub async fn exit_code(mut self) -> Option<i32> {
        within("the end of the process", async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status.code();
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }

    /// What the sidecar has logged so far, at most 1 MiB.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Resident memory now, in MiB.
    pub fn memory(&self) -> f64 {
        self.status("VmRSS:")
    }

    /// The highest resident memory so far, in MiB.
    pub fn peak_memory(&self) -> f64 {
        self.status("VmHWM:")
    }

    /// Open file descriptors now.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    fn status(&self, key: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        std::fs::remove_file(&self.file).ok();
        self.set_stuck(false);
        if let Some(reader) = self.reader.take() {
            reader.join().ok();
        }
    }
}

fn unique() -> String {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
}
