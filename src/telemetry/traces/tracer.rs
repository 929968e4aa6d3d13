//! Which requests are traced, and the bounded queue to the task that exports their traces.
use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Trace;
use crate::config::Otlp;
use crate::telemetry::metrics::{SpanMetrics, SpanResult};

/// Traces and bytes that may wait for the exporter; more are dropped.
const MAX_QUEUED: usize = 2048;
const MAX_QUEUED_BYTES: usize = 4 << 20;

/// One thread's part of tracing: draws the samples and IDs, and hands over what was traced.
#[derive(Debug)]
pub(crate) struct Tracer {
    random: RefCell<SmallRng>,
    to: TraceSender,
}

/// From which each thread makes its [`Tracer`].
#[derive(Debug, Clone)]
pub(crate) struct TraceSender {
    /// A request is traced if its random number is below this.
    threshold: u64,
    queue: mpsc::Sender<Trace>,
    shared: Arc<Shared>,
}

/// What waits for the exporter.
#[derive(Debug)]
pub(crate) struct TraceReceiver {
    queue: mpsc::Receiver<Trace>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    bytes: AtomicUsize,
    mismatches: Rate,
    metrics: SpanMetrics,
}

/// So many in a second, which may come at once.
#[derive(Debug)]
struct Rate {
    interval: Option<Duration>,
    next: Mutex<Instant>,
}

/// The queue, and what the settings say about its content.
pub(crate) fn channel(settings: &Otlp) -> (TraceSender, TraceReceiver) {
    let (sender, receiver) = mpsc::channel(MAX_QUEUED);
    let shared = Arc::new(Shared {
        bytes: AtomicUsize::new(0),
        mismatches: Rate::new(settings.mismatches),
        metrics: SpanMetrics::new(),
    });
    // The product of 1.0 is above the maximum, and becomes it.
    let threshold = (settings.sample * u64::MAX as f64) as u64;
    let sender = TraceSender { threshold, queue: sender, shared: Arc::clone(&shared) };
    (sender, TraceReceiver { queue: receiver, shared })
}

impl Tracer {
    pub(crate) fn new(to: TraceSender) -> Self {
        Self { random: RefCell::new(SmallRng::from_os_rng()), to }
    }

    /// Whether the next request without a trace is traced.
    #[inline]
    pub(crate) fn draw(&self) -> bool {
        self.random.borrow_mut().next_u64() < self.to.threshold
    }

    /// Whether a request that was not drawn is traced because it does not conform.
    pub(crate) fn draw_mismatch(&self) -> bool {
        self.to.shared.mismatches.allows(Instant::now())
    }

    pub(crate) fn trace_id(&self) -> [u8; 16] {
        self.random.borrow_mut().random_range(1..=u128::MAX).to_be_bytes()
    }

    pub(crate) fn span_id(&self) -> [u8; 8] {
        self.random.borrow_mut().random_range(1..=u64::MAX).to_be_bytes()
    }

    /// Hands a trace to the exporter, or drops it if too much waits. Never waits itself.
    pub(crate) fn send(&self, trace: Trace) {
        let TraceSender { queue, shared, .. } = &self.to;
        let (size, spans) = (trace.size(), trace.spans.len());
        let fits = shared.bytes.fetch_add(size, Relaxed) + size <= MAX_QUEUED_BYTES;
        if !fits || queue.try_send(trace).is_err() {
            shared.bytes.fetch_sub(size, Relaxed);
            shared.metrics.count(SpanResult::Dropped, spans as u64);
        }
    }
}

impl TraceReceiver {
    /// The next trace; `None` once no thread has a tracer.
    pub(crate) async fn next(&mut self) -> Option<Trace> {
        let trace = self.queue.recv().await?;
        self.shared.bytes.fetch_sub(trace.size(), Relaxed);
        Some(trace)
    }

