//! What the operator says about the training data of a model: its profile, and what happens to
//! requests whose values do not look like it.
use std::path::PathBuf;
use std::sync::Arc;

use crate::profile::Profile;

/// A file with a profile, and what it says.
#[derive(Debug, Clone)]
pub struct ProfileFile {
    pub path: PathBuf,
    /// `None` before the file is read.
    pub read: Option<ReadProfile>,
}

/// What a file says.
#[derive(Debug, Clone)]
pub struct ReadProfile {
    /// Of the text of the file: texts with the same digest count as the same.
    pub digest: u64,
    pub profile: Arc<Profile>,
}

impl ProfileFile {
    /// The file at a path, not read yet.
    pub fn at(path: PathBuf) -> Self {
        Self { path, read: None }
    }
}

impl PartialEq for ProfileFile {
    fn eq(&self, other: &Self) -> bool {
        let digest = |file: &Self| file.read.as_ref().map(|read| read.digest);
        self.path == other.path && digest(self) == digest(other)
    }
}

/// What happens to requests whose values do not look like the training data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFinding {
    /// They are not looked at.
    Off,
    /// They are forwarded with a warning.
    #[default]
    Warn,
    /// They are refused.
    Refuse,
}

/// How values are compared with the profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProfileCheck {
    pub on_finding: OnFinding,
    /// Values of one input of one request that are looked at.
    pub budget: u32,
    /// Rows of one request that are looked at.
    pub sample: u32,
    /// One answer in so many is looked at; 0 for none.
    pub answers: u32,
}

impl Default for ProfileCheck {
    fn default() -> Self {
        Self { on_finding: OnFinding::default(), budget: 4096, sample: 64, answers: 64 }
    }
}
