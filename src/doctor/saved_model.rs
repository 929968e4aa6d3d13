//! Reads a `saved_model.pb`: signatures, operations, tags and versions, field by field.
use std::io::{Read, Seek};

use super::fields::{Fields, Payload, ReadError};
use super::graph::{Builder, Graph};
use crate::signature::Signatures;

/// Meta graphs, tags and assets: a SavedModel has one to three of each.
const MAX_META_GRAPHS: usize = 64;
const MAX_LIST: usize = 4096;
/// Bytes of the signatures of one meta graph, with the default values in them.
const MAX_SIGNATURES: u64 = 64 << 20;

/// What a `saved_model.pb` says (saved_model.proto).
#[derive(Debug, Default)]
pub struct SavedModel {
    /// Bytes of the file.
    pub bytes: u64,
    pub meta_graphs: Vec<MetaGraph>,
}

/// One graph with its signatures (meta_graph.proto).
#[derive(Debug, Default)]
pub struct MetaGraph {
    pub tags: Vec<String>,
    /// The TensorFlow that wrote it, such as `2.15.1`; empty if it does not say.
    pub tensorflow_version: String,
    pub versions: Versions,
    pub signatures: Signatures,
    /// Names of files in `assets/`.
    pub assets: Vec<String>,
    pub graph: Graph,
    /// The node that restores the variables when the version is loaded; empty if there is none.
    pub restore_op: String,
    /// Whether it is a TensorFlow 2 export: only those have an object graph.
    pub has_objects: bool,
}

/// The versions of a graph (versions.proto).
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Versions {
    pub producer: i64,
    pub min_consumer: i64,
    pub bad_consumers: Vec<i64>,
}

impl SavedModel {
    /// Reads a SavedModel. Memory: what its names need, at most about 80 MB.
    ///
    /// # Errors
    /// If the bytes cannot be read or are not a SavedModel.
    pub fn read(input: impl Read + Seek) -> Result<Self, ReadError> {
        let mut from = Fields::new(input)?;
        let end = from.length();
        let mut model = Self { bytes: end, meta_graphs: Vec::new() };
        while let Some((number, payload)) = from.next(end)? {
            match (number, payload) {
                (2, Payload::Bytes(length)) if model.meta_graphs.len() < MAX_META_GRAPHS => {
                    let end = from.end_of(length);
                    model.meta_graphs.push(meta_graph(&mut from, end)?);
                }
                (_, payload) => from.pass(payload)?,
            }
        }
        Ok(model)
    }

    /// The meta graph that TensorFlow Serving loads without `--saved_model_tags`: the first whose
    /// tags are exactly `serve` (saved_model/reader.cc).
    pub fn served(&self) -> Option<&MetaGraph> {
        self.meta_graphs.iter().find(|graph| graph.tags == ["serve"])
    }
}

fn meta_graph<R: Read + Seek>(from: &mut Fields<R>, end: u64) -> Result<MetaGraph, ReadError> {
    let mut meta = MetaGraph::default();
    let mut graph = Builder::new();
    let mut signatures = Vec::new();
    while let Some((number, payload)) = from.next(end)? {
        let Payload::Bytes(length) = payload else { continue };
        let end = from.end_of(length);
        match number {
            1 => info(from, end, &mut meta)?,
            2 => graph_def(from, end, &mut graph, &mut meta.versions)?,
            3 => {
                // A `SaverDef` (saver.proto).
                while let Some((number, payload)) = from.next(end)? {
                    match (number, payload) {
                        (3, Payload::Bytes(length)) => meta.restore_op = from.name(length)?,
                        (_, payload) => from.pass(payload)?,
                    }
                }
            }
            5 => {
                let left = MAX_SIGNATURES.saturating_sub(signatures.len() as u64);
                let entry = from.bytes(length, left, "signature")?;
                // The same map is field 1 of a `SignatureDefMap`.
                signatures.push(0x0a);
                prost::encoding::encode_varint(length, &mut signatures);
                signatures.extend(entry);
            }
            6 if meta.assets.len() < MAX_LIST => {
                while let Some((number, payload)) = from.next(end)? {
                    match (number, payload) {
                        (2, Payload::Bytes(length)) => meta.assets.push(from.name(length)?),
                        (_, payload) => from.pass(payload)?,
                    }
                }
            }
            7 => {
                meta.has_objects = length > 0;
                from.skip_to(end)?;
            }
            _ => from.skip_to(end)?,
        }
    }
    meta.signatures = Signatures::from_map(&signatures)?;
    meta.graph = graph.finish();
    Ok(meta)
}

/// Reads a `MetaInfoDef`.
fn info<R: Read + Seek>(from: &mut Fields<R>, end: u64, meta: &mut MetaGraph) -> Result<(), ReadError> {
    while let Some((number, payload)) = from.next(end)? {
        match (number, payload) {
            (4, Payload::Bytes(length)) if meta.tags.len() < MAX_LIST => meta.tags.push(from.name(length)?),
            (5, Payload::Bytes(length)) => meta.tensorflow_version = from.name(length)?,
            (_, payload) => from.pass(payload)?,
        }
    }
    Ok(())
}

