//! The profile as a YAML file: one line for each feature, so that people can read and compare it.
mod cursor;
mod read;
#[cfg(test)]
mod tests;
mod write;

use std::fmt;

use super::Profile;
use crate::yaml::Place;

/// A longer file is refused before it is parsed. A profile of 4,096 features with all their values
/// is smaller.
pub const MAX_FILE_BYTES: usize = 64 << 20;
/// The format that is written, and the only one that is read.
const VERSION: u64 = 1;
/// Keys and values of a file; an input of 4,096 features needs 120,000.
const MAX_NODES: usize = 8_000_000;
/// Problems that are reported. A file with more is another kind of file.
const MAX_PROBLEMS: usize = 20;

/// One mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Such as `inputs.x.features[3].min`; empty for the document itself.
    pub key: String,
    pub place: Place,
    /// What is wrong, and what to do about it.
    pub text: String,
}

/// The mistakes in a file, at least one, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl std::error::Error for Problems {}

/// A line for each: `3:9: key: what is wrong`. The name of the file can be put before each line.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let new_line = if index == 0 { "" } else { "\n" };
            write!(f, "{new_line}{problem}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.place.line, self.place.column)?;
        if !self.key.is_empty() {
            write!(f, "`{}`: ", self.key)?;
        }
        f.write_str(&self.text)
    }
}

impl Profile {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it, with keys and places. Numbers that contradict each other are refused,
    /// such as a minimum above the maximum.
    pub fn from_yaml(text: &str) -> Result<Self, Problems> {
        read::profile(text).map_err(Problems)
    }

    /// The file that [`Profile::from_yaml`] reads. Ends with a new line.
    pub fn to_yaml(&self) -> String {
        write::profile(self)
    }
}
