//! Opens a file, finds out its format and reads it.
use std::fs::File;
use std::io::{BufRead, Read as _};
use std::path::Path;

use bytes::Bytes;

use super::collect::Collector;
use super::example::Buffers;
use super::given::Given;
use super::input::{self, Counted};
use super::table::Table;
use super::{Fault, csv, example, json_lines, npy, npz, prediction_log, tfdv, tfrecord};
use crate::wire::Rope;

/// Bytes of statistics that are no TFRecord file.
const MAX_STATISTICS: u64 = 256 << 20;

/// The formats that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Npy,
    Npz,
    Csv,
    JsonLines,
    /// Records of `tf.Example` or of `PredictionLog`.
    Tfrecord,
    /// Statistics of TensorFlow Data Validation, as a message or in a TFRecord file.
    Tfdv,
    #[cfg(feature = "parquet")]
    Parquet,
}

impl Format {
    /// By the name, without `.gz`.
    pub fn of_name(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
        Some(match name {
            _ if ends(&[".npy"]) => Self::Npy,
            _ if ends(&[".npz"]) => Self::Npz,
            _ if ends(&[".csv", ".tsv"]) => Self::Csv,
            _ if ends(&[".jsonl", ".ndjson", ".json"]) => Self::JsonLines,
            // TFX names the files of its component StatisticsGen like this.
            _ if ends(&["featurestats.pb", "stats_tfrecord", "stats.tfrecord", ".stats.pb"]) => Self::Tfdv,
            #[cfg(feature = "parquet")]
            _ if ends(&[".parquet"]) => Self::Parquet,
            // Shards are called `train.tfrecord-00000-of-00010`.
            _ if ends(&["tf_serving_warmup_requests", ".tfrecords", ".tfrecord", ".tfrec"])
                || name.contains(".tfrecord") =>
            {
                Self::Tfrecord
            }
            _ => return None,
        })
    }
}

/// Reads a file. `progress` is told the number of its bytes that are read.
///
/// # Errors
/// If it cannot be opened, or what is in it cannot be read.
pub fn read_file(
    path: &Path,
    format: Option<Format>,
    collector: &mut Collector,
    progress: &mut dyn FnMut(u64),
) -> Result<(), Fault> {
    let format = format.or_else(|| Format::of_name(path)).ok_or_else(|| {
        if path.extension().is_some_and(|ending| ending == "parquet") {
            return Fault::new("unknown ending (Parquet needs a program built with --features parquet)");
        }
        Fault::new("unknown ending (expected .npy, .npz, .csv, .tsv, .jsonl or .tfrecord; name the format with --format)")
    })?;
    let file = File::open(path)?;
    match format {
        Format::Npz => return npz::read(file, collector, progress),
        #[cfg(feature = "parquet")]
        Format::Parquet => return super::parquet::read(file, collector, progress),
        _ => {}
    }
    read_stream(&mut *input::open(Counted::new(file, progress))?, format, collector)
}

/// Reads what is in a file, not compressed.
///
/// # Errors
/// If it cannot be read. Archives and Parquet need a file.
pub fn read_stream(reader: &mut dyn BufRead, format: Format, collector: &mut Collector) -> Result<(), Fault> {
    match format {
        Format::Npy => {
            let name = collector.options.input.clone();
            let name =
                name.ok_or_else(|| Fault::new("an array has no name (name its input with --input)"))?;
            npy::read(reader, &name, collector)
        }
        Format::Csv => csv::read(reader, collector),
        Format::JsonLines => json_lines::read(reader, collector),
        Format::Tfrecord => records(reader, collector),
        Format::Tfdv => statistics(reader, collector),
        Format::Npz => Err(Fault::new("an archive needs a file")),
        #[cfg(feature = "parquet")]
        Format::Parquet => Err(Fault::new("Parquet needs a file")),
    }
}

/// Statistics in a TFRecord file, or as a message alone.
fn statistics(reader: &mut dyn BufRead, collector: &mut Collector) -> Result<(), Fault> {
    let mut given = Given::default();
    if tfrecord::is_one(reader)? {
        tfrecord::read(reader, &mut |record| {
            tfdv::read(&std::iter::once(Bytes::from(std::mem::take(record))).collect(), &mut given)
        })?;
    } else {
        let mut bytes = Vec::new();
        reader.take(MAX_STATISTICS + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_STATISTICS {
            return Err(Fault::new(format!("the statistics are longer than {MAX_STATISTICS} bytes")));
        }
        tfdv::read(&std::iter::once(Bytes::from(bytes)).collect(), &mut given)?;
    }
    given.finish(collector)
}

/// What the records of a file are, once the first has been seen.
enum Records<'a> {
    Unknown(&'a mut Collector),
    Examples(Table<'a>),
    Logs(&'a mut Collector),
}

fn records(reader: &mut dyn BufRead, collector: &mut Collector) -> Result<(), Fault> {
    let mut buffers = Buffers::default();
    let mut state = Some(Records::Unknown(collector));
    tfrecord::read(reader, &mut |record| {
        let message: Rope = std::iter::once(Bytes::from(std::mem::take(record))).collect();
        let mut kind = match state.take() {
            Some(Records::Unknown(collector)) if prediction_log::is_log(&message) => Records::Logs(collector),
            Some(Records::Unknown(collector)) => Records::Examples(Table::new(collector)),
            Some(known) => known,
            None => return Ok(()),
        };
        let added = match &mut kind {
            Records::Examples(table) => example::row(&message, table, &mut buffers),
            Records::Logs(collector) => prediction_log::read(&message, collector, &mut buffers),
            Records::Unknown(_) => Ok(()),
        };
        state = Some(kind);
        added
    })?;
    if let Some(Records::Examples(table)) = state { table.finish() } else { Ok(()) }
}
