//! Where the configuration comes from: it can be read again while the sidecar runs.
use std::io;
use std::path::{Path, PathBuf};

use super::load::{File, Settings, load};
use super::{Config, Problems};

/// A file, and what the command line and the environment set on top of it.
#[derive(Debug, Clone, Default)]
pub struct Source {
    pub settings: Settings,
    pub path: Option<PathBuf>,
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("cannot read the configuration `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Problems(#[from] Problems),
}

impl Source {
    /// Reads the file, if there is one, and applies the settings.
    ///
    /// # Errors
    /// The file cannot be read, or all problems of the file and the settings.
    pub fn load(&self) -> Result<Config, SourceError> {
        let read = |path: &Path| {
            std::fs::read_to_string(path)
                .map_err(|source| SourceError::Read { path: path.to_owned(), source })
        };
        let text = self.path.as_deref().map(read).transpose()?;
        let name = self.name();
        let file = text.as_deref().zip(name.as_deref()).map(|(text, name)| File { name, text });
        Ok(load(&self.settings, file)?)
    }

    /// The file's name for messages.
    pub fn name(&self) -> Option<String> {
        self.path.as_deref().map(|path| path.display().to_string())
    }
}
