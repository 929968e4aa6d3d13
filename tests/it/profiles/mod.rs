//! Values that do not look like the training data: who sends them is named, and honest clients are
//! not.
mod answers;
mod findings;
mod learning;
mod reloading;
mod strings;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use prost::bytes::Bytes;
use serde_json::Value;
use tfs_sidecar::config::Source;
use tfs_sidecar::profile::describe::TensorStats;
use tfs_sidecar::profile::{By, Profile, Scaler, TensorProfile};
use tfs_sidecar::tensor::DataType;

use crate::support::client::{Client, Reply, Request};
use crate::support::fake_tfs::FakeTfs;
use crate::support::fake_tfs::model::{Model, Sig};
use crate::support::random::Random;
use crate::support::requests::{FLOAT, Predict, floats};
use crate::support::sidecar::TestSidecar;

const INPUT: &str = "x";
const FEATURES: usize = 10;
const ROWS: usize = 4000;

fn model(name: &str) -> Model {
    let signature = Sig::new("serving_default").input(INPUT, FLOAT, &[-1, FEATURES as i64]);
    Model::new(name).version(1, [signature.output("y", FLOAT, &[-1])])
}

/// A number of the normal distribution, nearly: the sum of twelve uniform ones.
fn normal(random: &mut Random) -> f64 {
    (0..12).map(|_| random.below(1 << 20) as f64 / f64::from(1 << 20)).sum::<f64>() - 6.0
}

fn mean(feature: usize) -> f64 {
    100.0 * (feature + 1) as f64
}

fn scale(feature: usize) -> f64 {
    5.0 + feature as f64
}

/// A row as the model was trained on it.
fn scaled(random: &mut Random) -> Vec<f64> {
    (0..FEATURES).map(|_| normal(random)).collect()
}

/// The same before its StandardScaler.
fn raw(row: &[f64]) -> Vec<f64> {
    row.iter().enumerate().map(|(at, value)| mean(at) + scale(at) * value).collect()
}

fn describe(rows: &[Vec<f64>]) -> TensorProfile {
    let mut stats = TensorStats::new(DataType::FLOAT, By::Feature, FEATURES);
    for row in rows {
        stats.add(0, row);
    }
    stats.profile()
}

/// A profile of 4,000 rows, with what they were before the scaler.
fn profile() -> Profile {
    let mut random = Random::new(1);
    let rows: Vec<Vec<f64>> = (0..ROWS).map(|_| scaled(&mut random)).collect();
    let before: Vec<Vec<f64>> = rows.iter().map(|row| raw(row)).collect();
    let scaler = Scaler::Standard {
        mean: (0..FEATURES).map(mean).collect(),
        scale: (0..FEATURES).map(scale).collect(),
    };
    let mut input = describe(&rows);
    (input.raw, input.scaler) = (Some(describe(&before).features), Some(scaler));
    Profile { rows: ROWS as u64, inputs: BTreeMap::from([(INPUT.to_owned(), input)]), ..Profile::default() }
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
