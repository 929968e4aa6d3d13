//! The operations of TensorFlow 2.4 to 2.21, and what a graph needs of them.
//!
//! `table.bin` is written by `tools/op_tables/generate.py` from TensorFlow's own registries, and
//! compressed. Its text:
//! ```text
//! table   := release* op*
//! release := "#" version " " (its GraphDef version) " " ("1" if it ignores unknown attributes) LF
//! op      := name " " span (" " attr)* LF
//! span    := (letter of the first release that has it) (letter of the last)
//! attr    := name ["!" if it has no default, "~" if that is false, 0 or empty] ["@" span, if not that of the op] ["=" mask (";" mask)*]
//! mask    := (letter of the first release) (the dtypes that it may be, one bit each; 0 is any)
//! ```
mod check;
mod custom;
mod error;

use std::fmt;
use std::io::Read as _;
use std::sync::LazyLock;

pub use check::{check, oldest};
pub use custom::{Package, package_of};
pub use error::of_error;

static COMPRESSED: &[u8] = include_bytes!("table.bin");

/// More than any table needs, so that a damaged one does not fill the memory.
const MAX_TEXT: u64 = 4 << 20;

static TEXT: LazyLock<String> = LazyLock::new(|| {
    let mut text = String::new();
    // The file is part of the program; tests read it.
    flate2::read::ZlibDecoder::new(COMPRESSED).take(MAX_TEXT).read_to_string(&mut text).ok();
    text
});

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let (releases, ops) = TEXT.lines().partition(|line| line.starts_with('#'));
    Table { releases, ops }
});

struct Table {
    releases: Vec<&'static str>,
    /// Sorted by name.
    ops: Vec<&'static str>,
}

/// A minor release of TensorFlow that the table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release(u8);

/// Why a version is not in the table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    #[error("expected a TensorFlow version such as `2.15`, got `{0}`")]
    Invalid(String),
    #[error("TensorFlow {0} is older than 2.4, the oldest whose operations are known")]
    Old(String),
}

impl Release {
    /// All releases, the oldest first.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> {
        (0..TABLE.releases.len() as u8).map(Self)
    }

    /// The release of a version such as `2.15`, `2.15.1` or `2.16.0-rc1`, and whether the table has
    /// it. For a version that is newer than the table, this is the newest.
    ///
    /// # Errors
    /// If it is not a version, or is older than the table.
    pub fn parse(version: &str) -> Result<(Self, bool), VersionError> {
        let invalid = || VersionError::Invalid(version.to_owned());
        let mut parts = version.trim_start_matches('v').split(['.', '-', 'r']);
        let mut number = || parts.next().and_then(|part| part.parse::<u32>().ok());
        let (Some(major), Some(minor)) = (number(), number()) else { return Err(invalid()) };
        let wanted = (major, minor);
        let mut newest = None;
        for release in Self::all() {
            if wanted < release.numbers() && newest.is_none() {
                return Err(VersionError::Old(version.to_owned()));
            }
            newest = Some((release, wanted == release.numbers()));
            if wanted == release.numbers() {
                break;
            }
        }
        newest.ok_or_else(invalid)
    }

    fn line(self) -> &'static str {
        TABLE.releases.get(usize::from(self.0)).copied().unwrap_or_default().trim_start_matches('#')
    }

    /// Major and minor number.
    fn numbers(self) -> (u32, u32) {
        let mut parts = self.line().split(['.', ' ']).map(|part| part.parse().unwrap_or_default());
        (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
    }

    /// `TF_GRAPH_DEF_VERSION` (core/public/version.h).
    pub fn graph_version(self) -> i64 {
        self.line().split(' ').nth(1).and_then(|number| number.parse().ok()).unwrap_or_default()
    }

    /// Whether it ignores an attribute that its operation does not have, as TensorFlow does since
    /// 2.5 (core/framework/node_def_util.cc, `ValidateNodeDef`).
    pub fn ignores_attributes(self) -> bool {
        self.line().ends_with(" 1")
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.numbers();
        write!(f, "{major}.{minor}")
    }
}

/// An operation of TensorFlow.
#[derive(Debug, Clone, Copy)]
pub struct Op {
    pub name: &'static str,
    pub first: Release,
    pub last: Release,
    attrs: &'static str,
}

/// An attribute of an operation.
#[derive(Debug, Clone, Copy)]
pub struct OpAttr {
    pub name: &'static str,
    pub first: Release,
    pub last: Release,
    pub has_default: bool,
    /// Whether its default is false, 0 or empty.
    pub is_zero: bool,
    masks: &'static str,
}

impl Op {
    /// The operation of this name; `None` if no release has it.
    pub fn find(name: &str) -> Option<Self> {
        let at = TABLE.ops.binary_search_by(|line| line.split(' ').next().unwrap_or(line).cmp(name)).ok()?;
        let mut parts = TABLE.ops.get(at)?.splitn(3, ' ');
        let name = parts.next()?;
        let (first, last) = span(parts.next()?)?;
        Some(Self { name, first, last, attrs: parts.next().unwrap_or_default() })
    }

    pub fn is_in(self, release: Release) -> bool {
        (self.first..=self.last).contains(&release)
    }

    /// Its attributes in all releases.
    pub fn attrs(self) -> impl Iterator<Item = OpAttr> {
        self.attrs.split(' ').filter(|word| !word.is_empty()).filter_map(move |word| {
            let (head, masks) = word.split_once('=').unwrap_or((word, ""));
            let (head, own) = head.split_once('@').unwrap_or((head, ""));
            let name = head.trim_end_matches(['!', '~']);
            let (first, last) = if own.is_empty() { (self.first, self.last) } else { span(own)? };
            let (has_default, is_zero) = (!head.ends_with('!'), head.ends_with('~'));
            Some(OpAttr { name, first, last, has_default, is_zero, masks })
        })
    }

    pub fn attr(self, name: &str) -> Option<OpAttr> {
        self.attrs().find(|attr| attr.name == name)
    }
}

impl OpAttr {
    pub fn is_in(self, release: Release) -> bool {
        (self.first..=self.last).contains(&release)
    }

    /// The dtypes that it may be in a release, one bit each; all if there is no restriction.
    pub fn types(self, release: Release) -> u64 {
        let masks = self.masks.split(';').filter_map(|mask| {
            let since = letter(mask.as_bytes().first().copied()?)?;
            Some((since, u64::from_str_radix(mask.get(1..)?, 16).ok()?))
        });
        let own = masks.take_while(|(since, _)| *since <= release).last().map_or(0, |(_, mask)| mask);
        if own == 0 { u64::MAX } else { own }
    }
}

fn span(text: &str) -> Option<(Release, Release)> {
    match *text.as_bytes() {
        [first, last] => Some((letter(first)?, letter(last)?)),
        _ => None,
    }
}

fn letter(byte: u8) -> Option<Release> {
    byte.is_ascii_lowercase().then(|| Release(byte - b'a'))
}

#[cfg(test)]
mod tests;
