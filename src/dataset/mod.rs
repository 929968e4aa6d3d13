//! Reads training data of the usual file formats as a stream, into the statistics of a profile.
mod collect;
mod csv;
mod example;
mod fault;
mod file;
mod given;
mod input;
mod json_lines;
mod npy;
mod npz;
#[cfg(feature = "parquet")]
mod parquet;
mod prediction_log;
mod scaler;
mod schema;
#[cfg(test)]
mod statistics_tests;
mod table;
#[cfg(test)]
mod tests;
mod text_format;
mod tfdv;
pub mod tfrecord;

pub use collect::{Collector, Direction, Options, Side, Tensor};
pub use fault::{Fault, Place};
pub use file::{Format, read_file, read_stream};
pub use scaler::read_scaler;
pub use schema::{MAX_SCHEMA_BYTES, Schema};
