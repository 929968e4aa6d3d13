//! Two clients of the model at once, one of which does not scale its values: the sidecar names it,
//! and fixes its requests once that is declared.
use std::path::PathBuf;

use prost::bytes::Bytes;
use tfs_sidecar::config::Config;
use tfs_sidecar::config::load::{File, Settings, load};
use tfs_sidecar::profile::describe::TensorStats;
use tfs_sidecar::profile::{By, Profile, Scaler, TensorProfile};
use tfs_sidecar::repair::policy::ProfileFile;
use tfs_sidecar::tensor::DataType;

use crate::support::client::Request;
use crate::support::dense::{self, INPUT, MODEL, OUTPUT};
use crate::support::random::Random;
use crate::support::requests::{Predict, floats, outputs};
use crate::support::sidecar::{TestSidecar, config};

const FEATURES: usize = 128;
const CLASSES: usize = 10;
const ROWS: usize = 1000;
/// Requests of each client. One that makes a known mistake is named within 64.
const REQUESTS: usize = 80;
/// What the operator declares for the input.
const DECLARED: &str = "transform: [{standardize: {from: profile}}], when: raw";
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

    /// Sends the requests of both clients, in turns, once to this sidecar and once to one whose
    /// configuration declares the transform. Returns what the sidecars say.
    ///
    /// # Errors
    /// The wrong client is not named or not fixed, or the right one is named or changed.
    pub(crate) async fn send(self, sidecar: &TestSidecar, upstream: &str) -> Result<String, String> {
        let (number, text) = named(sidecar).await?;
        let fixed = self.fixed(upstream).await?;
        Ok(format!(
            "\nthe same model with a profile of its training data; two clients send {REQUESTS} requests each:\n\
             {RIGHT} scales them: no finding\n{WRONG} does not, and is named after {number} requests:\n  {text}\n\
             {fixed}",
        ))
    }

    /// The same two clients after the operator has declared what is missing. One row a request.
    async fn fixed(&self, upstream: &str) -> Result<String, String> {
        let text = format!(
            "models: {{{MODEL}: {{profile: '{}', signatures: {{serving_default: {{inputs: {{{INPUT}: {{{DECLARED}}}}}}}}}}}}}",
            self.0.display()
        );
        let read = load(&Settings::default(), Some(File { name: "the declared transform", text: &text }));
        let read = read.map_err(|problems| problems.to_string())?;
        let sidecar = TestSidecar::start(Config { models: read.models, ..config(upstream, []) });
        sidecar.ready().await;
        let client = sidecar.client().await;
        let (mut random, mut rights, mut fixed) = (Random::new(3), 0, 0);
        for _ in 0..REQUESTS {
            let row = scaled(&mut random);
            let expected = class(&row);
            rights += usize::from(class(&raw(&row)) == expected);
            for (name, row) in [(WRONG, raw(&row)), (RIGHT, row)] {
                let reply =
                    client.call(Request::predict(&request(&row)).metadata("user-agent", name)).await.ok();
                let is_changed = !reply.repairs().is_empty();
                let probs = dense::floats(&outputs(&reply.message)[OUTPUT], CLASSES);
                if dense::top(&probs).0 != expected || is_changed != (name == WRONG) {
                    return Err(format!("{name}: {:?} with {:?}", dense::top(&probs), reply.repairs()));
                }
                fixed += usize::from(is_changed);
            }
        }
        sidecar.stop().await;
        Ok(format!(
            "the operator declares `{DECLARED}`:\n\
             {WRONG} gets the class of the scaled values {fixed} of {REQUESTS} times (before: {rights}); \
             no request of {RIGHT} is changed\n"
        ))
    }
}

/// Sends the requests of both clients. After how many the wrong one is named, and how.
async fn named(sidecar: &TestSidecar) -> Result<(usize, String), String> {
    let client = sidecar.client().await;
    let mut random = Random::new(2);
    let mut named = None;
    for number in 1..=REQUESTS {
        for name in [WRONG, RIGHT] {
            let row = scaled(&mut random);
            let row = if name == WRONG { raw(&row) } else { row };
            let request = Request::predict(&request(&row)).metadata("user-agent", name);
            let reply = client.call(request).await;
            let text = reply.initial("tfs-sidecar-warning").into_iter().find(|text| text.contains("SHIFTED"));
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
    Ok((number, text.unwrap_or_default().to_owned()))
}

/// What the model says of a row.
fn class(row: &[f64]) -> usize {
    let row: Vec<f32> = row.iter().map(|value| *value as f32).collect();
    dense::top(&dense::forward(&row)).0
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
