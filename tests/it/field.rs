//! The cases of `tests/fixtures/field.tsv`: requests of real clients that were once refused,
//! changed or explained wrongly, each with its right verdict.
use prost::bytes::Bytes;
use tfs_sidecar::explain::fed_outputs;
use tfs_sidecar::repair::{notation, report};
use tfs_sidecar::signature::Signatures;
use tfs_sidecar::wire::{PredictView, Rope};

use crate::support::engine;
use crate::support::requests::{field, number_field, varint};

const TABLE: &str = include_str!("../fixtures/field.tsv");

struct Case {
    id: &'static str,
    signature: &'static str,
    policy: &'static str,
    request: &'static str,
    verdict: &'static str,
    texts: Vec<&'static str>,
}

/// The lines after the one that names the columns.
fn cases() -> impl Iterator<Item = Case> {
    let lines = TABLE.lines().filter(|line| !line.starts_with('#')).skip(1);
    lines.map(|line| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [id, signature, policy, request, verdict, texts, _about] = fields[..] else {
            panic!("expected 7 fields, got {}: {line}", fields.len());
        };
        let texts = texts.split(" | ").filter(|text| !text.is_empty()).collect();
        Case { id, signature, policy, request, verdict, texts }
    })
}

#[test]
fn every_field_case_gets_its_verdict_and_its_explanation() {
    let mut faults = Vec::new();
    for case in cases() {
        let signatures = signatures(case.signature);
        let message = match case.request.strip_prefix('(').and_then(|name| name.strip_suffix(')')) {
            Some(builder) => build(builder),
            None => notation::request("m", case.request).unwrap(),
        };
        let verdict = engine::decide(&message, &signatures, &engine::policy(case.policy).unwrap()).unwrap();
        let view = PredictView::scan(&message).unwrap();
        let mut text = report::explain(&verdict, &view);
        let signature = verdict.signature.as_deref();
        text.extend(signature.and_then(|signature| fed_outputs(signature, &view.output_filter)));
        let line = engine::line(&verdict);
        if line != case.verdict {
            faults.push(format!("{}: expected `{}`, got `{line}`\n{text}", case.id, case.verdict));
        }
        for part in case.texts.iter().filter(|part| !text.contains(**part)) {
            faults.push(format!("{}: `{part}` is not in\n{text}", case.id));
        }
    }
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn the_ids_of_field_cases_are_unique() {
    let mut ids: Vec<_> = cases().map(|case| case.id).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count);
    assert!(count > 40, "{count} cases");
}

const WIDE: usize = 300;

/// One signature or several with ` ; ` between them; `(wide)` has 300 inputs.
fn signatures(text: &str) -> Signatures {
    if text == "(wide)" {
        let inputs: Vec<String> = (0..WIDE).map(|at| format!("feature_number_{at:03}:float[-1,1]")).collect();
        return notation::signature(&inputs.join(" ")).unwrap();
    }
    let all: Vec<Signatures> = text.split(" ; ").map(|one| notation::signature(one).unwrap()).collect();
    all.iter().flat_map(Signatures::iter).map(|signature| (**signature).clone()).collect()
}

