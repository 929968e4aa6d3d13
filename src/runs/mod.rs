//! Runs of the model that several requests share: requests from all threads wait here, one thread
//! makes the call, and each request gets its own rows of the answer.
//!
//! [`Runs`] puts a lock around the pure [`Queue`], passes the time in, and carries out what it
//! decides. A request that may share a run becomes a [`Member`]: what it brings waits in the queue,
//! its task waits for an [`Outcome`]. When a run may start, one thread makes the call for all.
//! Tasks never cross threads; what they bring and get does ([`handover`]).
mod guards;
mod handover;
mod trust;

use std::hash::RandomState;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use smallvec::SmallVec;
use tokio::sync::oneshot;
use tokio::time::Instant;

pub(crate) use guards::{Reserved, Running, Waiting};
pub(crate) use handover::{Handover, RunHandle};
pub(crate) use trust::{Check, Confirmation, Place, Trust};

use crate::batch::{Bypass, Entry, Fixed, Learned, Part, Queue, Refusal, Request, Settings, sharable};
use crate::concurrency::Micros;
use crate::fault::Fault;
use crate::limiter::Permit;
use crate::signature::Signature;
use crate::telemetry::metrics::{BatchMetrics, ModelMetrics};
use crate::telemetry::traces::SpanContext;
use crate::upstream::call::CallHead;
use crate::wire::Rope;

/// What a request does until its run is sent, as errors name it.
pub(crate) const WAITING: &str = "waiting for a run of the model";

/// When a client that has lost its place should try again.
const RETRY: Micros = 100_000;

/// The runs of one signature of one version of a model.
#[derive(Debug)]
pub(crate) struct Runs {
    pub signature: Arc<Signature>,
    pub version: i64,
    pub settings: Settings,
    pub trust: Trust,
    pub metrics: BatchMetrics,
    pub model_metrics: Arc<ModelMetrics>,
    pub hasher: RandomState,
    queue: Mutex<Queue<Member>>,
    /// The time at which [`Runs::wake`] is going to be called; `u64::MAX` if it is not.
    alarm: AtomicU64,
    start: Instant,
}

/// A request that waits for a run, as far as another thread needs it.
#[derive(Debug)]
pub(crate) struct Member {
    pub outcome: oneshot::Sender<Outcome>,
    /// The thread of its task.
    pub shard: usize,
    pub brings: Box<Brings>,
}

/// What a member brings to its run, and gets back if it is sent alone.
#[derive(Debug)]
pub(crate) struct Brings {
    pub part: Part,
    /// The run is sent with that of one of its members.
    pub head: CallHead,
    /// Its span, if it is traced.
    pub span: Option<SpanContext>,
}

/// What a member gets.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Its rows of the answer.
    Rows(Rows),
    /// It is sent alone, answered from that, and its rows are compared.
    Compare {
        brings: Box<Brings>,
        rows: Rows,
        check: Arc<Check>,
        /// None if the run has no other rows than copies of the member's.
        place: Option<Place>,
    },
    /// It is sent alone: TF Serving refused the run, its answer cannot be cut, or it was not sent.
    Alone {
        brings: Box<Brings>,
        check: Option<Arc<Check>>,
    },
    /// It is the only member of its run, and sends it under the run's permit.
    Only {
        brings: Box<Brings>,
        running: Running,
        permit: Option<Permit>,
    },
    /// TF Serving did not run it: all members get the same.
    Refused(Arc<Refused>),
    Failed(Fault),
}

/// A member's rows of the answer of a run.
#[derive(Debug)]
pub(crate) struct Rows {
    /// A `PredictResponse`.
    pub message: Rope,
    /// What is the same for all members.
    pub common: Arc<Common>,
    pub count: u64,
}

#[derive(Debug)]
pub(crate) struct Common {
    pub metadata: HeaderMap,
    pub trailers: HeaderMap,
    /// The rows of the run, before it was filled.
    pub rows: u64,
    /// The span of the run, if it is traced.
    pub span: Option<SpanContext>,
}

/// An error of TF Serving.
#[derive(Debug)]
pub(crate) struct Refused {
    pub metadata: HeaderMap,
    pub trailers: HeaderMap,
}

/// What became of a request that was offered.
#[derive(Debug)]
pub(crate) enum Offered {
    Waits(Waiting, oneshot::Receiver<Outcome>),
    /// It could not wait for the next run, but may be answered in time if it is sent alone.
    Alone(Box<Brings>, Running),
}

impl Runs {
    /// # Errors
    /// Why requests for this signature cannot share runs.
    pub(crate) fn new(
        (model, version, model_metrics): (&str, i64, &Arc<ModelMetrics>),
        signature: Arc<Signature>,
        settings: &Settings,
        pad_static_batch: bool,
        before: Option<&Self>,
    ) -> Result<Self, Bypass> {
        let fixed = sharable(&signature, pad_static_batch)?;
        let mut settings = settings.clone();
        if let Fixed::Rows(rows) = fixed {
            settings.allowed_batch_sizes = vec![rows];
            settings.max_rows = rows;
        }
        let learned = before.map_or_else(Learned::default, |before| before.queue().learned());
        Ok(Self {
            metrics: BatchMetrics::new(model, &signature.name),
            model_metrics: Arc::clone(model_metrics),
            trust: Trust::new(&settings),
            queue: Mutex::new(Queue::new(&settings, &learned)),
            hasher: RandomState::new(),
            alarm: AtomicU64::new(Micros::MAX),
            start: Instant::now(),
            signature,
            version,
            settings,
        })
    }

