//! `profile build`: from files to a profile.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::anyhow;

use super::args::BuildArgs;
use super::progress::Progress;
use crate::cli::{Failure, render};
use crate::dataset::{Collector, Direction, MAX_SCHEMA_BYTES, Options, Schema, read_file, read_scaler};
use crate::profile::{Profile, Scaler, TensorProfile};

/// Bytes of the file of a scaler.
const MAX_SCALER: usize = 4 << 20;
/// How far the raw data's mean may be from the data's after scaling, in deviations, and how far the
/// deviation from 1.
const MEAN_APART: f64 = 0.1;
const STD_APART: f64 = 0.1;

pub(super) fn build(arguments: &BuildArgs) -> Result<(), Failure> {
    let scalers = arguments.scaler.iter().map(|text| scaler(text)).collect::<Result<Vec<_>, _>>()?;
    let one_side = arguments.raw.is_empty() || arguments.files.is_empty();
    let direction = if arguments.files.is_empty() { Direction::Forward } else { Direction::Back };
    let from_scaler = if one_side { scalers.as_slice() } else { &[] };
    if arguments.files.is_empty() && scalers.is_empty() {
        return Err(Failure::usage(anyhow!("the values that the model is sent are not known"))
            .hint("name files with them too, or how they are made with --scaler"));
    }
    let files = if arguments.files.is_empty() { &arguments.raw } else { &arguments.files };
    let mut profile = collect(arguments, files, from_scaler, direction)?;
    if !one_side {
        let raw = collect(arguments, &arguments.raw, &[], Direction::Back)?;
        join(&mut profile, raw, &scalers)?;
    }
    if let Some(path) = &arguments.schema {
        let text = super::read(path, MAX_SCHEMA_BYTES)?;
        let schema = Schema::parse(&String::from_utf8_lossy(&text))
            .map_err(|fault| Failure::usage(anyhow!("`{}`: {fault}", path.display())))?;
        for contradiction in schema.apply(&mut profile) {
            render::note(&format!("warning: {contradiction}"));
        }
    }
    profile.model.clone_from(&arguments.model);
    profile.signature.clone_from(&arguments.signature_name);
    let names = arguments.files.iter().chain(&arguments.raw);
    profile.sources =
        names.map(|path| path.file_name().unwrap_or_default().to_string_lossy().into_owned()).collect();
    let text = profile.to_yaml();
    match &arguments.out {
        None => render::data(&text),
        Some(path) => {
            std::fs::write(path, text)
                .map_err(|error| anyhow!("cannot write `{}`: {error}", path.display()))?;
            render::note(&format!("wrote {} ({})", path.display(), summary(&profile)));
        }
    }
    Ok(())
}

/// `1000 rows, 2 inputs`.
fn summary(profile: &Profile) -> String {
    let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let mut text = format!("{} rows, {}", profile.rows, count(profile.inputs.len(), "input"));
    if !profile.outputs.is_empty() {
        text += ", ";
        text += &count(profile.outputs.len(), "output");
    }
    text
}

/// `[INPUT=]FILE`.
fn scaler(text: &str) -> Result<(Option<String>, Scaler), Failure> {
    let (input, path) = match text.split_once('=') {
        Some((input, path)) => (Some(input.to_owned()), path),
        None => (None, text),
    };
    let bytes = super::read(Path::new(path), MAX_SCALER)?;
    let scaler = read_scaler(&String::from_utf8_lossy(&bytes))
        .map_err(|fault| Failure::usage(anyhow!("`{path}`: {fault}")))?;
    Ok((input, scaler))
}

fn options(arguments: &BuildArgs) -> Result<Options, Failure> {
    let mut columns = BTreeMap::new();
    for text in &arguments.columns {
        let (input, list) = text.split_once('=').ok_or_else(|| {
            Failure::usage(anyhow!("expected `INPUT=COLUMN,...` in --columns, got `{text}`"))
        })?;
        let list: Vec<String> = list.split(',').map(|name| name.trim().to_owned()).collect();
        columns.insert(input.to_owned(), list);
    }
    Ok(Options {
        columns,
        input: arguments.input.clone(),
        dtypes: arguments.dtype.iter().cloned().collect(),
        by: arguments.by.iter().cloned().collect(),
    })
}

