//! Calls TF Serving with runs of each size and measures how long they take.
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::advice::{Pair, Times, knee};
use super::sizes::{Rows, agrees};
use crate::cli::{Failure, render};
use crate::config::Config;
use crate::fault::Fault;
use crate::upstream::pool::Pool;
use crate::upstream::target::Target;
use crate::upstream::unary;
use crate::upstream::up::Up;
use crate::wire::Rope;

const PREDICT: &str = "/tensorflow.serving.PredictionService/Predict";
/// The largest answer that is accepted.
const MAX_ANSWER: usize = 1 << 30;
/// Runs of each size before it is measured: the first compiles kernels and chooses algorithms.
const WARM_UP: usize = 3;
/// Fewer runs of a size than this say nothing about their spread.
const MIN_ROUNDS: usize = 5;

/// What was measured.
#[derive(Debug)]
pub(super) struct Measured {
    pub curve: Vec<Times>,
    pub pairs: Vec<Pair>,
    /// Why there are fewer sizes than were asked for.
    pub notes: Vec<String>,
}

/// Two connections to TF Serving, so that messages of two runs do not wait for each other.
struct Server {
    pools: [Rc<Pool>; 2],
    timeout: Duration,
}

/// A run of a size: its message, and the time of the first call.
struct Size {
    rows: u64,
    message: Rope,
    first: f64,
}

pub(super) fn measure(
    config: &Config,
    rows: &Rows<'_>,
    sizes: &[u64],
    duration: Duration,
    timeout: Duration,
) -> Result<Measured, Failure> {
    let target = Arc::new(Target::new(config)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let up = Arc::new(Up::default());
        let pools = [Pool::start(target.clone(), 1, &up), Pool::start(target, 1, &up)];
        let server = Server { pools, timeout };
        let limit = config.limits.max_message_bytes;
        let (sizes, notes) = server.warm_up(rows, sizes, limit).await?;
        let curve = server.curve(&sizes, duration.mul_f64(0.7)).await?;
        let larger = if knee(&curve) > 1 { knee(&curve) } else { curve.last().map_or(1, |last| last.rows) };
        let chosen: Vec<&Size> = sizes.iter().filter(|size| size.rows == 1 || size.rows == larger).collect();
        let pairs = server.pairs(&chosen, duration.mul_f64(0.3)).await?;
        Ok(Measured { curve, pairs, notes })
    })
}

impl Server {
    /// Calls each size a few times, and compares the answers with those of single rows. A size that
    /// TF Serving refuses ends the list.
    async fn warm_up(
        &self,
        rows: &Rows<'_>,
        sizes: &[u64],
        limit: usize,
    ) -> Result<(Vec<Size>, Vec<String>), Failure> {
        let (first, answer) = self.call(0, &rows.alone(0)).await?;
        let mut alone = vec![answer];
        for index in 1..rows.distinct() {
            alone.push(self.call(0, &rows.alone(index)).await?.1);
        }
        for _ in 1..WARM_UP {
            let (_, again) = self.call(0, &rows.alone(0)).await?;
            agrees(&again, 1, &alone).map_err(|error| {
                let what = "the same request gets different answers, so answers cannot be compared";
                Failure::from(anyhow!(error).context(what))
                    .hint("a model with random answers cannot be batched")
            })?;
        }
        // The second connection opens before anything is measured.
        self.call(1, &rows.alone(0)).await?;
        let mut warm = vec![Size { rows: 1, message: rows.request(1), first }];
        let mut notes = Vec::new();
        for size in sizes.iter().copied().filter(|size| *size > 1) {
            let message = rows.request(size);
            let largest = warm.last().map_or(1, |size| size.rows);
            if message.len() > limit {
                notes.push(format!(
                    "no more than {largest} rows: a request of {size} rows has {} bytes (limit {limit}; limits.max_message_bytes)",
                    message.len()
                ));
                break;
            }
            let mut first = None;
            for _ in 0..WARM_UP {
                let (time, answer) = match self.call(0, &message).await {
                    Ok(called) => called,
                    Err(fault @ (Fault::Upstream { .. } | Fault::Deadline { .. })) if largest > 1 => {
                        notes.push(format!(
                            "no more than {largest} rows: a run of {size} rows failed: {fault}"
                        ));
                        return Ok((warm, notes));
                    }
                    Err(fault @ Fault::Upstream { .. }) => {
                        let what = "one row is answered, but a run of 2 rows is refused";
                        return Err(Failure::from(anyhow!(fault).context(what))
                            .hint("the model takes one row at a time: do not batch it"));
                    }
                    Err(fault) => return Err(fault.into()),
                };
                agrees(&answer, size, &alone).map_err(|error| {
                    let what = "rows of a shared run do not get the answers that they get alone";
                    Failure::from(anyhow!(error).context(what))
                        .hint("the rows depend on each other: do not batch this model")
                })?;
                first.get_or_insert(time);
            }
            warm.push(Size { rows: size, message, first: first.unwrap_or_default() });
        }
        Ok((warm, notes))
    }

