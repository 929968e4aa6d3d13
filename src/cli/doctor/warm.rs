//! Writes a warm-up file from recorded requests, and reads requests from one for a probe.
use std::fs::{self, File};
use std::io::BufReader;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};

use super::disk::Export;
use crate::cli::Failure;
use crate::doctor::files::WARMUP;
use crate::doctor::warmup::{Logged, MAX_RECORDS, conforms, decode, write as encode};
use crate::doctor::{Finding, Level};
use crate::wire::tfrecord::Records;
use crate::wire::{PredictView, Rope};

/// Bytes of a record that is sent as a probe.
const MAX_PROBE: u64 = 64 << 20;

/// Writes the warm-up of an export from files with serialized PredictRequests.
pub(super) fn write(export: &Export, requests: &[PathBuf]) -> Result<Finding, Failure> {
    let meta = export.served().ok_or_else(|| anyhow!("the export has no graph that is served"))?;
    if requests.len() > MAX_RECORDS {
        let error = anyhow!("too many requests: {} (limit {MAX_RECORDS})", requests.len());
        return Err(Failure::usage(error));
    }
    let mut good = Vec::new();
    for path in requests {
        let bytes = fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        let message = Rope::from(bytes);
        conforms(&message, &meta.signatures).map_err(|problem| {
            Failure::from(anyhow!("`{}` does not conform to the signature: {problem}", path.display()))
                .hint("warm-up does not pass the sidecar, so nothing is repaired there")
        })?;
        good.push(message);
    }
    let path = export.path.join(WARMUP);
    let what = || format!("cannot write `{}`", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(what)?;
    }
    // Renamed into place, so that a server which loads meanwhile sees all of it or nothing.
    let part = path.with_extension("tmp");
    fs::write(&part, encode(&good)).and_then(|()| fs::rename(&part, &path)).with_context(what)?;
    Ok(Finding::new(Level::Ok, "warmup", format!("wrote {} records to `{}`", good.len(), path.display())))
}

/// The first request for a signature in the warm-up file of an export.
pub(super) fn recorded(export: &Export, signature: &str) -> Option<Rope> {
    let file = File::open(export.path.join(WARMUP)).ok()?;
    let mut records = Records::new(BufReader::new(file), MAX_PROBE);
    for _ in 0..MAX_RECORDS {
        let record = records.next_record().ok().flatten()?;
        let Ok(Some(Logged::Predict(request))) = decode(record) else { continue };
        let view = PredictView::scan(&request).ok()?;
        if view.model_spec.effective_signature() == signature {
            return Some(request);
        }
    }
    None
}
