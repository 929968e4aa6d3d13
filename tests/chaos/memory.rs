//! The memory of the sidecar over time, and whether it stays flat.
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::attackers::Attackers;
use crate::setup::INFLIGHT_MIB;
use crate::support::pace::pause;
use crate::support::process::Process;

/// Buffers, stacks and caches that are filled once are full after so long.
const WARM_UP: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_millis(500);
/// The median of the last quarter may be so far above that of the first. It is as much as the
/// allocator keeps of what attackers made the sidecar free; without attackers it is 1 MiB.
const GROWTH_MIB: f64 = 32.0;
/// On top of what a sidecar without traffic holds, when all have gone.
const OVER_IDLE_MIB: f64 = 64.0;
/// An attacker's JSON takes several times its size while it is read, on each thread, and the
/// allocator keeps what was freed for a while. So many times the limit are taken at most.
const PEAK_TIMES: f64 = 5.0;

/// Resident memory in MiB: without traffic, and each half second.
#[derive(Debug)]
pub(crate) struct Memory {
    idle: f64,
    /// When the attackers had been away for a while.
    calm: Vec<f64>,
    attacked: Vec<f64>,
}

impl Memory {
    pub(crate) fn new(sidecar: &Process) -> Self {
        Self { idle: sidecar.memory(), calm: Vec::new(), attacked: Vec::new() }
    }

    /// What may be held when all have gone.
    pub(crate) fn allowed(&self) -> f64 {
        self.idle + OVER_IDLE_MIB
    }

    /// Reads it until stopped.
    pub(crate) async fn watch(
        mut self,
        sidecar: &Process,
        attackers: &Attackers,
        stop: &CancellationToken,
    ) -> Self {
        while !stop.is_cancelled() {
            let samples = if attackers.are_away() { &mut self.calm } else { &mut self.attacked };
            samples.push(sidecar.memory());
            pause(INTERVAL).await;
        }
        self
    }

    /// The medians of the quarters of the calm time after the warm-up, which is at most half of it.
    fn quarters(&self) -> [f64; 4] {
        // A quarter of all samples are calm.
        let warm_up = (WARM_UP.as_millis() / INTERVAL.as_millis()) as usize / 4;
        let warm = &self.calm[warm_up.min(self.calm.len() / 2)..];
        std::array::from_fn(|at| median(&warm[at * warm.len() / 4..(at + 1) * warm.len() / 4]))
    }

    /// What is wrong, if `after` MiB are in use without traffic again, and a line for people.
    pub(crate) fn judge(&self, after: f64, peak: f64) -> (Vec<String>, String) {
        let [first, second, third, last] = self.quarters();
        let (idle, attacked) = (self.idle, median(&self.attacked));
        let text = format!(
            "memory in MiB: {idle:.0} before; medians without attackers {first:.0}, {second:.0}, \
             {third:.0}, {last:.0}; with them {attacked:.0}, peak {peak:.0}; {after:.0} after"
        );
        let mut faults = Vec::new();
        if last.is_nan() {
            faults.push("the run was too short to see memory without attackers".to_owned());
        }
        if last > first + GROWTH_MIB {
            faults.push(format!("memory grew from {first:.1} to {last:.1} MiB"));
        }
        if after > self.allowed() {
            faults.push(format!("{after:.1} MiB are held without traffic, {idle:.1} before it"));
        }
        if peak > idle + f64::from(INFLIGHT_MIB) * PEAK_TIMES {
            faults.push(format!("the peak was {peak:.1} MiB"));
        }
        (faults, text)
    }
}

/// NaN if there is none.
fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