    /// The times of each size with one run at a time.
    async fn curve(&self, sizes: &[Size], duration: Duration) -> Result<Vec<Times>, Failure> {
        let samples =
            rounds(sizes.len(), duration, async |at| Ok(self.call(0, &sizes[at].message).await?.0)).await?;
        let each = sizes.iter().zip(&samples);
        Ok(each.map(|(size, samples)| Times::of(size.rows, size.first, samples)).collect())
    }

    /// The times of two runs at once beside those of one.
    async fn pairs(&self, sizes: &[&Size], duration: Duration) -> Result<Vec<Pair>, Failure> {
        let samples = rounds(sizes.len() * 2, duration, async |at| {
            let message = &sizes[at / 2].message;
            if at % 2 == 0 {
                return Ok(self.call(0, message).await?.0);
            }
            let start = Instant::now();
            tokio::try_join!(self.call(0, message), self.call(1, message))?;
            Ok(micros(start))
        })
        .await?;
        let median = |samples: &[f64]| Times::of(1, 0.0, samples).median;
        let each = sizes.iter().zip(samples.chunks_exact(2));
        let pair = |(size, samples): (&&Size, &[Vec<f64>])| Pair {
            rows: size.rows,
            alone: median(&samples[0]),
            both: median(&samples[1]),
        };
        Ok(each.map(pair).collect())
    }

    /// The time in microseconds, and the answer.
    async fn call(&self, pool: usize, message: &Rope) -> Result<(f64, Rope), Fault> {
        let start = Instant::now();
        let call = unary::exchange(&self.pools[pool], PREDICT, message.clone(), MAX_ANSWER);
        let answer = tokio::time::timeout(self.timeout, call).await;
        let answer = answer.map_err(|_| Fault::Deadline { during: "waiting for the model's answer" })??;
        Ok((micros(start), answer))
    }
}

/// Runs all jobs again and again until the time is over, in one order and then in the other, so
/// that a change of the server's speed hits all alike. Returns the times of each job.
async fn rounds(
    jobs: usize,
    duration: Duration,
    run: impl AsyncFn(usize) -> Result<f64, Fault>,
) -> Result<Vec<Vec<f64>>, Failure> {
    let mut samples = vec![Vec::new(); jobs];
    let start = Instant::now();
    let mut round = 0;
    while round < MIN_ROUNDS || start.elapsed() < duration {
        for job in 0..jobs {
            let job = if round % 2 == 0 { job } else { jobs - 1 - job };
            samples[job].push(run(job).await?);
        }
        round += 1;
    }
    Ok(samples)
}

fn micros(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e6
}

/// Says how long it takes, as nothing is printed meanwhile.
pub(super) fn announce(config: &Config, sizes: &[u64], duration: Duration) {
    render::note(&format!(
        "measuring runs of {} to {} rows at `{}` for about {}",
        sizes.first().unwrap_or(&1),
        sizes.last().unwrap_or(&1),
        config.upstream,
        humantime::format_duration(duration)
    ));
}
