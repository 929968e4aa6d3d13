//! The profiles that a configuration names: files of their own, read after it.
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Config, Problem, Problems};
use crate::profile::{self, MAX_FILE_BYTES, Profile};
use crate::repair::policy::{Policy, ProfileFile, ReadProfile};
use crate::repair::transform;

/// The files with profiles.
pub(crate) fn files(config: &Config) -> Vec<PathBuf> {
    let all = config
        .models
        .values()
        .flat_map(|model| [&model.defaults].into_iter().chain(model.signatures.values()));
    let mut paths: Vec<PathBuf> =
        all.filter_map(|policy| Some(policy.profile.as_ref()?.path.clone())).collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}

/// Reads the profiles.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn require(config: &mut Config) -> Result<(), Problems> {
    let list = read(config);
    if list.is_empty() { Ok(()) } else { Err(Problems { file: None, list }) }
}

/// Reads the profiles, each file once. Returns what is wrong with them; a profile that cannot be
/// used is left out.
pub(crate) fn read(config: &mut Config) -> Vec<Problem> {
    let mut known: BTreeMap<PathBuf, Result<ReadProfile, ()>> = BTreeMap::new();
    let mut problems = Vec::new();
    for (name, model) in &mut config.models {
        let key = format!("models.{name}.profile");
        attach(&mut model.defaults, &key, &mut known, &mut problems);
        for (signature, policy) in &mut model.signatures {
            let key = format!("models.{name}.signatures.{signature}.profile");
            attach(policy, &key, &mut known, &mut problems);
        }
    }
    problems
}

/// Sets what the file of a policy says. A file is a problem of the first key that names it.
fn attach(
    policy: &mut Policy,
    key: &str,
    known: &mut BTreeMap<PathBuf, Result<ReadProfile, ()>>,
    problems: &mut Vec<Problem>,
) {
    let Some(ProfileFile { path, read }) = &mut policy.profile else { return };
    let found = known.entry(path.clone()).or_insert_with(|| {
        read_file(path)
            .map_err(|texts| problems.extend(texts.into_iter().map(|text| Problem::new(key, text))))
    });
    *read = found.as_ref().ok().cloned();
    transform::bind(&mut policy.inputs, read.as_ref().map(|read| &*read.profile));
}

/// # Errors
/// Every problem, with the name of the file.
fn read_file(path: &Path) -> Result<ReadProfile, Vec<String>> {
    let shown = path.display();
    let cannot = |error: std::io::Error| vec![format!("cannot read `{shown}`: {error}")];
    let file = std::fs::File::open(path).map_err(cannot)?;
    let mut text = String::new();
    file.take(MAX_FILE_BYTES as u64 + 1).read_to_string(&mut text).map_err(cannot)?;
    let lines = |problems: profile::Problems| {
        problems.0.iter().map(|problem| format!("{shown}:{problem}")).collect::<Vec<_>>()
    };
    let profile = Profile::from_yaml(&text).map_err(lines)?;
    let mut hasher = DefaultHasher::new();
    hasher.write(text.as_bytes());
    Ok(ReadProfile { digest: hasher.finish(), profile: Arc::new(profile) })
}
