//! Reloading the configuration and the certificates, and what an operator changes for some time.
#[cfg(feature = "tls")]
mod certificates;
mod configuration;
mod overrides;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use tfs_sidecar::config::Source;

use crate::support::fake_tfs::{FakeTfs, model::Model};
use crate::support::sidecar::TestSidecar;
use crate::support::within;

/// A sidecar that was configured by a file, in a folder of its own.
struct Reloadable {
    /// Answers until the end of the test.
    _fake: FakeTfs,
    sidecar: TestSidecar,
    folder: Folder,
    /// What every version of the file begins with.
    common: String,
}

/// A temporary folder, removed on drop.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tfs-sidecar-reload-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Replaces a file at once.
    fn replace(&self, name: &str, content: &[u8]) {
        let new = self.path("new");
        std::fs::write(&new, content).unwrap();
        std::fs::rename(new, self.path(name)).unwrap();
    }

    /// Replaces the files of a ConfigMap as kubelet does: a new folder, to which a link is moved.
    fn replace_map(&self, version: usize, files: &[(&str, &[u8])]) {
        let folder = self.path(&format!("..version-{version}"));
        std::fs::create_dir_all(&folder).unwrap();
        for (name, content) in files {
            std::fs::write(folder.join(name), content).unwrap();
            let link = self.path(name);
            if !link.is_symlink() {
                symlink(Path::new("..data").join(name), link).unwrap();
            }
        }
        let before = std::fs::read_link(self.path("..data"));
        symlink(folder.file_name().unwrap(), self.path("..data_tmp")).unwrap();
        std::fs::rename(self.path("..data_tmp"), self.path("..data")).unwrap();
        if let Ok(before) = before {
            std::fs::remove_dir_all(self.0.join(before)).unwrap();
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

impl Reloadable {
    /// Starts with `yaml`, and waits until it is ready. Files are read again every 20 ms.
    async fn new(models: impl IntoIterator<Item = Model>, yaml: &str) -> Self {
        let reloadable = Self::unready(models, yaml);
        reloadable.sidecar.ready().await;
        reloadable
    }

    fn unready(models: impl IntoIterator<Item = Model>, yaml: &str) -> Self {
        let (fake, folder) = (FakeTfs::start(models), Folder::new());
        let interval = if yaml.contains("reload_interval") { "" } else { "reload_interval: 20ms\n" };
        let common = format!(
            "upstream: {}\nlisten: 127.0.0.1:0\nadmin_listen: 127.0.0.1:0\npoll_interval: 20ms\n\
             drain_delay: 0s\n{interval}",
            fake.addr()
        );
        let file = folder.path("config.yaml");
        folder.replace_map(0, &[("config.yaml", format!("{common}{yaml}").as_bytes())]);
        let source = Source { path: Some(file), ..Source::default() };
        let config = source.load().unwrap_or_else(|error| panic!("{error}"));
        let sidecar = TestSidecar::start_from(config, Some(source));
        Self { _fake: fake, sidecar, folder, common }
    }

    /// Replaces the configuration at once.
    fn configure(&self, yaml: &str) {
        self.folder.replace("config.yaml", format!("{}{yaml}", self.common).as_bytes());
    }

    /// Waits until the section of `/api/status` about the configuration is as wanted.
    async fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        within(what, async {
            loop {
                let status = self.status().await["config"].take();
                if wanted(&status) {
                    return status;
                }
            }
        })
        .await
    }

    /// Waits until the configuration in use contains a text.
    async fn until_configured(&self, text: &str) {
        within(&format!("`{text}` in the configuration"), async {
            while !self.sidecar.page("/api/config").await.body.contains(text) {}
        })
        .await;
    }

    async fn status(&self) -> Value {
        let page = self.sidecar.page("/api/status").await;
        serde_json::from_str(&page.body).unwrap()
    }
}
