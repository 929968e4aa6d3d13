//! The files of an export: what is missing, cut off, or something else than a SavedModel.
use std::collections::BTreeMap;

use super::bundle::Index;
use super::finding::{Actor, Finding, Level, Text};
use super::ops::Release;
use super::saved_model::{MetaGraph, SavedModel};

const CHECK: &str = "files";
pub const MODEL: &str = "saved_model.pb";
pub const INDEX: &str = "variables/variables.index";
pub const FINGERPRINT: &str = "fingerprint.pb";
pub const WARMUP: &str = "assets.extra/tf_serving_warmup_requests";
const AGAIN: &str = "copy the version again under a new number, and rename the folder to its number only when all files are there";
/// How unfinished copies are called.
const UNFINISHED: &[&str] =
    &[".tmp", ".part", ".partial", ".crdownload", "_.gstmp", "._COPYING_", ".filepart", ".swp"];
/// Files of one kind that are listed one by one.
const MAX_LISTED: usize = 20;

/// One file below the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct File {
    pub bytes: u64,
    /// Whether this process can open it.
    pub is_readable: bool,
    /// Whether only its owner may read it, who need not be the user of TensorFlow Serving.
    pub is_private: bool,
}

/// The files below a folder by path, such as `variables/variables.index`.
pub type Listing = BTreeMap<String, File>;

/// What a file is that was given in place of a folder, by its first bytes and its name.
pub fn not_a_folder(name: &str, head: &[u8]) -> Finding {
    let fail = |what: &str| Finding::new(Level::Fail, CHECK, format!("`{name}` is {what}, not a SavedModel"));
    let load = "keras.models.load_model(PATH).export(\"model/1\")";
    if head.is_empty() {
        return fail("an empty file").act(Actor::Platform, AGAIN);
    }
    if head.starts_with(b"PK") {
        return fail("a Keras 3 file (or another ZIP archive)")
            .act(Actor::Exporter, format!("export it: {load}"));
    }
    if head.starts_with(b"\x89HDF") {
        let action = format!("export it: {load} (weights alone: build the model, load_weights, then export)");
        return fail("an HDF5 file of Keras").act(Actor::Exporter, action);
    }
    if head.get(4..8) == Some(b"TFL3") {
        let action = "export the model that it was converted from: tf.saved_model.save(model, \"model/1\"); TensorFlow Serving runs model.tflite only with --prefer_tflite_model, inside a version folder";
        return fail("a TensorFlow Lite model").act(Actor::Exporter, action);
    }
    if name.ends_with(MODEL) {
        return fail("the file inside one").act(Actor::Platform, "give the folder that holds it");
    }
    if std::path::Path::new(name).extension().is_some_and(|end| end == "pb") {
        let action = "a frozen graph has no signatures: load it with tf.compat.v1.import_graph_def and export it with tf.compat.v1.saved_model.simple_save";
        return fail("a protobuf file, probably a frozen graph").act(Actor::Exporter, action);
    }
    fail("a file").act(Actor::Exporter, "give the folder that tf.saved_model.save wrote")
}

