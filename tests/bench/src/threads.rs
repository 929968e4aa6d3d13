//! Threads that run calls which take CPU time, first come, first served.
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

pub struct Threads(Arc<Queue>);

#[derive(Default)]
struct Queue {
    jobs: Mutex<VecDeque<Job>>,
    arrived: Condvar,
}

impl Threads {
    /// They never end.
    pub fn start(count: usize) -> Self {
        let queue = Arc::new(Queue::default());
        for _ in 0..count {
            let queue = queue.clone();
            std::thread::spawn(move || {
                loop {
                    queue.next()();
                }
            });
        }
        Self(queue)
    }

    /// `None` if the work panicked.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (done, result) = oneshot::channel();
        let job: Job = Box::new(move || {
            // The caller may have left.
            let _ = done.send(work());
        });
        self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner).push_back(job);
        self.0.arrived.notify_one();
        result.await.ok()
    }
}

impl Queue {
    fn next(&self) -> Job {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match jobs.pop_front() {
                Some(job) => return job,
                None => jobs = self.arrived.wait(jobs).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::on_this_thread;

    #[test]
    fn the_result_of_a_job_comes_back() {
        let threads = Threads::start(2);
        let sum =
            on_this_thread(async { threads.run(|| 1).await.unwrap() + threads.run(|| 2).await.unwrap() });
        assert_eq!(sum.unwrap(), 3);
    }
}