    /// Takes all that waits, which is lost.
    pub(crate) fn discard(&mut self) {
        while let Ok(trace) = self.queue.try_recv() {
            self.shared.bytes.fetch_sub(trace.size(), Relaxed);
            self.shared.metrics.count(SpanResult::Dropped, trace.spans.len() as u64);
        }
    }

    /// Counts what became of spans.
    pub(crate) fn count(&self, result: SpanResult, spans: u64) {
        self.shared.metrics.count(result, spans);
    }
}

impl Rate {
    fn new(per_second: u32) -> Self {
        let interval = (per_second > 0).then(|| Duration::from_secs(1) / per_second);
        let now = Instant::now();
        Self { interval, next: Mutex::new(now.checked_sub(Duration::from_secs(1)).unwrap_or(now)) }
    }

    fn allows(&self, now: Instant) -> bool {
        let Some(interval) = self.interval else { return false };
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        // What a second leaves unused is forgotten.
        let at = now.checked_sub(Duration::from_secs(1)).map_or(*next, |earliest| earliest.max(*next));
        let allowed = at + interval <= now;
        if allowed {
            *next = at + interval;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::trace;
    use super::*;

    fn settings(sample: f64, mismatches: u32) -> Otlp {
        Otlp { sample, mismatches, ..Otlp::default() }
    }

    fn traced(sample: f64) -> usize {
        let tracer = Tracer::new(channel(&settings(sample, 0)).0);
        (0..100_000).filter(|_| tracer.draw()).count()
    }

    #[test]
    fn as_many_requests_are_drawn_as_configured() {
        assert_eq!((traced(0.0), traced(1.0)), (0, 100_000));
        let one_in_a_hundred = traced(0.01);
        // More than ten standard deviations.
        assert!((650..1_350).contains(&one_in_a_hundred), "{one_in_a_hundred}");
    }

    #[test]
    fn ids_differ_and_are_not_zero() {
        let tracers = [(); 2].map(|()| Tracer::new(channel(&Otlp::default()).0));
        let ids: std::collections::HashSet<_> =
            (0..1_000).flat_map(|_| tracers.each_ref().map(Tracer::span_id)).collect();
        assert!(ids.len() == 2_000 && !ids.contains(&[0; 8]));
        assert_ne!(tracers[0].trace_id(), tracers[1].trace_id());
    }

    #[test]
    fn mismatches_are_drawn_up_to_the_rate() {
        let start = Instant::now();
        let rate = Rate::new(10);
        let drawn = |at: u64| (0..100).filter(|_| rate.allows(start + Duration::from_millis(at))).count();
        assert_eq!([drawn(1), drawn(2), drawn(501), drawn(60_001)], [10, 0, 5, 10]);
        let none = Rate::new(0);
        assert!(!none.allows(start + Duration::from_secs(9)));
    }

    #[tokio::test]
    async fn the_queue_is_bounded_in_number_and_bytes() {
        let (sender, mut receiver) = channel(&Otlp::default());
        let tracer = Tracer::new(sender);
        let queued = |receiver: &TraceReceiver| receiver.queue.len();
        for _ in 0..2 * MAX_QUEUED {
            tracer.send(trace(1));
        }
        let bytes = tracer.to.shared.bytes.load(Relaxed);
        assert_eq!((queued(&receiver), bytes), (MAX_QUEUED, MAX_QUEUED * trace(1).size()));
        receiver.discard();
        assert_eq!((queued(&receiver), tracer.to.shared.bytes.load(Relaxed)), (0, 0));
        let mut large = trace(1);
        large.state = Some("x".repeat(MAX_QUEUED_BYTES / 3).into());
        for _ in 0..5 {
            tracer.send(Trace { state: large.state.clone(), ..trace(1) });
        }
        assert_eq!(queued(&receiver), 2);
        receiver.next().await.unwrap();
        tracer.send(trace(1));
        assert_eq!(queued(&receiver), 2);
        drop(tracer);
        assert!(receiver.next().await.is_some() && receiver.next().await.is_some());
        assert!(receiver.next().await.is_none());
    }
}
