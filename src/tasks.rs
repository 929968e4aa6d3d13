//! Background tasks, and what happens when one panics.
//!
//! tokio catches the panic of a task and drops the task. Without more, a dead accept loop would
//! leave a process that looks healthy and serves nobody. Every task is therefore started here: a
//! panic in a critical one ends the process, and one in an isolated task is counted and logged.
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_local};

use crate::telemetry::metrics::{self, PanickedTask};

/// The exit code after a panic: `EX_SOFTWARE` of `sysexits.h`.
pub(crate) const EXIT_CODE: u8 = 70;

// Built otherwise, every panic would end the process at once.
const _: () = assert!(cfg!(panic = "unwind"));

/// How often panics at the same place are logged.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

thread_local! {
    /// Whether a panic on this thread is reported by who catches it.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
    /// The last panic that the hook saw while `CAUGHT` was set.
    static LAST: RefCell<Option<Panic>> = const { RefCell::new(None) };
    /// Where the critical tasks of this thread report.
    static FAILURES: RefCell<Option<Failures>> = const { RefCell::new(None) };
}

/// What is known of a panic. The message may contain what a client sent.
#[derive(Debug, Clone)]
pub(crate) struct Panic {
    message: String,
    /// `src/file.rs:line:column`, if [`install_hook`] was called.
    location: String,
}

/// Reports that the process cannot go on. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Failures(Arc<watch::Sender<bool>>);

