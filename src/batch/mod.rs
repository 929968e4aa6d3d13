//! Batching: which requests may share a run of the model, when a run starts, what it carries, and
//! what each request gets back. Pure: time is passed in.
//!
//! A *run* is one call to TF Serving that several requests, its *members*, share. A [`Part`] is
//! what one request brings to it, and [`key()`] says whose parts fit together. The [`Queue`] holds
//! the requests of one signature that wait for a run; its tuners learn how many runs should be in
//! flight and how many rows they should have. [`join()`] makes one message of the members' parts,
//! and [`Slicer`] cuts the answer into theirs. [`compare()`] checks a slice against the answer of
//! a lone run, and [`identical`] against that of a run of [`copies`].
mod compare;
mod join;
mod key;
mod part;
mod queue;
mod settings;
mod sharable;
mod slice;
#[cfg(test)]
mod tests;
mod tuner;
mod values;

pub(crate) use compare::{compare, identical};
pub(crate) use join::{copies, is_of_copies, join};
pub(crate) use key::key;
pub(crate) use part::{MAX_EXPANSION, Part, expansion};
pub(crate) use queue::{Cause, Entry, Formed, Queue, Refusal, Request, RunId};
pub(crate) use settings::Settings;
pub(crate) use sharable::{Bypass, Fixed, declared_rows, sharable};
pub(crate) use slice::Slicer;
pub(crate) use tuner::Learned;
