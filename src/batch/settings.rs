//! What the operator sets for the batching of one signature.
use std::time::Duration;

/// The rows of a run if `max_rows` is not set.
const MAX_ROWS: u64 = 64;

/// The section `batching` of a signature.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub enabled: bool,
    /// The most rows of a run; 0 if not set.
    pub max_rows: u64,
    /// The most rows that wait.
    pub max_queue_rows: u64,
    /// How long a request may wait for others although a run could start.
    pub max_delay: Duration,
    /// The latency that runs are kept short for; zero for none.
    pub slo_p99: Duration,
    /// The share of members that are also run alone and compared.
    pub verify_sample: f64,
    /// Of so many runs all members are also run alone, and answered from that.
    pub probation: u32,
    /// The numbers of rows that a run may have, ascending; empty for any.
    pub allowed_batch_sizes: Vec<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: false,
            max_rows: 0,
            max_queue_rows: 1024,
            max_delay: Duration::ZERO,
            slo_p99: Duration::ZERO,
            verify_sample: 0.001,
            probation: 64,
            allowed_batch_sizes: Vec::new(),
        }
    }
}

impl Settings {
    /// The most rows of a run.
    pub fn rows_per_run(&self) -> u64 {
        let max = if self.max_rows == 0 { MAX_ROWS } else { self.max_rows };
        self.allowed_batch_sizes.last().map_or(max, |largest| *largest)
    }

    /// The rows of a run with so many rows of members: the next allowed size.
    pub fn filled(&self, rows: u64) -> u64 {
        self.allowed_batch_sizes.iter().copied().find(|size| *size >= rows).unwrap_or(rows)
    }
}