/// What a folder without `saved_model.pb` is.
pub fn not_a_saved_model(files: &Listing) -> Finding {
    let has = |end: &str| files.keys().find(|path| path.ends_with(end));
    let fail = |why: Text| {
        Finding::new(
            Level::Fail,
            CHECK,
            "the folder has no `saved_model.pb`: TensorFlow Serving does not load it",
        )
        .why(why)
    };
    if let Some(text) = has("saved_model.pbtxt") {
        let what = format!(
            "the SavedModel is text (`{text}`), which TensorFlow Serving loads and this check does not read"
        );
        return Finding::new(Level::Warn, CHECK, what).act(Actor::Exporter, "export it as `saved_model.pb`");
    }
    if let Some(chunked) = has("saved_model.cpb") {
        let what =
            format!("the SavedModel is split into chunks (`{chunked}`), which this check does not read");
        return Finding::new(Level::Warn, CHECK, what).act(Actor::Exporter, "");
    }
    for end in [".keras", ".h5", ".hdf5", ".tflite"] {
        if let Some(file) = has(end) {
            let inner = not_a_folder(
                file,
                if end == ".keras" {
                    b"PK"
                } else if end == ".tflite" {
                    b"    TFL3"
                } else {
                    b"\x89HDF"
                },
            );
            return fail(inner.what).act(inner.who, inner.action);
        }
    }
    if has(".meta").is_some() || has("checkpoint").is_some() {
        let action = "restore the checkpoint in a session and export it: tf.compat.v1.saved_model.simple_save(session, \"model/1\", inputs, outputs)";
        return fail("it holds a checkpoint, which has weights and no graph with signatures".into())
            .act(Actor::Exporter, action);
    }
    if files.is_empty() {
        return fail("the folder is empty".into()).act(Actor::Platform, AGAIN);
    }
    if files.contains_key(INDEX) {
        return fail("it has variables: the copy is not complete".into()).act(Actor::Platform, AGAIN);
    }
    fail("".into()).act(Actor::Exporter, "give the folder that tf.saved_model.save wrote")
}

/// Whether TensorFlow Serving takes the folder for a version (file_system_storage_path_source.cc).
pub fn version_folder(name: &str) -> Option<Finding> {
    if name.parse::<i64>().is_ok_and(|version| version >= 0) {
        return None;
    }
    let what = format!("the folder `{name}` is not named by a version number");
    let action =
        "put it below the base path under a number, such as `model/1`, and increase it with each export";
    Some(
        Finding::new(Level::Warn, CHECK, what)
            .why("TensorFlow Serving passes over other folders")
            .act(Actor::Platform, action),
    )
}

/// Checks the files of an export against what its graph and its index say.
pub fn check(files: &Listing, model: &SavedModel, index: Option<&Index>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let platform = |level, what: String, why: &'static str| {
        Finding::new(level, CHECK, what).why(why).act(Actor::Platform, AGAIN)
    };
    for (path, file) in files.iter().filter(|(_, file)| !file.is_readable).take(MAX_LISTED) {
        let what = format!("`{path}` cannot be opened ({} bytes)", file.bytes);
        let action = "give the user of TensorFlow Serving the right to read it";
        findings.push(Finding::new(Level::Fail, CHECK, what).act(Actor::Platform, action));
    }
    let private = files.iter().filter(|(_, file)| file.is_readable && file.is_private).count();
    if private > 0 {
        let what = format!("{private} of {} files can be read by their owner only", files.len());
        let action = "give the user of TensorFlow Serving the right to read them (chmod -R a+rX)";
        findings.push(Finding::new(Level::Warn, CHECK, what).act(Actor::Platform, action));
    }
    for path in files.keys().filter(|path| UNFINISHED.iter().any(|end| path.ends_with(end))).take(MAX_LISTED)
    {
        let what = format!("`{path}` looks like a copy that is not finished");
        findings.push(platform(Level::Warn, what, ""));
    }
    let Some(meta) = model.served() else {
        findings.push(no_graph(model));
        return findings;
    };
    for asset in meta.assets.iter().take(MAX_LISTED) {
        match files.get(&format!("assets/{asset}")) {
            None => {
                let what = format!("`assets/{asset}` is missing");
                findings.push(platform(Level::Fail, what, "the graph reads it when the version is loaded"));
            }
            Some(file) if file.bytes == 0 => {
                findings.push(platform(Level::Warn, format!("`assets/{asset}` is empty"), ""));
            }
            Some(_) => {}
        }
    }
    variables(files, meta, index, &mut findings);
    if findings.iter().all(|finding| finding.level == Level::Ok) {
        let what = format!("{} files, saved_model.pb of {} bytes", files.len(), model.bytes);
        findings.push(Finding::new(Level::Ok, CHECK, what));
    }
    findings
}

