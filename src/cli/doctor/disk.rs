//! Reads a folder for the doctor: its files, its graph, its checkpoint and its warm-up.
use std::fs::{self, File as OpenFile, Metadata};
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};

use crate::cli::Failure;
use crate::doctor::bundle::{Index, MAX_INDEX};
use crate::doctor::files::{self, FINGERPRINT, File, INDEX, Listing, MODEL, WARMUP};
use crate::doctor::ops::{self, Release};
use crate::doctor::saved_model::{MetaGraph, SavedModel};
use crate::doctor::{Actor, Finding, Level, fingerprint, lint, warmup};

/// Files below the folder, and folders in folders.
const MAX_FILES: usize = 100_000;
const MAX_DEPTH: usize = 8;

/// An export that could be read.
pub(in crate::cli) struct Export {
    /// The folder of the version.
    pub(in crate::cli) path: PathBuf,
    pub(in crate::cli) model: SavedModel,
}

impl Export {
    /// The graph that TF Serving serves.
    pub(in crate::cli) fn served(&self) -> Option<&MetaGraph> {
        self.model.served()
    }

    /// The version that the name of the folder says.
    pub(super) fn version(&self) -> Option<i64> {
        let path = self.path.canonicalize().ok()?;
        path.file_name()?.to_string_lossy().parse().ok()
    }
}

/// Checks the export in a folder. Returns it if its graph can be read.
pub(super) fn check(
    path: &Path,
    release: Option<Release>,
    deep: bool,
    findings: &mut Vec<Finding>,
) -> Result<Option<Export>, Failure> {
    let metadata = fs::metadata(path).with_context(|| format!("cannot open `{}`", path.display()));
    let metadata = metadata.map_err(Failure::usage)?;
    if !metadata.is_dir() {
        findings.push(files::not_a_folder(&path.display().to_string(), &head(path)));
        return Ok(None);
    }
    let path = version_of(path);
    let listing = listing(&path)?;
    if !listing.contains_key(MODEL) {
        findings.push(files::not_a_saved_model(&listing));
        return Ok(None);
    }
    let name =
        path.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    findings.extend(name.as_deref().and_then(files::version_folder));
    let export = match OpenFile::open(path.join(MODEL)).map_err(|error| error.to_string()) {
        Ok(file) => SavedModel::read(file).map_err(|error| error.to_string()),
        Err(error) => Err(format!("cannot be opened: {error}")),
    };
    let model = match export {
        Ok(model) => model,
        Err(problem) => {
            let action = "copy the version again under a new number; if that does not help, export it again";
            findings.push(
                Finding::new(Level::Fail, "files", format!("`{MODEL}` {problem}"))
                    .why("TensorFlow Serving does not load it (Can't parse ... as binary proto)")
                    .act(Actor::Platform, action),
            );
            return Ok(None);
        }
    };
    let index = index(&path, findings);
    findings.extend(files::check(&listing, &model, index.as_ref()));
    if let Some(index) = index.as_ref().filter(|_| deep) {
        verify(&path, index, findings);
    }
    let export = Export { path, model };
    if let Some(meta) = export.served() {
        findings.extend(files::versions(meta, release));
        findings.extend(ops::check(meta, release));
        findings.extend(lint::check(meta));
        match OpenFile::open(export.path.join(WARMUP)) {
            Ok(file) => findings.extend(warmup::check(BufReader::new(file), &meta.signatures)),
            Err(_) => findings.push(warmup::missing("the export has no warm-up")),
        }
    }
    Ok(Some(export))
}