impl Failures {
    pub(crate) fn report(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn is_reported(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once a failure is reported.
    pub(crate) async fn reported(self) {
        // The sender is in `self`, so the channel cannot close here.
        self.0.subscribe().wait_for(|failed| *failed).await.ok();
    }

    /// Runs the main function of a thread, whose critical tasks report here. A panic of the
    /// function itself is a failure too.
    pub(crate) fn run_thread(&self, name: &str, main: impl FnOnce()) {
        FAILURES.set(Some(self.clone()));
        if let Err(payload) = catch_unwind(AssertUnwindSafe(main)) {
            fail(name, &Panic::of(&*payload));
        }
    }
}

/// Records the place of panics. Those that no task here catches go to `otherwise`.
pub(crate) fn install_hook(otherwise: impl Fn(&PanicHookInfo<'_>) + Send + Sync + 'static) {
    std::panic::set_hook(Box::new(move |info| {
        if CAUGHT.get() {
            LAST.set(Some(Panic::seen(info)));
        } else {
            otherwise(info);
        }
    }));
}

/// Logs a panic that no task here catches, such as one in a handler of the admin listener.
pub(crate) fn log_panic(info: &PanicHookInfo<'_>) {
    let Panic { message, location } = Panic::seen(info);
    tracing::error!(location, panic = message, "a panic");
}

/// Starts a task without which the process is of no use. Its panic ends the process.
pub(crate) fn spawn_critical(
    name: &'static str,
    future: impl Future<Output = ()> + 'static,
) -> JoinHandle<()> {
    spawn_local(critical(name, future))
}

/// Starts a task that serves one request or connection. Its panic ends only that one.
///
/// Takes the future in a box: passed by value, it would be in the task twice, and the state of a
/// call is some kilobytes.
pub(crate) fn spawn_isolated<F: Future<Output = ()> + 'static>(
    task: PanickedTask,
    mut future: Pin<Box<F>>,
) -> JoinHandle<()> {
    spawn_local(poll_fn(move |cx| poll_isolated(task, future.as_mut(), cx).map(|_| ())))
}

/// Runs a critical task.
pub(crate) async fn critical(name: &str, future: impl Future<Output = ()>) {
    let mut future = pin!(future);
    if let Err(panic) = poll_fn(|cx| poll_caught(future.as_mut(), cx)).await {
        fail(name, &panic);
    }
}

/// Polls a future of a request or connection. A panic is logged and counted, and is an error here.
/// The future must not be polled again.
pub(crate) fn poll_isolated<F: Future>(
    task: PanickedTask,
    future: Pin<&mut F>,
    cx: &mut Context<'_>,
) -> Poll<Result<F::Output, Panic>> {
    let polled = poll_caught(future, cx);
    if let Poll::Ready(Err(panic)) = &polled {
        metrics::panicked(task);
        if is_due(&panic.location, Instant::now()) {
            let Panic { message, location } = panic;
            tracing::error!(
                task = task.as_str(),
                location,
                panic = message,
                "a bug in the sidecar made a task panic"
            );
        }
    }
    polled
}

fn poll_caught<F: Future>(future: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<Result<F::Output, Panic>> {
    let before = CAUGHT.replace(true);
    let polled = catch_unwind(AssertUnwindSafe(|| future.poll(cx)));
    CAUGHT.set(before);
    match polled {
        Ok(polled) => polled.map(Ok),
        Err(payload) => Poll::Ready(Err(Panic::of(&*payload))),
    }
}

/// Logs the end of a critical task, and reports it to the sidecar of this thread.
fn fail(name: &str, panic: &Panic) {
    let Panic { message, location } = panic;
    tracing::error!(
        task = name,
        location,
        panic = message,
        exit_code = EXIT_CODE,
        "a background task panicked; the process ends"
    );
    FAILURES.with_borrow(|failures| {
        if let Some(failures) = failures {
            failures.report();
        }
    });
}

/// Whether a panic at this place is logged now. The places are in the code, so they are few.
fn is_due(location: &str, now: Instant) -> bool {
    static LOGGED: Mutex<BTreeMap<String, Instant>> = Mutex::new(BTreeMap::new());
    if location.is_empty() {
        return true;
    }
    let mut logged = LOGGED.lock().unwrap_or_else(PoisonError::into_inner);
    let is_due = logged.get(location).is_none_or(|last| now.saturating_duration_since(*last) >= LOG_INTERVAL);
    if is_due {
        logged.insert(location.to_owned(), now);
    }
    is_due
}

impl Panic {
    /// What the hook sees.
    fn seen(info: &PanicHookInfo<'_>) -> Self {
        let location = info.location().map(ToString::to_string).unwrap_or_default();
        Self { message: text(info.payload()), location }
    }

    /// A caught panic.
    fn of(payload: &(dyn Any + Send)) -> Self {
        let unseen = || Self { message: text(payload), location: String::new() };
        LAST.take().unwrap_or_else(unseen)
    }
}

fn text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogFormat;
    use crate::telemetry::log::tests::captured;

    /// What is logged while the tasks of `work` run on a thread that reports failures, and whether
    /// one was reported.
    fn run(work: impl Future<Output = ()>) -> (String, bool) {
        let failures = Failures::default();
        let log = captured(LogFormat::Text, "error", || {
            failures.run_thread("shard-0", || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                tokio::task::LocalSet::new().block_on(&runtime, work);
            });
        });
        FAILURES.set(None);
        (log, failures.is_reported())
    }

    fn fault() {
        panic!("something is missing");
    }

    #[test]
    fn a_panic_in_a_critical_task_is_one_log_line_and_a_failure() {
        let (log, failed) = run(async {
            spawn_critical("accept", async { fault() }).await.unwrap();
        });
        assert!(failed);
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(log.contains(r#"a background task panicked; the process ends task="accept""#), "{log}");
        assert!(log.contains(r#"panic="something is missing" exit_code=70"#), "{log}");
    }

    #[test]
    fn a_critical_task_that_ends_normally_is_no_failure() {
        let (log, failed) = run(async { spawn_critical("accept", async {}).await.unwrap() });
        assert_eq!((log.as_str(), failed), ("", false));
    }

    #[test]
    fn a_panic_of_the_thread_itself_is_a_failure() {
        let (log, failed) = run(async { fault() });
        assert!(failed && log.contains(r#"task="shard-0""#), "{log}");
    }

    #[test]
    fn a_panic_in_an_isolated_task_ends_only_that_task() {
        let (log, failed) = run(async {
            let (sender, receiver) = tokio::sync::oneshot::channel();
            spawn_isolated(PanickedTask::Connection, Box::pin(async { fault() }));
            spawn_isolated(PanickedTask::Connection, Box::pin(async { sender.send(7).unwrap() }));
            assert_eq!(receiver.await.unwrap(), 7);
        });
        assert!(!failed);
        assert!(log.contains(r#"task="connection""#) && log.contains("something is missing"), "{log}");
    }

    #[test]
    fn panics_at_one_place_are_logged_once_a_minute() {
        let start = Instant::now();
        assert!(is_due("a.rs:1", start));
        assert!(!is_due("a.rs:1", start + LOG_INTERVAL / 2));
        assert!(is_due("b.rs:1", start + LOG_INTERVAL / 2));
        assert!(is_due("a.rs:1", start + LOG_INTERVAL));
    }

    #[test]
    fn the_hook_keeps_the_place_for_the_task_that_catches_the_panic() {
        install_hook(std::panic::take_hook());
        let caught = poll_caught(pin!(async { fault() }), &mut Context::from_waker(std::task::Waker::noop()));
        let Poll::Ready(Err(panic)) = caught else { panic!("{caught:?}") };
        assert!(panic.location.starts_with("src/tasks.rs:"), "{}", panic.location);
        assert!(!CAUGHT.get());
    }
}