fn no_graph(model: &SavedModel) -> Finding {
    if model.bytes == 0 {
        return Finding::new(Level::Fail, CHECK, "`saved_model.pb` has 0 bytes")
            .why("TensorFlow Serving says that no meta graph has the tag `serve`")
            .act(Actor::Platform, AGAIN);
    }
    let tags = model.meta_graphs.iter().map(|meta| format!("{{{}}}", meta.tags.join(", ")));
    let tags = tags.collect::<Vec<_>>().join(" ");
    let what = "no meta graph has exactly the tag `serve`";
    let action = "export it with that tag, or start TensorFlow Serving with --saved_model_tags";
    Finding::new(Level::Fail, CHECK, what).why(format!("tags: {tags}")).act(Actor::Exporter, action)
}

fn variables(files: &Listing, meta: &MetaGraph, index: Option<&Index>, findings: &mut Vec<Finding>) {
    let fail = |what: String, why: &'static str| {
        Finding::new(Level::Fail, CHECK, what).why(why).act(Actor::Platform, AGAIN)
    };
    let restores =
        ["RestoreV2", "VarHandleOp", "VariableV2"].iter().any(|op| meta.graph.ops.contains_key(*op));
    let has_any = files.keys().any(|path| path.starts_with("variables/"));
    let shards = files.keys().filter(|path| path.starts_with("variables/variables.data-"));
    let Some(index) = index else {
        if !files.contains_key(INDEX) && restores {
            // The loader takes an export without an index for one without variables
            // (cc/saved_model/loader.cc, `RunRestore`).
            let what =
                if has_any { "`variables/variables.index` is missing" } else { "`variables/` is missing" };
            let why =
                "the version loads without its weights, and each request fails (Could not find variable)";
            findings.push(fail(what.to_owned(), why));
        }
        return;
    };
    let count = index.shards;
    let mut reported = 0;
    for (shard, needed) in index.sizes().into_iter().enumerate() {
        let path = format!("variables/variables.data-{shard:05}-of-{count:05}");
        let finding = match files.get(&path) {
            None => fail(format!("`{path}` is missing"), "the version does not load"),
            Some(file) if file.bytes < needed => fail(
                format!("`{path}` has {} bytes, the index needs {needed}", file.bytes),
                "the copy was cut off: the version does not load",
            ),
            Some(_) => continue,
        };
        findings.push(finding);
        reported += 1;
        if reported == MAX_LISTED {
            break;
        }
    }
    let others = shards.filter(|path| !path.ends_with(&format!("-of-{count:05}"))).count();
    if others > 0 {
        let what = format!("{others} shards in `variables/` are not of this checkpoint, which has {count}");
        findings.push(
            Finding::new(Level::Warn, CHECK, what)
                .why("two exports were written into one folder")
                .act(Actor::Exporter, "export into an empty folder"),
        );
    }
}

/// The version check of a load (core/framework/versions.cc): in practice it never fails.
pub fn versions(meta: &MetaGraph, release: Option<Release>) -> Vec<Finding> {
    let versions = &meta.versions;
    let mut findings = Vec::new();
    let wrote =
        if meta.tensorflow_version.is_empty() { "an unknown TensorFlow" } else { &meta.tensorflow_version };
    let what = format!("written by TensorFlow {wrote} (graph version {})", versions.producer);
    findings.push(Finding::new(Level::Ok, "versions", what));
    if versions.producer < 0 {
        let what = format!("graph version {} is too old for every TensorFlow", versions.producer);
        let action = "export the model again";
        findings.push(Finding::new(Level::Fail, "versions", what).act(Actor::Exporter, action));
    }
    let Some(release) = release else { return findings };
    let own = release.graph_version();
    let why = "the version does not load";
    if versions.min_consumer > own {
        let what = format!(
            "the graph demands graph version {}, TensorFlow {release} has {own}",
            versions.min_consumer
        );
        let action = "run a newer TensorFlow Serving";
        findings.push(Finding::new(Level::Fail, "versions", what).why(why).act(Actor::Platform, action));
    }
    if versions.bad_consumers.contains(&own) {
        let what = format!("the graph excludes TensorFlow {release} (graph version {own})");
        let action = "run a newer TensorFlow Serving";
        findings.push(Finding::new(Level::Fail, "versions", what).why(why).act(Actor::Platform, action));
    }
    findings
}