/// The folder of the highest version, if this is a base path.
fn version_of(path: &Path) -> PathBuf {
    if path.join(MODEL).exists() {
        return path.to_owned();
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten().take(MAX_FILES);
    let versions = entries.filter_map(|entry| {
        let version: i64 = entry.file_name().to_string_lossy().parse().ok()?;
        entry.path().is_dir().then(|| (version, entry.path()))
    });
    versions.max().map_or_else(|| path.to_owned(), |(_, path)| path)
}

fn head(path: &Path) -> Vec<u8> {
    let mut head = Vec::new();
    if let Ok(file) = OpenFile::open(path) {
        file.take(8).read_to_end(&mut head).ok();
    }
    head
}

/// The files below a folder, folder by folder.
fn listing(path: &Path) -> Result<Listing, Failure> {
    let mut listing = Listing::new();
    let mut folders = vec![(path.to_owned(), String::new(), 0)];
    while let Some((folder, prefix, depth)) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if depth == 0 => {
                return Err(anyhow!(error).context(format!("cannot open `{}`", folder.display())).into());
            }
            Err(_) => {
                listing.insert(prefix, File { bytes: 0, is_readable: false, is_private: true });
                continue;
            }
        };
        for entry in entries.flatten() {
            let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
            // Follows links, as TensorFlow does.
            match fs::metadata(entry.path()) {
                Ok(metadata) if metadata.is_dir() && depth < MAX_DEPTH => {
                    folders.push((entry.path(), format!("{path}/"), depth + 1));
                }
                Ok(metadata) if metadata.is_dir() => {}
                Ok(metadata) => {
                    let is_readable = OpenFile::open(entry.path()).is_ok();
                    let file = File { bytes: metadata.len(), is_readable, is_private: is_private(&metadata) };
                    listing.insert(path, file);
                }
                Err(_) => {
                    listing.insert(path, File { bytes: 0, is_readable: false, is_private: false });
                }
            }
            if listing.len() >= MAX_FILES {
                return Err(anyhow!(
                    "there are too many files in `{}` (limit {MAX_FILES})",
                    folder.display()
                )
                .into());
            }
        }
    }
    Ok(listing)
}

fn is_private(metadata: &Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = metadata.permissions().mode();
    let (group, others) = (mode >> 3 & 0o7, mode & 0o7);
    group == 0 && others == 0
}

/// The index of the variables, if there is one that can be read.
fn index(path: &Path, findings: &mut Vec<Finding>) -> Option<Index> {
    let file = OpenFile::open(path.join(INDEX)).ok()?;
    let mut bytes = Vec::new();
    let problem = match file.take(MAX_INDEX + 1).read_to_end(&mut bytes) {
        Ok(_) if bytes.len() as u64 > MAX_INDEX => format!("is larger than {MAX_INDEX} bytes"),
        Ok(_) => match Index::read(&bytes) {
            Ok(index) => {
                // Exports of TensorFlow 1, and those before 2.12, have none.
                if let Ok(file) = OpenFile::open(path.join(FINGERPRINT)) {
                    findings.extend(fingerprint::check(fingerprint::checkpoint_hash(file), &bytes));
                }
                return Some(index);
            }
            Err(error) => error.to_string(),
        },
        Err(error) => format!("cannot be read: {error}"),
    };
    let action = "copy the version again under a new number";
    findings.push(
        Finding::new(Level::Fail, "files", format!("`{INDEX}` {problem}"))
            .why("the version does not load")
            .act(Actor::Platform, action),
    );
    None
}

/// Compares the bytes of every tensor with its checksum.
fn verify(path: &Path, index: &Index, findings: &mut Vec<Finding>) {
    let action = "copy the version again under a new number";
    let mut damaged = 0;
    for shard in 0..index.shards {
        let name = format!("variables/variables.data-{shard:05}-of-{:05}", index.shards);
        // A shard that is missing has its own finding.
        let Ok(file) = OpenFile::open(path.join(&name)) else { continue };
        let what = match index.damaged(shard, file) {
            Ok(tensors) => match tensors.first() {
                Some(first) => {
                    format!("{} tensors in `{name}` are damaged, the first is `{first}`", tensors.len())
                }
                None => continue,
            },
            Err(error) => format!("`{name}` cannot be read: {error}"),
        };
        damaged += 1;
        findings.push(
            Finding::new(Level::Fail, "files", what)
                .why("the version does not load (Checksum does not match)")
                .act(Actor::Platform, action),
        );
    }
    if damaged == 0 {
        let what = format!("the checksums of {} tensors match", index.tensors.len());
        findings.push(Finding::new(Level::Ok, "files", what));
    }
}