    /// Starts a run of one request that is sent as it is, if nobody waits and a run may start.
    pub(crate) fn start_alone(
        self: &Arc<Self>,
        handle: &RunHandle,
        rows: u64,
        now: Instant,
    ) -> Option<Running> {
        if self.settings.filled(rows) != rows {
            return None;
        }
        let run = self.queue().start_alone(rows, self.micros(now))?;
        Some(Running::new(self, handle, run))
    }

    /// Offers a request, and starts the runs that may start now.
    ///
    /// # Errors
    /// Too many rows wait, or it cannot be answered before its deadline.
    pub(crate) fn offer(
        self: &Arc<Self>,
        handle: &RunHandle,
        key: u128,
        (peer, deadline): (u64, Option<Instant>),
        brings: Box<Brings>,
    ) -> Result<Offered, Fault> {
        let (outcome, received) = oneshot::channel();
        let rows = brings.part.rows;
        let deadline = deadline.map(|deadline| self.micros(deadline));
        let payload = Member { outcome, shard: handle.number(), brings };
        let mut queue = self.queue();
        let entry = queue.push(key, Request { peer, rows, deadline, payload }, self.now());
        match entry {
            Entry::Waits { number, displaced } => {
                self.start_runs(queue, handle);
                self.displace(handle, displaced);
                Ok(Offered::Waits(Waiting::new(self, handle, key, number), received))
            }
            Entry::Alone(run, Member { brings, .. }) => {
                Ok(Offered::Alone(brings, Running::new(self, handle, run)))
            }
            Entry::Refused(refusal, _) => Err(self.fault(refusal)),
        }
    }

    /// Starts the runs that are due now: it is `at`.
    async fn wake(self: Arc<Self>, handle: RunHandle, at: Micros) {
        tokio::time::sleep_until(self.instant(at)).await;
        // Otherwise another call is to come earlier, or came, and sees to the rest.
        if self.alarm.compare_exchange(at, Micros::MAX, SeqCst, SeqCst).is_ok() {
            self.start_runs(self.queue(), &handle);
        }
    }

    /// While draining, nothing waits for other requests or for other runs.
    pub(crate) fn set_draining(self: &Arc<Self>, handle: &RunHandle, draining: bool) {
        let mut queue = self.queue();
        queue.set_draining(draining, self.now());
        self.start_runs(queue, handle);
    }

    /// Rows that wait.
    pub(crate) fn queue_rows(&self) -> u64 {
        self.queue().rows()
    }

    /// The learned cost of a run and of a row, in microseconds.
    pub(crate) fn cost(&self) -> Option<(f64, f64)> {
        self.queue().cost()
    }

    /// How many runs may be in flight, and how many rows they may have, as far as that was learned.
    pub(crate) fn runs_and_rows(&self) -> (usize, u64) {
        self.queue().runs_and_rows()
    }

    pub(crate) fn now(&self) -> Micros {
        self.micros(Instant::now())
    }

    pub(crate) fn instant(&self, at: Micros) -> Instant {
        self.start + Duration::from_micros(at)
    }

    fn micros(&self, at: Instant) -> Micros {
        at.saturating_duration_since(self.start).as_micros() as Micros
    }

    /// Starts the runs that may start, on this thread.
    fn start_runs(self: &Arc<Self>, mut queue: MutexGuard<'_, Queue<Member>>, handle: &RunHandle) {
        let now = self.now();
        let mut started = SmallVec::<[_; 4]>::new();
        while let Some(run) = queue.start(now) {
            started.push(run);
        }
        // Requests may wait for `max_delay`, or for clients that were just answered.
        let due = queue.due();
        // Without the lock: what is dropped here takes it.
        drop(queue);
        if let Some(due) = due
            && self.alarm.fetch_min(due, SeqCst) > due
        {
            handle.wake(Arc::clone(self), due);
        }
        for (key, run) in started {
            handle.start(Reserved::new(self, handle, key, run));
        }
    }

    /// The queue is full, and these were the newest of the client with the longest backlog.
    fn displace(&self, handle: &RunHandle, displaced: Vec<Request<Member>>) {
        if displaced.is_empty() {
            return;
        }
        let refusal = Refusal::Full { rows: self.settings.max_queue_rows, retry: RETRY };
        let mut outcomes = handle.outcomes();
        for Request { payload: Member { outcome, shard, .. }, .. } in displaced {
            outcomes.push(shard, outcome, Outcome::Failed(self.fault(refusal)));
        }
        outcomes.send();
    }

    fn fault(&self, refusal: Refusal) -> Fault {
        match refusal {
            Refusal::Full { rows, retry } => Fault::RowsFull {
                rows,
                limit: self.settings.max_queue_rows,
                retry: Duration::from_micros(retry),
            },
            Refusal::TooLate { wait: 0 } => Fault::Deadline { during: WAITING },
            Refusal::TooLate { wait } => {
                let wait = Duration::from_micros(wait);
                Fault::RunTooLate { wait, retry: wait }
            }
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue<Member>> {
        // Nothing done under the lock panics halfway.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
