//! Log lines on stderr, as text for people or JSON for machines.
use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::LogFormat;

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("expected a log filter such as `info` or `info,tfs_sidecar=debug`, got `{filter}`")]
    Filter { filter: String },
    #[error("expected to set up logging first, found it set up already")]
    Twice,
}

/// Starts logging to stderr: coloured only on a terminal. `filter` is a level, or
/// `target=level,...`.
pub fn init(format: LogFormat, filter: &str) -> Result<(), LogError> {
    let dispatch = dispatch(format, filter, std::io::stderr().is_terminal(), std::io::stderr)?;
    tracing::dispatcher::set_global_default(dispatch).map_err(|_| LogError::Twice)
}

/// Whether a text is a filter that [`init`] takes.
pub fn check(filter: &str) -> Result<(), LogError> {
    parse(filter).map(drop)
}

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    let wrong = || LogError::Filter { filter: filter.to_owned() };
    // `EnvFilter` takes any word for a target that is to be logged in full; a misspelt level must
    // not become one.
    let misspelt = |part: &str| {
        let word = part.trim();
        let level = !word.is_empty() && word.parse::<tracing_subscriber::filter::LevelFilter>().is_ok();
        !level && !word.contains(['=', ':', '[']) && word != "tfs_sidecar"
    };
    if filter.split(',').any(misspelt) {
        return Err(wrong());
    }
    EnvFilter::builder().parse(filter).map_err(|_| wrong())
}

fn dispatch<W>(
    format: LogFormat,
    filter: &str,
    colour: bool,
    writer: W,
) -> Result<tracing::Dispatch, LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder =
        tracing_subscriber::fmt().with_env_filter(parse(filter)?).with_writer(writer).with_target(false);
    Ok(match format {
        LogFormat::Text => builder.with_ansi(colour).into(),
        LogFormat::Json => {
            builder.with_ansi(false).json().flatten_event(true).with_current_span(false).into()
        }
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

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
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let dispatch = dispatch(format, filter, false, move || writer.clone()).unwrap();
        tracing::dispatcher::with_default(&dispatch, || {
            tracing::info!(server = "grpc", addr = "127.0.0.1:1", "listening");
            tracing::debug!("detail");
        });
        String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn text_is_one_plain_line_an_event() {
        let text = written(LogFormat::Text, "info");
        assert!(text.ends_with("INFO listening server=\"grpc\" addr=\"127.0.0.1:1\"\n"), "{text:?}");
        assert!(!text.contains('\u{1b}'));
        assert!(written(LogFormat::Text, "info,tfs_sidecar=debug").contains("detail"));
    }

    #[test]
    fn json_has_the_fields_at_the_top() {
        let line: serde_json::Value = serde_json::from_str(&written(LogFormat::Json, "info")).unwrap();
        assert_eq!(
            (&line["message"], &line["server"], &line["level"]),
            (&"listening".into(), &"grpc".into(), &"INFO".into())
        );
    }

    #[test]
    fn a_misspelt_filter_is_an_error() {
        for filter in ["inof", "a=b=c", "tfs_sidecar=loud", ""] {
            assert!(check(filter).is_err(), "{filter}");
        }
        for filter in ["warn", "off", "info,h2=debug", "tfs_sidecar::listener=trace"] {
            assert!(check(filter).is_ok(), "{filter}");
        }
    }
}
