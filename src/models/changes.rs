//! What a refresh reports of a model: log lines about what changed, and the inputs for the metrics.
use super::catalog::Entry;
use crate::telemetry::metrics::SignatureInput;

/// Changes that are logged one by one.
const MAX_CHANGES: usize = 64;
/// Inputs of one model that have a series.
const MAX_INPUTS: usize = 4096;

pub(super) fn log_changes(model: &str, before: &Entry, after: &Entry, changes: &[String]) {
    if let Some(more) = changes.len().checked_sub(MAX_CHANGES + 1) {
        tracing::warn!(%model, more = more + 1, "signatures changed, not all are listed");
    }
    for change in changes.iter().take(MAX_CHANGES) {
        tracing::warn!(%model, from = before.latest, to = after.latest, %change, "signature changed");
    }
    if before.latest != after.latest {
        tracing::info!(%model, version = after.latest, "signatures read");
    }
}

/// Every input of every signature in the entry, at most [`MAX_INPUTS`].
pub(super) fn signature_info(entry: &Entry) -> Vec<SignatureInput> {
    let mut inputs = Vec::new();
    for (number, version) in &entry.versions {
        for signature in version.signatures.servable() {
            if inputs.len() >= MAX_INPUTS {
                inputs.truncate(MAX_INPUTS);
                return inputs;
            }
            inputs.extend(signature.inputs.iter().map(|info| SignatureInput {
                version: number.to_string(),
                signature: signature.name.clone(),
                input: info.alias.clone(),
                dtype: info.dtype.name().into_owned(),
                shape: info.shape.to_string(),
            }));
        }
    }
    inputs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LogFormat;
    use crate::telemetry::log::tests::captured;

    fn logged(before: Option<i64>, after: Option<i64>) -> Vec<serde_json::Value> {
        let entry = |latest| Entry { latest, ..Entry::default() };
        let changes = ["input `x` was added".to_owned()];
        let text = captured(LogFormat::Json, "info", || {
            log_changes("m", &entry(before), &entry(after), &changes);
        });
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn versions_are_logged_as_numbers() {
        let [changed, read] = &logged(Some(1), Some(2))[..] else { panic!("two lines") };
        assert_eq!((&changed["from"], &changed["to"]), (&1.into(), &2.into()), "{changed}");
        assert_eq!((&changed["model"], &changed["change"]), (&"m".into(), &"input `x` was added".into()));
        assert_eq!(read["version"], 2, "{read}");
    }

    #[test]
    fn a_version_that_is_not_known_is_left_out_of_the_log() {
        let [changed, read] = &logged(None, Some(2))[..] else { panic!("two lines") };
        assert_eq!((changed.get("from"), &changed["to"]), (None, &2.into()), "{changed}");
        assert_eq!(read["version"], 2, "{read}");
    }
}
