//! Logging to stderr, as text or JSON.
mod filter;
mod line;
mod names;
mod second;

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;

use crate::config::LogFormat;
pub(crate) use filter::FILTER;
use filter::SetFilter;
use line::Line;

/// Why logging cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("expected a log filter such as `info` or `info,tfs_sidecar=debug`, got `{filter}`")]
    Filter { filter: String },
    #[error("logging is already set up")]
    AlreadySet,
    #[error("this process does not log")]
    NoLogger,
}

/// Lines that may wait for stderr, of 4 KiB at most. Then lines are lost: a reader that stops must
/// not stop the requests.
const MAX_WAITING: usize = 4096;

/// Counts the lines that were lost.
static LOST: OnceLock<ErrorCounter> = OnceLock::new();

/// Starts logging to stderr, in colour on a terminal. `filter` is a level, or `target=level,...`.
/// A thread writes the lines. Dropping the guard writes those that still wait, within a second.
///
/// # Errors
///
/// Fails if `filter` is not valid, or if the process has a logger already.
pub(crate) fn init(format: LogFormat, filter: &str) -> Result<WorkerGuard, LogError> {
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(MAX_WAITING);
    let (writer, guard) = builder.thread_name("log").finish(std::io::stderr());
    let lost = writer.error_counter();
    let (dispatch, set) = dispatch(format, filter, std::io::stderr().is_terminal(), writer)?;
    tracing::dispatcher::set_global_default(dispatch).map_err(|_| LogError::AlreadySet)?;
    FILTER.start(filter, set);
    LOST.set(lost).ok();
    Ok(guard)
}

/// The number of lines that were lost so far, because stderr is not read quickly enough.
pub(crate) fn lost_lines() -> u64 {
    LOST.get().map_or(0, |lost| lost.dropped_lines() as u64)
}

/// Checks that [`init`] accepts `filter`.
///
/// # Errors
///
/// Fails if it does not.
pub(crate) fn check(filter: &str) -> Result<(), LogError> {
    parse(filter).map(drop)
}

pub(super) fn parse(filter: &str) -> Result<Targets, LogError> {
    let wrong = || LogError::Filter { filter: filter.to_owned() };
    // `Targets` reads any unknown word as a target to log in full. A misspelt level must be an
    // error instead.
    let misspelt = |part: &str| {
        let word = part.trim();
        let level = word.parse::<tracing_subscriber::filter::LevelFilter>().is_ok();
        word.is_empty() || word.contains('[') || !level && !word.contains(['=', ':']) && word != "tfs_sidecar"
    };
    if filter.split(',').any(misspelt) {
        return Err(wrong());
    }
    filter.parse().map_err(|_| wrong())
}

/// The logger, and what changes its filter.
fn dispatch<W>(
    format: LogFormat,
    filter: &str,
    colour: bool,
    writer: W,
) -> Result<(tracing::Dispatch, SetFilter), LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = tracing_subscriber::reload::Layer::new(parse(filter)?);
    let lines = fmt::layer()
        .with_writer(writer)
        .with_ansi(colour && format == LogFormat::Text)
        .event_format(Line(format));
    let dispatch = tracing::Dispatch::new(Registry::default().with(lines).with(filter));
    // Fails only if the logger is gone.
    Ok((dispatch, Box::new(move |filter| drop(handle.reload(filter)))))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What `work` logs on this thread.
    pub(crate) fn captured(format: LogFormat, filter: &str, work: impl FnOnce()) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let (dispatch, _) = dispatch(format, filter, false, move || writer.clone()).unwrap();
        tracing::dispatcher::with_default(&dispatch, work);
        String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap()
    }

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn written(format: LogFormat, filter: &str) -> String {
        captured(format, filter, || {
            tracing::info!(server = "grpc", addr = "127.0.0.1:1", "listening");
            tracing::debug!("detail");
        })
    }

    #[test]
    fn a_text_event_is_one_plain_line() {
        let text = written(LogFormat::Text, "info");
        assert!(text.ends_with("INFO listening server=\"grpc\" addr=\"127.0.0.1:1\"\n"), "{text:?}");
        assert!(!text.contains('\u{1b}'));
        assert!(written(LogFormat::Text, "info,tfs_sidecar=debug").contains("detail"));
    }

    #[test]
    fn json_fields_are_at_the_top_level() {
        let line: serde_json::Value = serde_json::from_str(&written(LogFormat::Json, "info")).unwrap();
        assert_eq!(
            (&line["message"], &line["server"], &line["level"]),
            (&"listening".into(), &"grpc".into(), &"INFO".into())
        );
    }

    #[test]
    fn a_misspelt_filter_is_an_error() {
        for filter in ["inof", "a=b=c", "tfs_sidecar=loud", "info,", "", "[span]=info"] {
            assert!(check(filter).is_err(), "{filter}");
        }
        for filter in ["warn", "off", "info,h2=debug", "tfs_sidecar::listener=trace"] {
            assert!(check(filter).is_ok(), "{filter}");
        }
    }
}
