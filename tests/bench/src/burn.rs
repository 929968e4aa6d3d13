//! A server with few threads whose calls cost CPU time, and that refuses as TensorFlow Serving
//! does.
use crate::Outcome;
use crate::load::Arrivals;
use crate::threads::Threads;
use rustix::time::{ClockId, clock_gettime};
use std::cell::{Cell, RefCell};
use std::time::Duration;

/// How often a server of 8 threads refuses a call, by the number of calls in flight with it.
/// Threads are given back a little after the answer, so that it refuses before all are in use.
const REFUSED: [f64; 8] = [0.0001, 0.0001, 0.0002, 0.0003, 0.0007, 0.012, 0.063, 0.16];

pub struct Burn {
    count: usize,
    call: Duration,
    row: Duration,
    busy: Cell<usize>,
    chance: RefCell<Arrivals>,
    threads: Threads,
}

/// A thread in use.
pub struct Slot<'a>(&'a Cell<usize>);

impl Burn {
    /// From `THREADS,CALL_US,ROW_US`. Starts the threads.
    pub fn start(text: &str) -> Outcome<Self> {
        let numbers: Vec<u64> = text.split(',').filter_map(|word| word.parse().ok()).collect();
        let [threads @ 1..=u64::MAX, call, row] = numbers[..] else {
            return Err(format!("--burn: expected THREADS,CALL_US,ROW_US, got `{text}`").into());
        };
        Ok(Self {
            count: threads as usize,
            call: Duration::from_micros(call),
            row: Duration::from_micros(row),
            busy: Cell::new(0),
            chance: RefCell::new(Arrivals::new(1.0, 7)),
            threads: Threads::start(threads as usize),
        })
    }

    /// Takes a thread, unless the server refuses the call.
    pub fn take(&self) -> Option<Slot<'_>> {
        let busy = self.busy.get() + 1;
        if busy > self.count || self.chance.borrow_mut().even() <= refused(busy, self.count) {
            return None;
        }
        self.busy.set(busy);
        Some(Slot(&self.busy))
    }

    /// Burns the CPU time of a call.
    pub async fn work(&self, _slot: Slot<'_>, rows: u64) {
        let cost = self.call + self.row * rows as u32;
        self.threads.run(move || spin(cost)).await;
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

fn spin(cost: Duration) {
    let end = cpu_time() + cost;
    while cpu_time() < end {
        std::hint::spin_loop();
    }
}

/// Of this thread: with more threads than processors, a call must not count the time of others.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn refused(busy: usize, threads: usize) -> f64 {
    REFUSED[(busy * REFUSED.len()).div_ceil(threads).clamp(1, REFUSED.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::on_this_thread;

    #[test]
    fn refusals_scale_with_the_threads() {
        assert_eq!((refused(1, 8), refused(8, 8)), (0.0001, 0.16));
        assert_eq!((refused(64, 128), refused(128, 128)), (0.0003, 0.16));
        assert_eq!((refused(1, 2), refused(2, 2)), (0.0003, 0.16));
    }

    #[test]
    fn a_call_beyond_the_threads_is_refused() {
        let burn = Burn::start("2,1,0").unwrap();
        let mut held = Vec::new();
        // Each can be refused by chance.
        for _ in 0..100 {
            held.extend(burn.take());
        }
        assert_eq!((held.len(), burn.busy.get()), (2, 2));
        drop(held);
        assert_eq!(burn.busy.get(), 0);
    }

    #[test]
    fn a_call_burns_the_time_of_its_rows() {
        let burn = Burn::start("1,1000,100").unwrap();
        let start = std::time::Instant::now();
        on_this_thread(async {
            let slot = std::iter::repeat_with(|| burn.take()).flatten().next().unwrap();
            burn.work(slot, 20).await;
        })
        .unwrap();
        assert!(start.elapsed() >= Duration::from_micros(3000));
        assert!(Burn::start("0,1,1").is_err() && Burn::start("1,1").is_err());
    }
}
