//! Notices that files have changed, by their contents.
//!
//! Notifications of the kernel do not arrive for network volumes, and for a ConfigMap they are
//! about the links of its folder. Reading a few small files every second works everywhere.
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Bytes of a file that are compared.
const MAX_READ: u64 = 16 << 20;

/// What some files contain, as digests, or why they cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Files(BTreeMap<PathBuf, Result<u64, io::ErrorKind>>);

/// Files and what was last seen of them.
#[derive(Debug, Default)]
pub(super) struct Watched {
    used: Files,
    last: Files,
}

impl Files {
    pub(super) fn read(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let read = |path: PathBuf| {
            let digest = digest(&path).map_err(|error| error.kind());
            (path, digest)
        };
        Self(paths.into_iter().map(read).collect())
    }
}

impl Watched {
    /// Starts with files that are in use.
    pub(super) fn new(used: Files) -> Self {
        Self { last: used.clone(), used }
    }

    /// Whether the files differ from those in use. They must have been the same twice: the first
    /// time, one may still be written, or its key may not be there yet. Files that have changed
    /// count as used from then on, whether or not they can be.
    pub(super) fn is_changed(&mut self, now: Files) -> bool {
        let is_settled = self.last == now;
        self.last = now;
        if !is_settled || self.last == self.used {
            return false;
        }
        self.used = self.last.clone();
        true
    }

    /// Files that are used from now on.
    pub(super) fn use_now(&mut self, files: Files) {
        *self = Self::new(files);
    }
}

fn digest(path: &Path) -> io::Result<u64> {
    let mut content = Vec::new();
    std::fs::File::open(path)?.take(MAX_READ).read_to_end(&mut content)?;
    let mut hasher = DefaultHasher::new();
    hasher.write(&content);
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(content: u64) -> Files {
        Files(BTreeMap::from([(PathBuf::from("a"), Ok(content))]))
    }

    #[test]
    fn a_change_counts_once_it_was_seen_twice() {
        let mut watched = Watched::new(files(1));
        assert!(!watched.is_changed(files(1)));
        assert!(!watched.is_changed(files(2)), "it may still be written");
        assert!(!watched.is_changed(files(3)));
        assert!(watched.is_changed(files(3)));
        assert!(!watched.is_changed(files(3)), "used, even if it was refused");
        assert!(!watched.is_changed(files(1)));
        assert!(watched.is_changed(files(1)));
    }

    #[test]
    fn a_change_that_is_taken_back_at_once_is_none() {
        let mut watched = Watched::new(files(1));
        assert!(!watched.is_changed(files(2)));
        assert!(!watched.is_changed(files(1)));
        assert!(!watched.is_changed(files(1)));
    }

    #[test]
    fn contents_are_compared_and_links_followed() {
        let folder = std::env::temp_dir().join(format!("tfs-sidecar-{}-files", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (one, two, link) = (folder.join("one"), folder.join("two"), folder.join("link"));
        std::fs::write(&one, "1").unwrap();
        std::fs::write(&two, "2").unwrap();
        let seen = || Files::read([link.clone()]);
        assert_eq!(seen().0[&link], Err(io::ErrorKind::NotFound));
        std::os::unix::fs::symlink(&one, &link).unwrap();
        let before = seen();
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(&two, &link).unwrap();
        assert_ne!(seen(), before);
        std::fs::write(&two, "1").unwrap();
        assert_eq!(seen(), before);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