/// Reads a `GraphDef` (graph.proto).
fn graph_def<R: Read + Seek>(
    from: &mut Fields<R>,
    end: u64,
    graph: &mut Builder,
    versions: &mut Versions,
) -> Result<(), ReadError> {
    while let Some((number, payload)) = from.next(end)? {
        let Payload::Bytes(length) = payload else { continue };
        let end = from.end_of(length);
        match number {
            1 => graph.main_node(from, end)?,
            2 => graph.library(from, end)?,
            4 => read_versions(from, end, versions)?,
            _ => from.skip_to(end)?,
        }
    }
    Ok(())
}

fn read_versions<R: Read + Seek>(
    from: &mut Fields<R>,
    end: u64,
    versions: &mut Versions,
) -> Result<(), ReadError> {
    while let Some((number, payload)) = from.next(end)? {
        match (number, payload) {
            (1, Payload::Varint(value)) => versions.producer = value as i64,
            (2, Payload::Varint(value)) => versions.min_consumer = value as i64,
            (3, Payload::Varint(value)) if versions.bad_consumers.len() < MAX_LIST => {
                versions.bad_consumers.push(value as i64);
            }
            (3, Payload::Bytes(length)) => {
                let end = from.end_of(length);
                while let Some(value) = from.packed(end)? {
                    if versions.bad_consumers.len() < MAX_LIST {
                        versions.bad_consumers.push(value as i64);
                    }
                }
            }
            (_, payload) => from.pass(payload)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn fixture(name: &str) -> Vec<u8> {
        let path =
            format!("{}/tests/fixtures/saved_models/{name}/saved_model.pb", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(path).unwrap()
    }

    #[test]
    fn an_export_is_read_with_its_functions() {
        let model = SavedModel::read(Cursor::new(fixture("tf2.4/module"))).unwrap();
        let meta = model.served().unwrap();
        assert_eq!((meta.tensorflow_version.as_str(), meta.versions.producer), ("2.4.4", 561));
        assert_eq!((meta.has_objects, meta.assets.as_slice()), (true, &["words.txt".to_owned()][..]));
        let names: Vec<&str> = meta.signatures.iter().map(|signature| signature.name.as_str()).collect();
        assert_eq!(names, ["__saved_model_init_op", "serving_default", "words"]);
        let score = meta.signatures.get("serving_default").unwrap();
        assert_eq!(
            (score.inputs[0].alias.as_str(), score.inputs[0].shape.to_string()),
            ("x", "[-1,3]".into())
        );
        // The condition of the loop is a function of a function.
        let less = &meta.graph.ops["Less"];
        assert_eq!((less.in_main, less.first.function.contains("cond")), (0, true), "{less:?}");
        let reached = |name: &str| meta.graph.reached_by(meta.signatures.get(name).unwrap()).unwrap();
        assert!(reached("serving_default").contains("Less") && reached("serving_default").contains("MatMul"));
        assert!(!reached("words").contains("Less") && reached("words").contains("LookupTableFindV2"));
        assert!(meta.graph.unknown_functions.is_empty() && meta.graph.unknown_inputs.is_empty());
        assert_eq!(meta.graph.has_tensor(&score.inputs[0].tensor_name), Some(true));
        assert_eq!(meta.graph.has_tensor("nowhere:0"), Some(false));
        assert!(meta.graph.ops["MatMul"].attrs["T"].types == 1 << 1, "float");
    }

    #[test]
    fn a_graph_of_tensorflow_1_has_its_operations_outside_functions() {
        let model = SavedModel::read(Cursor::new(fixture("tf2.4/v1"))).unwrap();
        let meta = model.served().unwrap();
        assert!(!meta.has_objects && !meta.restore_op.is_empty() && meta.graph.functions.is_empty());
        assert!(meta.graph.ops["MatMul"].in_main == 1);
        let reached = meta.graph.reached_by(meta.signatures.get("serving_default").unwrap()).unwrap();
        assert!(reached.contains("MatMul") && !reached.contains("RestoreV2"), "{reached:?}");
    }

    #[test]
    fn no_bytes_panic_and_no_length_is_believed() {
        let good = fixture("tf2.4/module");
        assert!(SavedModel::read(Cursor::new(Vec::new())).unwrap().served().is_none(), "0 bytes");
        for cut in (0..good.len()).step_by(37) {
            assert!(SavedModel::read(Cursor::new(good[..cut].to_vec())).is_err() || cut == 0, "{cut}");
        }
        for at in (0..good.len()).step_by(41) {
            for change in [1, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[at] ^= change;
                drop(SavedModel::read(Cursor::new(bytes)));
            }
        }
        // A name of 2^40 bytes.
        let huge = [0x12, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20];
        assert!(matches!(SavedModel::read(Cursor::new(huge)), Err(ReadError::Truncated { .. })));
    }
}
