//! Reloading the configuration and the certificates, and what an operator changes for some time.
#[cfg(feature = "tls")]
mod certificates;
mod configuration;
mod overrides;

use serde_json::Value;
use tfs_sidecar::config::Source;

use crate::support::fake_tfs::{FakeTfs, model::Model};
use crate::support::folder::Folder;
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
