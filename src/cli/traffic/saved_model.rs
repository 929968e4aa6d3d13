//! Opens the SavedModel in a directory.
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};

use crate::cli::Failure;
use crate::doctor::{MetaGraph, SavedModel};

const FILE: &str = "saved_model.pb";
/// Entries of a directory that are looked at.
const MAX_ENTRIES: usize = 100_000;

/// A version of a model on disk.
#[derive(Debug)]
pub(in crate::cli) struct OnDisk {
    /// The name of the directory, if it is that of a version.
    pub version: Option<i64>,
    /// The name of the directory of the model.
    pub model: Option<String>,
    pub graph: MetaGraph,
}

/// Reads the SavedModel in the directory of a version, or the one with the highest number in that
/// of a model.
pub(in crate::cli) fn open(directory: &Path) -> Result<OnDisk, Failure> {
    let directory = version_directory(directory)?;
    let path = directory.join(FILE);
    let context = || format!("cannot read `{}`", path.display());
    let file = File::open(&path).with_context(context).map_err(Failure::usage)?;
    let model = SavedModel::read(BufReader::new(file)).with_context(context).map_err(Failure::usage)?;
    let tags = |graph: &MetaGraph| graph.tags == ["serve"];
    let graph = model.meta_graphs.into_iter().find(tags).ok_or_else(|| {
        Failure::usage(anyhow!("`{}` has no graph with the tag `serve`", path.display()))
            .hint("TF Serving loads the graph whose only tag is `serve`")
    })?;
    // Of a relative path, too.
    let directory = directory.canonicalize().with_context(context)?;
    let name = |path: Option<&Path>| Some(path?.file_name()?.to_string_lossy().into_owned());
    let version = name(Some(&directory)).and_then(|name| name.parse().ok());
    let model = if version.is_some() { name(directory.parent()) } else { name(Some(&directory)) };
    Ok(OnDisk { version, model, graph })
}

fn version_directory(directory: &Path) -> Result<PathBuf, Failure> {
    if directory.join(FILE).exists() {
        return Ok(directory.to_owned());
    }
    let entries = std::fs::read_dir(directory)
        .with_context(|| format!("cannot read `{}`", directory.display()))
        .map_err(Failure::usage)?;
    let version = |path: PathBuf| {
        let number: u64 = path.file_name()?.to_str()?.parse().ok()?;
        path.join(FILE).exists().then_some((number, path))
    };
    let paths = entries.take(MAX_ENTRIES).filter_map(|entry| Some(entry.ok()?.path()));
    let highest = paths.filter_map(version).max();
    highest.map(|(_, path)| path).ok_or_else(|| {
        let shown = directory.display();
        Failure::usage(anyhow!("`{shown}` has no `{FILE}`, nor a version's directory that has one"))
    })
}
