//! Values that do not look like the training data: who sends them is named, and honest clients are
//! not.
mod answers;
mod findings;
mod learning;
mod reloading;
mod strings;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use prost::bytes::Bytes;
use serde_json::Value;
use tfs_sidecar::config::Source;

use crate::support::client::{Client, Reply, Request};
use crate::support::fake_tfs::FakeTfs;
use crate::support::fake_tfs::model::{Model, Sig};
use crate::support::requests::{FLOAT, Predict, floats};
use crate::support::sidecar::TestSidecar;
use crate::support::training::{FEATURES, INPUT, mean, normal, profile, raw, scale, scaled};

fn model(name: &str) -> Model {
    let signature = Sig::new("serving_default").input(INPUT, FLOAT, &[-1, FEATURES as i64]);
    Model::new(name).version(1, [signature.output("y", FLOAT, &[-1])])
}

fn request(model: &str, rows: &[Vec<f64>]) -> Bytes {
    let values: Vec<f32> = rows.iter().flatten().map(|value| *value as f32).collect();
    Predict::new(model).input(INPUT, floats(&[rows.len() as i64, FEATURES as i64], &values)).bytes()
}

/// A temporary folder, removed on drop.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tfs-sidecar-profiles-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Writes a file at once.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let (new, path) = (self.0.join("new"), self.0.join(name));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, &path).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// A sidecar whose model has a profile.
struct Profiled {
    fake: FakeTfs,
    sidecar: TestSidecar,
    client: Client,
    folder: Folder,
    /// Of this test alone, because all share the metrics.
    model: &'static str,
}

impl Profiled {
    /// `policy`: further keys of the model's policy, such as `profile_check: refuse`.
    async fn new(model: &'static str, policy: &str) -> Self {
        let folder = Folder::new();
        let path = folder.write("profile.yaml", &profile().to_yaml());
        Self::start(folder, model, &format!("profile: {}, {policy}", path.display())).await
    }

    async fn start(folder: Folder, name: &'static str, policy: &str) -> Self {
        Self::serve(folder, model(name), name, policy).await
    }

    async fn serve(folder: Folder, model: Model, name: &'static str, policy: &str) -> Self {
        let fake = FakeTfs::start([model]);
        let text = format!(
            "upstream: {}\nlisten: 127.0.0.1:0\nadmin_listen: 127.0.0.1:0\nrest_listen: 127.0.0.1:0\npoll_interval: 20ms\n\
             drain_delay: 0s\nreload_interval: 20ms\nworkers: 1\nclient_identity: [{{metadata: x-client}}]\n\
             models: {{{name}: {{{policy}}}}}\n",
            fake.addr()
        );
        let source = Source { path: Some(folder.write("config.yaml", &text)), ..Source::default() };
        let config = source.load().unwrap_or_else(|error| panic!("{error}"));
        let sidecar = TestSidecar::start_from(config, Some(source));
        sidecar.ready().await;
        let client = sidecar.client().await;
        Self { fake, sidecar, client, folder, model: name }
    }

    async fn send(&self, name: &str, rows: &[Vec<f64>]) -> Reply {
        self.client.call(Request::predict(&request(self.model, rows)).metadata("x-client", name)).await
    }

    /// The first signature of `/api/findings`.
    async fn findings(&self) -> Value {
        let page = self.sidecar.page("/api/findings").await;
        let mut found: Value = serde_json::from_str(&page.body).unwrap();
        found["signatures"][0].take()
    }

    async fn counted(&self, kind: &str, client: &str) -> f64 {
        let labels = [("model", self.model), ("input", INPUT), ("kind", kind), ("client", client)];
        self.sidecar.metrics().await.sum("tfs_sidecar_preprocessing_findings_total", &labels)
    }

    async fn stop(self) {
        self.sidecar.stop().await;
        drop(self.fake);
    }
}
