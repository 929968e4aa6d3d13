//! What happens to TF Serving, to the configuration and to the certificates, and when.
use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::setup::Files;
use crate::support::admin;
use crate::support::dial::Dial;
use crate::support::pace::pause;
use crate::support::process::Process;
use crate::support::random::Random;
use crate::support::tls::trusting;
use crate::upstream::Upstream;
use crate::world::{Mode, World};

/// How long a changed file may take to be in use, or to be refused.
const NOTICED: Duration = Duration::from_secs(15);
const RELOADS: Duration = Duration::from_secs(10);

/// What has happened so far, and what did not work.
#[derive(Debug, Default)]
pub(crate) struct Diary {
    pub(crate) kills: u32,
    pub(crate) freezes: u32,
    pub(crate) versions: u32,
    pub(crate) reloads: u32,
    pub(crate) refused: u32,
    pub(crate) rotations: u32,
    pub(crate) wrong_keys: u32,
    pub(crate) faults: Vec<String>,
}

impl fmt::Display for Diary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "TF Serving: {} kills and restarts, {} freezes, {} changes of version",
            self.kills, self.freezes, self.versions
        )?;
        write!(
            formatter,
            "files: {} configurations applied, {} refused; {} certificates replaced, {} keys of others",
            self.reloads, self.refused, self.rotations, self.wrong_keys
        )
    }
}

/// Kills, freezes and restarts TF Serving, and changes the version of its models, for so long. It
/// works at the end.
pub(crate) async fn upstream(
    mut upstream: Upstream,
    world: &World,
    diary: &Mutex<Diary>,
    length: Duration,
) -> Upstream {
    let start = Instant::now();
    let mut random = Random::new(7);
    while start.elapsed() < length {
        pause(random.between(100, 8_000)).await;
        match random.below(8) {
            0..2 => {
                world.outage_begins();
                upstream.signal("STOP");
                pause(random.between(50, 9_000)).await;
                upstream.signal("CONT");
                world.outage_ends();
                diary.lock().unwrap().freezes += 1;
            }
            2..5 => {
                world.outage_begins();
                upstream.kill();
                pause(random.between(0, 2_000)).await;
                upstream.restart();
                world.outage_ends();
                diary.lock().unwrap().kills += 1;
            }
            _ => {
                let version = world.newest_version() + 1;
                world.version_comes(version);
                upstream.change_version(version);
                world.version_is(version);
                diary.lock().unwrap().versions += 1;
            }
        }
    }
    upstream
}

/// Replaces the configuration and the certificates by turns, until stopped.
pub(crate) async fn files(
    sidecar: &Process,
    files: &Files,
    world: &World,
    diary: &Mutex<Diary>,
    stop: &CancellationToken,
) {
    let mut random = Random::new(8);
    let mut turn = 0;
    while !stop.is_cancelled() {
        let start = Instant::now();
        turn += 1;
        // The certificates change every 20 s. Both are read again together, so not at a time.
        let outcome = match turn % 4 {
            1 => broken(sidecar, files, diary).await,
            _ => configuration(sidecar, files, world, diary, turn).await,
        };
        let rotated = match outcome {
            Ok(()) if turn % 2 == 0 => certificates(sidecar, files, diary, random.below(3) == 0).await,
            outcome => outcome,
        };
        if let Err(fault) = rotated {
            diary.lock().unwrap().faults.push(fault);
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = pause(RELOADS.saturating_sub(start.elapsed())) => {}
        }
    }
}

/// Another mode, limit and number of rows; each is a setting that differs from the one before.
async fn configuration(
    sidecar: &Process,
    files: &Files,
    world: &World,
    diary: &Mutex<Diary>,
    turn: u64,
) -> Result<(), String> {
    let mode = if turn.is_multiple_of(3) { Mode::Strict } else { Mode::Repair };
    world.mode_changes();
    sidecar.configure(&files.yaml(mode, turn));
    let limit = Files::limit(turn);
    eventually(&format!("`{limit}` in use"), async || {
        admin::get(&sidecar.admin, "/api/config").await.body.contains(&limit)
    })
    .await?;
    world.mode_is(mode);
    diary.lock().unwrap().reloads += 1;
    Ok(())
}

/// A file with a mode that would show in answers, and a mistake in another line.
async fn broken(sidecar: &Process, files: &Files, diary: &Mutex<Diary>) -> Result<(), String> {
    sidecar.configure(&files.broken_yaml());
    eventually("the refusal of a broken file", async || {
        config(sidecar).await["problem"].as_str().is_some_and(|text| text.contains("max_connections"))
    })
    .await?;
    diary.lock().unwrap().refused += 1;
    Ok(())
}

/// The other certificate, in some cases with a key that is not its own for a while.
async fn certificates(
    sidecar: &Process,
    files: &Files,
    diary: &Mutex<Diary>,
    wrong_key: bool,
) -> Result<(), String> {
    if wrong_key {
        files.wrong_key();
        eventually("the refusal of a key", async || {
            config(sidecar).await["certificates_problem"].as_str().is_some()
        })
        .await?;
        diary.lock().unwrap().wrong_keys += 1;
    }
    let authority = files.rotate();
    let dial = Dial::tls(&sidecar.grpc, trusting(&[authority], "h2"));
    eventually(&format!("a certificate of {authority}"), async || dial.connect().await.is_ok()).await?;
    diary.lock().unwrap().rotations += 1;
    Ok(())
}

/// The section about the configuration in `/api/status`.
async fn config(sidecar: &Process) -> Value {
    let page = admin::get(&sidecar.admin, "/api/status").await;
    serde_json::from_str::<Value>(&page.body).unwrap_or_default()["config"].take()
}

async fn eventually(what: &str, condition: impl AsyncFn() -> bool) -> Result<(), String> {
    let waiting = async {
        while !condition().await {
            pause(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(NOTICED, waiting).await.map_err(|_| format!("{what}: not within {NOTICED:?}"))
}
