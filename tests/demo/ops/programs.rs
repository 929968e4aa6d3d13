//! Prometheus and Alertmanager as child processes in a temporary folder.
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A child that is killed on drop. It has nothing to lose.
pub(super) struct Program(Child);

impl Program {
    /// Starts the first of `names` that is installed, in `folder`.
    pub(super) fn start(names: &[&str], args: &[String], folder: &Path) -> Result<Self, String> {
        for name in names {
            let log = std::fs::File::create(folder.join(format!("{name}.log")))
                .map_err(|error| error.to_string())?;
            let mut command = Command::new(name);
            command.args(args).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
            match command.spawn() {
                Ok(child) => return Ok(Self(child)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(format!("`{name}` does not start: {error}")),
            }
        }
        let names = names.join("` or `");
        Err(format!(
            "`{names}` is not on the PATH (on Debian and Ubuntu: apt-get install prometheus prometheus-alertmanager)"
        ))
    }

    /// Whether it has ended.
    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A temporary folder, removed on drop.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("tfs-sidecar-demo-{}", std::process::id()));
        std::fs::create_dir(&path).map_err(|error| format!("`{}`: {error}", path.display()))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file in it.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), String> {
        std::fs::write(self.0.join(name), text).map_err(|error| format!("`{name}`: {error}"))
    }

    /// What a program has logged.
    pub(super) fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(format!("{name}.log"))).unwrap_or_default()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// An address of this machine whose port was free a moment ago.
pub(super) fn free_address() -> Result<String, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    listener.local_addr().map(|address| address.to_string()).map_err(|error| error.to_string())
}