fn collect(
    arguments: &BuildArgs,
    files: &[PathBuf],
    scalers: &[(Option<String>, Scaler)],
    direction: Direction,
) -> Result<Profile, Failure> {
    let mut collector = Collector::new(options(arguments)?);
    for (input, scaler) in scalers {
        collector.scale(input.as_deref(), scaler.clone(), direction);
    }
    for path in files {
        let mut progress = Progress::new(path);
        let format = arguments.format.map(Into::into);
        read_file(path, format, &mut collector, &mut |read| progress.tell(read))
            .map_err(|fault| Failure::usage(anyhow!("`{}`: {fault}", path.display())))?;
    }
    let unused: Vec<&str> = scalers.iter().filter_map(|(input, _)| input.as_deref()).collect();
    if let Some(unknown) = unused.iter().find(|input| !collector.inputs().any(|known| known == **input)) {
        return Err(Failure::usage(anyhow!("the data has no input `{unknown}`, which --scaler names")));
    }
    if scalers.iter().any(|(input, _)| input.is_none()) {
        let scaled = collector.scaled();
        if scaled.len() > 1 {
            return Err(Failure::usage(anyhow!(
                "the data has several inputs of numbers: {}",
                scaled.join(", ")
            ))
            .hint("say which one the scaler is for: --scaler INPUT=FILE"));
        }
    }
    if collector.inputs().next().is_none() {
        return Err(Failure::usage(anyhow!("the files have no values")));
    }
    Ok(collector.finish())
}

/// Adds what the data was before it was preprocessed.
fn join(
    profile: &mut Profile,
    mut raw: Profile,
    scalers: &[(Option<String>, Scaler)],
) -> Result<(), Failure> {
    let mut found = 0;
    for (name, tensor) in &mut profile.inputs {
        let Some(before) = raw.inputs.remove(name).filter(|_| !tensor.features.is_empty()) else { continue };
        if before.features.len() != tensor.features.len() {
            return Err(Failure::usage(anyhow!(
                "`{name}` has {} features, and {} before preprocessing",
                tensor.features.len(),
                before.features.len()
            )));
        }
        found += 1;
        tensor.raw = Some(before.features);
        let scaler = scalers.iter().find(|(input, _)| input.as_ref().is_none_or(|input| input == name));
        if let Some((_, scaler)) = scaler {
            if scaler.width() != 1 && scaler.width() != tensor.features.len() {
                return Err(Failure::usage(anyhow!(
                    "the scaler has numbers for {} features, `{name}` has {}",
                    scaler.width(),
                    tensor.features.len()
                )));
            }
            if let Some(feature) = contradiction(tensor, scaler) {
                let feature = tensor.name_of(feature);
                render::note(&format!(
                    "warning: the scaler does not make the data of the raw data: feature `{feature}` of `{name}` would have another mean or deviation"
                ));
            }
            tensor.scaler = Some(scaler.clone());
        }
    }
    if found == 0 {
        return Err(Failure::usage(anyhow!("the raw data has none of the inputs of numbers"))
            .hint("both must have the same names; set --columns or --input"));
    }
    Ok(())
}

/// The first feature whose raw values the scaler does not bring to its values.
fn contradiction(tensor: &TensorProfile, scaler: &Scaler) -> Option<usize> {
    let raw = tensor.raw.as_ref()?;
    (0..tensor.features.len()).find(|feature| {
        let Some((factor, offset)) = scaler.affine(*feature) else { return false };
        let Some((raw, own)) = raw.get(*feature).zip(tensor.features.get(*feature)) else { return false };
        if !raw.has_values() || !own.has_values() || own.std == 0.0 {
            return false;
        }
        let (mean, std) = (raw.mean * factor + offset, raw.std * factor.abs());
        (mean - own.mean).abs() > MEAN_APART * own.std || (std / own.std - 1.0).abs() > STD_APART
    })
}
