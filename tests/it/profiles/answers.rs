//! Answers that are NaN, or the same for different requests.
use super::{MODEL, Profiled, scaled};
use crate::support::fake_tfs::Act;
use crate::support::random::Random;
use crate::support::requests::PREDICT;