/// Requests that the notation of the command line cannot say.
fn build(name: &str) -> Rope {
    let floats = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let (last, now) = (floats(&[9.0; 6]), floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    let doubles: Vec<u8> = (1..=6).flat_map(|value| f64::from(value).to_le_bytes()).collect();
    let fraction: Vec<u8> = [0.1_f64; 6].iter().flat_map(|value| value.to_le_bytes()).collect();
    let (content, float_val) = (|bytes: &[u8]| field(4, bytes), |bytes: &[u8]| field(5, bytes));
    let row = [number_field(1, FLOAT), shape(&[1, 6])].concat();
    let vector = [number_field(1, FLOAT), shape(&[6])].concat();
    let unknown_rank = field(2, &number_field(3, 1));
    let png = [&b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..], &[0; 200]].concat();
    let jpeg = [&b"\xff\xd8\xff\xe0\0\x10JFIF"[..], &[0; 200]].concat();
    let pixels = [number_field(1, UINT8), shape(&[1, 64, 64, 3])].concat();
    let tensor: Vec<Vec<u8>> = match name {
        "stale content" => vec![row, content(&last), float_val(&now)],
        "equal content" => vec![row, content(&now), float_val(&now)],
        "content of equal values beside one that fills" => vec![row, content(&last), float_val(&last[..4])],
        "content beside rounded doubles" => {
            vec![row, content(&floats(&[0.1; 6])), field(6, &fraction)]
        }
        "content beside text" => vec![row, content(&now), field(8, b"text")],
        "stale content of another length" => vec![row, content(&last[..12]), float_val(&now)],
        "two lists" => vec![row, float_val(&last), field(6, &doubles)],
        "two equal lists" => vec![row, float_val(&now), field(6, &doubles)],
        "two foreign lists" => vec![row, field(6, &doubles), field(7, &[1, 2, 3, 4, 5, 6])],
        "strings in two fields" => {
            let strings = [number_field(1, STRING), shape(&[1])].concat();
            vec![strings, content(b"\x01a"), field(8, b"a")]
        }
        "unknown rank and dims" => vec![row, unknown_rank, content(&now)],
        "unknown rank and dims of a vector" => vec![vector, unknown_rank, content(&now)],
        "unknown rank" => vec![number_field(1, FLOAT), unknown_rank, float_val(&now[..4])],
        "unknown rank of six" => vec![number_field(1, FLOAT), unknown_rank, float_val(&now)],
        "unknown rank of six in content" => vec![number_field(1, FLOAT), unknown_rank, content(&now)],
        "ninety photos" => return photos(90),
        "short list of a gigabyte" => {
            vec![number_field(1, FLOAT), shape(&[1 << 28]), float_val(&now)]
        }
        "foreign list of a gigabyte" => {
            vec![number_field(1, FLOAT), shape(&[1 << 28]), field(7, &[1])]
        }
        "strings of a gigabyte" => vec![number_field(1, STRING), shape(&[1 << 26]), field(8, b"a")],
        "short content of a gigabyte" => vec![number_field(1, FLOAT), shape(&[1 << 28]), content(&now)],
        "dtype -1" => vec![number_field(1, u64::MAX), shape(&[1, 6]), float_val(&now)],
        "reference" => vec![number_field(1, FLOAT + 100), shape(&[1, 6]), float_val(&now)],
        "no dtype" => vec![shape(&[1, 6]), float_val(&now)],
        "png as pixels" => vec![pixels, content(&png)],
        "png as pixels in a list" => {
            let bytes = png.iter().fold(Vec::new(), |mut all, byte| {
                varint(u64::from(*byte), &mut all);
                all
            });
            vec![pixels, field(7, &bytes)]
        }
        "jpeg as pixels" => vec![pixels, content(&jpeg)],
        "png as an array of bytes" => {
            vec![number_field(1, UINT8), shape(&[png.len() as u64]), content(&png)]
        }
        "one byte each" => vec![row, content(&[1, 2, 3, 4, 5, 6])],
        "base64" => vec![row, content(b"AACAPwAAAEAAAEBAAACAQAAAoEAAAMBA")],
        "json" => vec![row, content(b"[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]")],
        "int64 as int32" => vec![number_field(1, INT32), shape(&[6]), content(&[0; 48])],
        "npy" => vec![row, content(&[&b"\x93NUMPY\x01\0"[..], &[0; 120], &now].concat())],
        "wide with a prefix" => return wide(|at| Some(format!("x_feature_number_{at:03}"))),
        "wide with a prefix but one" => {
            return wide(|at| Some(if at == 7 { "odd".into() } else { format!("x_feature_number_{at:03}") }));
        }
        "wide without the prefix" => return wide(|at| Some(format!("{at:03}"))),
        "wide under other names" => return wide(|at| Some(format!("column {at}"))),
        "wide with two rows in the last" => {
            let inputs: Vec<_> = (0..WIDE)
                .map(|at| {
                    let rows = if at == WIDE - 1 { 2 } else { 1 };
                    let tensor =
                        [number_field(1, FLOAT), shape(&[rows, 1]), field(4, &vec![0; 4 * rows as usize])];
                    (format!("feature_number_{at:03}"), tensor.concat())
                })
                .collect();
            let inputs: Vec<_> =
                inputs.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())).collect();
            return Rope::from(request(&inputs));
        }
        "wide but one" => return wide(|at| (at != 150).then(|| format!("feature_number_{at:03}"))),
        other => panic!("no builder {other}"),
    };
    Rope::from(request(&[("x", tensor.concat())]))
}

const FLOAT: u64 = 1;
const INT32: u64 = 3;
const UINT8: u64 = 4;
const STRING: u64 = 7;

fn shape(sizes: &[u64]) -> Vec<u8> {
    let each = |size: &u64| field(2, &number_field(1, *size));
    field(2, &sizes.iter().flat_map(each).collect::<Vec<u8>>())
}

fn request(inputs: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entry =
        |(key, tensor): &(&str, Vec<u8>)| field(2, &[field(1, key.as_bytes()), field(2, tensor)].concat());
    [field(1, &field(1, b"m")), inputs.iter().flat_map(entry).collect()].concat()
}

/// A request of 300 inputs under the names that `name` gives.
fn wide(name: impl Fn(usize) -> Option<String>) -> Rope {
    let tensor = [number_field(1, FLOAT), shape(&[1, 1]), field(5, &1.0_f32.to_le_bytes())].concat();
    let names: Vec<String> = (0..WIDE).filter_map(name).collect();
    let inputs: Vec<(&str, Vec<u8>)> = names.iter().map(|name| (name.as_str(), tensor.clone())).collect();
    Rope::from(request(&inputs))
}

/// Photos of 1024 x 1024 in `tensor_content`. They share their bytes, so the request takes no
/// memory.
fn photos(count: u64) -> Rope {
    let mebibyte = Bytes::from(vec![0; 1 << 20]);
    let length = (count * 3) << 20;
    let head = |number: u8, length: u64| {
        let mut head = vec![number << 3 | 2];
        varint(length, &mut head);
        head
    };
    let tensor = [number_field(1, UINT8), shape(&[count, 1024, 1024, 3]), head(4, length)].concat();
    let value = head(2, tensor.len() as u64 + length);
    let key = field(1, b"x");
    let entry = head(2, (key.len() + value.len() + tensor.len()) as u64 + length);
    let mut message = Rope::from([field(1, &field(1, b"m")), entry, key, value, tensor].concat());
    for _ in 0..count * 3 {
        message.push(mebibyte.clone());
    }
    message
}
