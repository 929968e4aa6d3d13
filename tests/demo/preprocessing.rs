//! Two clients of the model at once, one of which does not scale its values: the sidecar names it.
use std::path::PathBuf;

use prost::bytes::Bytes;
use tfs_sidecar::config::Config;
use tfs_sidecar::profile::describe::TensorStats;
use tfs_sidecar::profile::{By, Profile, Scaler, TensorProfile};
use tfs_sidecar::repair::policy::ProfileFile;
use tfs_sidecar::tensor::DataType;

use crate::support::client::Request;
use crate::support::dense::{INPUT, MODEL};
use crate::support::random::Random;
use crate::support::requests::{Predict, floats};
use crate::support::sidecar::TestSidecar;

const FEATURES: usize = 128;
const ROWS: usize = 1000;
/// Requests of each client. One that makes a known mistake is named within 64.
const REQUESTS: usize = 80;
const WRONG: &str = "fraud-batch/2.3";
const RIGHT: &str = "ranker/1.8";

/// The profile of the model in a temporary file, which is removed on drop.
pub(crate) struct Profiled(PathBuf);

impl Profiled {
    /// Makes a profile of random training data, and names it in the policy of the model.
    pub(crate) fn new(config: &mut Config) -> Self {
        let path = std::env::temp_dir().join(format!("tfs-sidecar-demo-{}.yaml", std::process::id()));
        std::fs::write(&path, profile().to_yaml()).expect("the temporary folder can be written to");
        let policy = config.models.get_mut(MODEL).expect("the model is declared");
        policy.defaults.profile = Some(ProfileFile::at(path.clone()));
        Self(path)
    }

    /// Sends the requests of both clients, in turns. Returns what the sidecar says.
    ///
    /// # Errors
    /// The wrong client is not named, or the right one is.
    pub(crate) async fn send(self, sidecar: &TestSidecar) -> Result<String, String> {
        let client = sidecar.client().await;
        let mut random = Random::new(2);
        let mut named = None;
        for number in 1..=REQUESTS {
            for name in [WRONG, RIGHT] {
                let row = scaled(&mut random);
                let row = if name == WRONG { raw(&row) } else { row };
                let request = Request::predict(&request(&row)).metadata("user-agent", name);
                let reply = client.call(request).await;
                let text =
                    reply.initial("tfs-sidecar-warning").into_iter().find(|text| text.contains("SHIFTED"));
                match text {
                    Some(text) if name == RIGHT => return Err(format!("{name} is named: {text}")),
                    Some(_) if named.is_none() => named = Some(number),
                    Some(_) | None => {}
                }
            }
        }
        let number = named.ok_or_else(|| format!("{WRONG} is not named"))?;
        let page = sidecar.page("/api/findings").await.body;
        let found: serde_json::Value = serde_json::from_str(&page).map_err(|error| error.to_string())?;
        let all = found["signatures"][0]["findings"].as_array().cloned().unwrap_or_default();
        let text = all.iter().find(|one| one["kind"] == "SHIFTED").and_then(|one| one["text"].as_str());
        Ok(format!(
            "\nthe same model with a profile of its training data; two clients send {REQUESTS} requests each:\n\
             {RIGHT} scales them: no finding\n{WRONG} does not, and is named after {number} requests:\n  {}\n",
            text.unwrap_or_default(),
        ))
    }
}

impl Drop for Profiled {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

fn scaled(random: &mut Random) -> Vec<f64> {
    let uniform = |random: &mut Random| random.below(1 << 20) as f64 / f64::from(1 << 20);
    (0..FEATURES).map(|_| (0..12).map(|_| uniform(random)).sum::<f64>() - 6.0).collect()
}

/// Before the StandardScaler.
fn raw(row: &[f64]) -> Vec<f64> {
    row.iter().map(|value| 100.0 + 20.0 * value).collect()
}

fn describe<'a>(rows: impl Iterator<Item = &'a Vec<f64>>) -> TensorProfile {
    let mut stats = TensorStats::new(DataType::FLOAT, By::Feature, FEATURES);
    rows.for_each(|row| stats.add(0, row));
    stats.profile()
}

fn profile() -> Profile {
    let mut random = Random::new(1);
    let rows: Vec<Vec<f64>> = (0..ROWS).map(|_| scaled(&mut random)).collect();
    let before: Vec<Vec<f64>> = rows.iter().map(|row| raw(row)).collect();
    let mut input = describe(rows.iter());
    input.raw = Some(describe(before.iter()).features);
    input.scaler = Some(Scaler::Standard { mean: vec![100.0], scale: vec![20.0] });
    Profile { rows: ROWS as u64, inputs: [(INPUT.to_owned(), input)].into(), ..Profile::default() }
}

fn request(row: &[f64]) -> Bytes {
    let values: Vec<f32> = row.iter().map(|value| *value as f32).collect();
    Predict::new(MODEL).input(INPUT, floats(&[1, FEATURES as i64], &values)).bytes()
}
