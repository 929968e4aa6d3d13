//! Reads training data of the usual file formats as a stream, into the statistics of a profile.
mod collect;
mod csv;
mod example;
mod fault;
mod file;
mod input;
mod json_lines;
pub mod npy;
mod npz;
mod prediction_log;
mod scaler;
mod table;
#[cfg(test)]
mod tests;
pub mod tfrecord;

pub use collect::{Collector, Direction, Options, Side, Tensor};
pub use fault::{Fault, Place};
pub use file::{Format, read_file};
pub use scaler::read_scaler;
