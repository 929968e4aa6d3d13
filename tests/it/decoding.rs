//! How TensorFlow decodes a `TensorProto`, as measured, and the sidecar's verdict on each case.
//!
//! The tensors are written byte by byte and share no code with the scanner.
use tfs_sidecar::repair::notation;
use tfs_sidecar::wire::Rope;

use crate::support::engine;
use crate::support::requests::{field, number_field, varint};

/// Number and name of the dtype, the list that TensorFlow reads, and the bytes of an element in
/// `tensor_content` (0 if the size is not fixed).
const DTYPES: &[(u64, &str, &str, usize)] = &[
    (1, "float", "float_val", 4),
    (2, "double", "double_val", 8),
    (3, "int32", "int_val", 4),
    (4, "uint8", "int_val", 1),
    (5, "int16", "int_val", 2),
    (6, "int8", "int_val", 1),
    (7, "string", "string_val", 0),
    (8, "complex64", "scomplex_val", 8),
    (9, "int64", "int64_val", 8),
    (10, "bool", "bool_val", 1),
    (11, "qint8", "int_val", 1),
    (12, "quint8", "int_val", 1),
    (13, "qint32", "int_val", 4),
    (14, "bfloat16", "half_val", 2),
    (15, "qint16", "int_val", 2),
    (16, "quint16", "int_val", 2),
    (17, "uint16", "int_val", 2),
    (18, "complex128", "dcomplex_val", 16),
    (19, "half", "half_val", 2),
    (20, "resource", "resource_handle_val", 0),
    (21, "variant", "variant_val", 0),
    (22, "uint32", "uint32_val", 4),
    (23, "uint64", "uint64_val", 8),
    (24, "float8_e5m2", "float8_val", 1),
    (25, "float8_e4m3fn", "float8_val", 1),
    (26, "float8_e4m3fnuz", "float8_val", 1),
    (27, "float8_e4m3b11fnuz", "float8_val", 1),
    (28, "float8_e5m2fnuz", "float8_val", 1),
    (29, "int4", "int_val", 1),
    (30, "uint4", "int_val", 1),
    (31, "int2", "int_val", 1),
    (32, "uint2", "int_val", 1),
    (33, "float4_e2m1fn", "float8_val", 1),
];

/// The values in the field of this name, packed where protobuf packs them.
fn list(name: &str, values: &[f64]) -> Vec<u8> {
    let singles = || values.iter().flat_map(|value| (*value as f32).to_le_bytes()).collect::<Vec<u8>>();
    let doubles = || values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let varints = || {
        let mut out = Vec::new();
        for value in values {
            varint(*value as i64 as u64, &mut out);
        }
        out
    };
    let each = |number: u32, payload: &[u8]| values.iter().flat_map(|_| field(number, payload)).collect();
    match name {
        _ if values.is_empty() => Vec::new(),
        "float_val" => field(5, &singles()),
        "double_val" => field(6, &doubles()),
        "int_val" => field(7, &varints()),
        "string_val" => each(8, b"text"),
        "scomplex_val" => field(9, &singles()),
        "int64_val" => field(10, &varints()),
        "bool_val" => field(11, &varints()),
        "dcomplex_val" => field(12, &doubles()),
        "half_val" => field(13, &varints()),
        "resource_handle_val" => each(14, b""),
        "variant_val" => each(15, b""),
        "uint32_val" => field(16, &varints()),
        "uint64_val" => field(17, &varints()),
        "float8_val" => field(18, &values.iter().map(|value| *value as u8).collect::<Vec<u8>>()),
        other => panic!("no field {other}"),
    }
}

/// `elements` ones; pairs of ones for the complex lists.
fn ones(name: &str, elements: usize) -> Vec<u8> {
    let pairs = matches!(name, "scomplex_val" | "dcomplex_val");
    list(name, &vec![1.0; if pairs { 2 * elements } else { elements }])
}

/// `tensor_content` with `elements` elements: integers of value 1, or one-letter strings in
/// TensorFlow's own encoding.
fn content(size: usize, elements: usize) -> Vec<u8> {
    let bytes = match size {
        0 => [vec![1; elements], vec![b'a'; elements]].concat(),
        size => (0..elements * size).map(|at| u8::from(at % size == 0)).collect(),
    };
    if bytes.is_empty() { Vec::new() } else { field(4, &bytes) }
}

fn dims(sizes: &[i64]) -> Vec<u8> {
    let each = |size: &i64| field(2, &number_field(1, *size as u64));
    field(2, &sizes.iter().flat_map(each).collect::<Vec<u8>>())
}

/// The verdict on an input `x` with these bytes.
fn answer(declared: &str, policy: &str, tensor: &[u8]) -> String {
    let entry = [field(1, b"x"), field(2, tensor)].concat();
    let message = Rope::from([field(1, &field(1, b"m")), field(2, &entry)].concat());
    let signatures = notation::signature(&format!("x:{declared}")).unwrap();
    engine::decide(&message, &signatures, &engine::policy(policy).unwrap())
        .map_or("MALFORMED".to_owned(), |verdict| engine::line(&verdict))
}

/// Collects the failures of a whole table.
#[derive(Default)]
struct Faults(Vec<String>);

impl Faults {
    fn compare(&mut self, what: &str, expected: &str, found: &str) {
        if expected != found {
            self.0.push(format!("{what}\n  expected {expected}\n  found    {found}"));
        }
    }

    fn report(self) {
        assert!(self.0.is_empty(), "{} rows fail\n{}", self.0.len(), self.0.join("\n"));
    }
}

/// Elements in `tensor_content`, in the list, and in the shape; how TensorFlow reads them; the
/// verdict for dtypes of fixed size, and for strings.
#[rustfmt::skip]
const COUNTS: &[(usize, usize, i64, &str, &str, &str)] = &[
    (3, 0, 3, "decoded",                         "conforms",     "conforms"),
    (2, 0, 3, "error: shorter",                  "CONTENT_SIZE", "STRING_IN_CONTENT"),
    (4, 0, 3, "error: longer",                   "CONTENT_SIZE", "STRING_IN_CONTENT"),
    (1, 0, 3, "error: content does not fill",    "CONTENT_SIZE", "STRING_IN_CONTENT"),
    (3, 3, 3, "content wins",                    "same bits",    "VALUE_FIELD"),
    (3, 1, 3, "content wins over a fill",        "same bits",    "VALUE_FIELD"),
    (3, 5, 3, "content wins over a long list",   "VALUE_FIELD",  "VALUE_FIELD"),
    (2, 3, 3, "error: content wins",             "CONTENT_SIZE", "STRING_IN_CONTENT"),
    (0, 3, 3, "decoded",                         "conforms",     "conforms"),
    (0, 4, 3, "the rest is dropped",             "VALUE_COUNT",  "VALUE_COUNT"),
    (0, 1, 3, "filled",                          "conforms",     "conforms"),
    (0, 2, 3, "the last is repeated",            "VALUE_COUNT",  "VALUE_COUNT"),
    (0, 0, 3, "zeros, false or empty strings",   "VALUE_COUNT",  "VALUE_COUNT"),
    (0, 1, 1, "decoded",                         "conforms",     "conforms"),
    (1, 0, 1, "decoded",                         "conforms",     "conforms"),
    (0, 2, 1, "the rest is dropped",             "VALUE_COUNT",  "VALUE_COUNT"),
    (0, 0, 0, "empty",                           "conforms",     "conforms"),
    (2, 0, 0, "empty, the content is dropped",   "CONTENT_SIZE", "STRING_IN_CONTENT"),
    (0, 2, 0, "empty, the list is dropped",      "VALUE_COUNT",  "VALUE_COUNT"),
    (2, 2, 0, "empty, both are dropped",         "CONTENT_SIZE", "STRING_IN_CONTENT"),
];

#[test]
fn every_dtype_needs_as_many_values_as_elements() {
    let mut faults = Faults::default();
    for (number, name, own, size) in DTYPES {
        for (in_content, in_list, elements, reading, sized, text) in COUNTS {
            let tensor = [
                number_field(1, *number),
                dims(&[*elements]),
                content(*size, *in_content),
                ones(own, *in_list),
            ]
            .concat();
            let expected = match *name {
                "string" => text,
                // The sidecar does not read handles; the server checks them.
                "resource" | "variant" => "conforms",
                // The content is ones in the lowest bytes, which is 1 only for integers and bits.
                // Quantized values are not compared.
                name if *sized == "same bits" => match own {
                    _ if name.starts_with('q') => "VALUE_FIELD",
                    &("float_val" | "double_val" | "scomplex_val" | "dcomplex_val") => "VALUE_FIELD",
                    _ => "conforms",
                },
                _ => sized,
            };
            let what =
                format!("{name} [{elements}], {in_content} in content, {in_list} in {own} ({reading})");
            faults.compare(&what, expected, &answer(&format!("{name}[-1]"), "", &tensor));
            if *in_list == 2 && *elements == 3 && *in_content == 0 {
                let found = answer(&format!("{name}[-1]"), "short_lists: allow", &tensor);
                faults.compare(&format!("{what}, short_lists: allow"), "conforms", &found);
                let found = answer(&format!("{name}[-1]"), "mode: observe", &tensor);
                // Handles are not read.
                let observed = if expected == "conforms" { expected } else { "passed" };
                faults.compare(&format!("{what}, mode: observe"), observed, &found);
            }
        }
    }
    faults.report();
}

#[test]
fn every_dtype_reads_one_list_and_no_other() {
    const LISTS: &[&str] = &[
        "float_val",
        "double_val",
        "int_val",
        "string_val",
        "scomplex_val",
        "int64_val",
        "bool_val",
        "dcomplex_val",
        "half_val",
        "uint32_val",
        "uint64_val",
        "float8_val",
    ];
    let mut faults = Faults::default();
    for (number, name, own, _) in DTYPES.iter().filter(|(.., own, _)| LISTS.contains(own)) {
        for other in LISTS {
            let tensor = [number_field(1, *number), dims(&[3]), ones(other, 3)].concat();
            let found = answer(&format!("{name}[-1]"), "", &tensor);
            let lossy = if *name == "float" && *other == "double_val" { " lossy" } else { "" };
            let moved = format!("move_values {other}->{own}{lossy}");
            let expected = match (own == other, movable(name, other)) {
                (true, _) => "conforms",
                (false, true) => &moved,
                (false, false) => "VALUE_FIELD",
            };
            faults.compare(&format!("{name} in {other} (TensorFlow reads zeros)"), expected, &found);
            // Values move only if their number is right and no other field has values.
            let few = [number_field(1, *number), dims(&[3]), ones(other, 2)].concat();
            let expected = if own == other { "VALUE_COUNT" } else { "VALUE_FIELD" };
            let found = answer(&format!("{name}[-1]"), "", &few);
            faults.compare(&format!("{name}, 2 of 3 in {other}"), expected, &found);
            if own != other {
                let both = [&tensor[..], &ones(own, 3)].concat();
                let found = answer(&format!("{name}[-1]"), "", &both);
                // Ones in both have one reading, unless there is no cast between the two.
                let comparable = comparable(name, other);
                let expected = if comparable { "conforms" } else { "VALUE_FIELD" };
                faults.compare(&format!("{name} in {other} and in {own}"), expected, &found);
            }
        }
    }
    faults.report();
}

/// Whether the ones of this list can be compared with the dtype's own.
fn comparable(dtype: &str, list: &str) -> bool {
    let plain = !["string_val", "half_val", "float8_val"].contains(&list);
    let real = !["scomplex_val", "dcomplex_val"].contains(&list);
    plain
        && match dtype {
            "string" => false,
            _ if dtype.starts_with('q') => false,
            // Ones are 1+1j here.
            _ if dtype.starts_with("complex") => !real,
            // Their ones are bits, which are another number.
            "half" | "bfloat16" => false,
            _ if dtype.starts_with("float8") || dtype.starts_with("float4") => false,
            _ => real,
        }
}

/// Whether a checked cast moves ones from this list to the dtype. It moves numbers only: no bit
/// patterns, bytes or booleans, no fractions to integers, and no complex numbers to real ones.
fn movable(dtype: &str, list: &str) -> bool {
    let real = ["int_val", "int64_val", "uint32_val", "uint64_val"].contains(&list);
    let fraction = ["float_val", "double_val"].contains(&list);
    let complex = ["scomplex_val", "dcomplex_val"].contains(&list);
    match dtype {
        "bool" | "string" => false,
        _ if dtype.starts_with('q') => false,
        _ if dtype.starts_with("complex") => real || fraction || complex,
        _ if dtype.starts_with("int") || dtype.starts_with("uint") => real,
        _ => real || fraction,
    }
}

type Wrapped = (u64, &'static str, &'static str, &'static [f64], &'static str, &'static str);

/// Number and name of the dtype, its list, values out of its range, how TensorFlow reads them, and
/// the verdict if float is declared. `half_val` holds bit patterns, of which TensorFlow reads the
/// low 16 bits, so none is out of range.
#[rustfmt::skip]
const WRAPPED: &[Wrapped] = &[
    (4,  "uint8",  "int_val",  &[300.0, -1.0],          "44, 255",  "CAST_OUT_OF_RANGE"),
    (6,  "int8",   "int_val",  &[300.0, -129.0],        "44, 127",  "CAST_OUT_OF_RANGE"),
    (17, "uint16", "int_val",  &[70000.0, 1.0],         "4464, 1",  "CAST_OUT_OF_RANGE"),
    (29, "int4",   "int_val",  &[9.0, -9.0],            "-7, 7",    "CAST_OUT_OF_RANGE"),
    (19, "half",   "half_val", &[80896.0, 15360.0],     "1.0, 1.0", "cast_widen half->float"),
];

#[test]
fn values_out_of_the_range_of_their_dtype_are_forwarded_but_never_cast() {
    let mut faults = Faults::default();
    for (number, name, own, values, reading, cast) in WRAPPED {
        let tensor = [number_field(1, *number), dims(&[2]), list(own, values)].concat();
        let what = format!("{name} {values:?} (TensorFlow reads {reading})");
        faults.compare(&what, "conforms", &answer(&format!("{name}[-1]"), "", &tensor));
        faults.compare(&format!("{what}, float declared"), cast, &answer("float[-1]", "", &tensor));
    }
    let moved = [number_field(1, 4), dims(&[2]), list("int64_val", &[300.0, 1.0])].concat();
    faults.compare("uint8 300 in int64_val", "CAST_OUT_OF_RANGE", &answer("uint8[-1]", "", &moved));
    let moved = [number_field(1, 23), dims(&[2]), list("int64_val", &[1.0, -1.0])].concat();
    faults.compare("uint64 -1 in int64_val", "CAST_OUT_OF_RANGE", &answer("uint64[-1]", "", &moved));
    let moved = [number_field(1, 1), dims(&[1]), list("int_val", &[16_777_217.0])].concat();
    faults.compare("float 2^24 + 1 in int_val", "CAST_INEXACT", &answer("float[-1]", "", &moved));
    faults.report();
}

#[test]
fn tensor_content_with_a_special_encoding() {
    let mut faults = Faults::default();
    let mut case = |what: &str, declared: &str, number: u64, sizes: &[i64], rest: &[u8], expected: &str| {
        let tensor = [&number_field(1, number)[..], &dims(sizes), rest].concat();
        faults.compare(what, expected, &answer(declared, "", &tensor));
    };
    case("bool of a 2 in content (2.21 refuses)", "bool[-1]", 10, &[2], &field(4, &[2, 1]), "conforms");
    case("int4 takes a byte an element", "int4[-1]", 29, &[4], &field(4, &[1; 4]), "conforms");
    case("int4 two to a byte", "int4[-1]", 29, &[4], &field(4, &[0x11; 2]), "CONTENT_SIZE");
    case(
        "an odd trailing scomplex_val is ignored",
        "complex64[-1]",
        8,
        &[1],
        &list("scomplex_val", &[1.0; 3]),
        "conforms",
    );
    case("half a complex number", "complex64[-1]", 8, &[1], &list("scomplex_val", &[1.0]), "VALUE_COUNT");
    case(
        "raw bytes for one string",
        "string[-1]",
        7,
        &[1],
        &field(4, b"\xff\xd8\xff\xe0"),
        "string_content tensor_content->string_val",
    );
    case(
        "raw bytes for two strings",
        "string[-1]",
        7,
        &[2],
        &field(4, b"\xff\xd8\xff\xe0"),
        "STRING_IN_CONTENT",
    );
    case("raw bytes that happen to be an encoding", "string[-1]", 7, &[1], &field(4, b"\x03abc"), "conforms");
    case(
        "raw bytes beside string_val",
        "string[-1]",
        7,
        &[1],
        &[field(4, b"abc"), field(8, b"abc")].concat(),
        "STRING_IN_CONTENT",
    );
    case(
        "an encoding with a byte too many",
        "string[-1]",
        7,
        &[2],
        &field(4, b"\x01\x01abc"),
        "STRING_IN_CONTENT",
    );
    case(
        "empty content beside a list",
        "float[-1]",
        1,
        &[2],
        &[field(4, b""), ones("float_val", 2)].concat(),
        "conforms",
    );
    case("twice the bytes: float64 data", "float[-1]", 1, &[2], &field(4, &[0; 16]), "CONTENT_SIZE");
    case("half the bytes: float32 data", "double[-1]", 2, &[2], &field(4, &[0; 8]), "CONTENT_SIZE");
    faults.report();
}

type ShapeCase = (&'static str, &'static str, Vec<u8>, Vec<u8>, &'static str);

#[test]
fn shapes_and_dtypes_are_checked_as_tensorflow_checks_them() {
    const LARGE: i64 = 1 << 62;
    let flat = |count: usize| ones("float_val", count);
    let dim = |parts: &[Vec<u8>]| field(2, &parts.concat());
    let unknown = number_field(3, 1);
    let alone = field(2, &unknown);
    let three = field(2, &number_field(1, 3));
    let named = field(2, &[number_field(1, 3), field(2, b"rows")].concat());
    let content = |elements: usize| content(4, elements);
    // What was sent and how TensorFlow reads it, the declared shape, `tensor_shape`, the values,
    // and the verdict.
    #[rustfmt::skip]
    let cases: Vec<ShapeCase> = vec![
        ("no tensor_shape: a scalar",                 "[]",    vec![],                   flat(1),    "conforms"),
        ("no tensor_shape: a scalar",                 "[-1]",  vec![],                   flat(1),    "add_batch_dim []->[1]"),
        ("no tensor_shape, 3 values: the first",      "[]",    vec![],                   flat(3),    "VALUE_COUNT"),
        ("no tensor_shape, 3 values: the first",      "[-1]",  vec![],                   flat(3),    "VALUE_COUNT"),
        ("no tensor_shape, 3 values, a row declared", "[-1,3]", vec![],                  flat(3),    "VALUE_COUNT + RANK_TOO_LOW"),
        ("no tensor_shape, no values: 0",             "[]",    vec![],                   vec![],     "VALUE_COUNT"),
        ("no dims: a scalar",                         "[]",    dims(&[]),                flat(1),    "conforms"),
        ("no dims, content of 3: an error",           "[]",    dims(&[]),                content(3), "CONTENT_SIZE"),
        ("unknown_rank alone: a scalar",              "[]",    alone.clone(),            flat(1),    "conforms"),
        ("unknown_rank alone, unknown declared",      "",      alone.clone(),            flat(1),    "conforms"),
        ("unknown_rank alone, 3 values: the first",   "[]",    alone.clone(),            flat(3),    "SHAPE_NOT_CONCRETE"),
        ("unknown_rank alone, no values: 0",          "[]",    alone.clone(),            vec![],     "VALUE_COUNT"),
        ("unknown_rank and dims: the dims",           "[-1]",  dim(&[unknown, three.clone()]), flat(3), "conforms"),
        ("one -1: an error",                          "[-1,2]", dims(&[-1, 2]),          flat(6),    "infer_dim [-1,2]->[3,2]"),
        ("one -1: an error",                          "[-1,2]", dims(&[-1, 2]),          content(6), "infer_dim [-1,2]->[3,2]"),
        ("one -1, a count that does not divide",      "[-1,2]", dims(&[-1, 2]),          flat(5),    "SHAPE_NOT_CONCRETE"),
        ("one -1, one value: no fill to infer from",  "[-1,2]", dims(&[-1, 2]),          flat(1),    "SHAPE_NOT_CONCRETE"),
        ("one -1, no values",                         "[-1,2]", dims(&[-1, 2]),          vec![],     "SHAPE_NOT_CONCRETE"),
        ("one -1 that infers another size",           "[2,2]", dims(&[-1, 2]),           flat(6),    "SHAPE_NOT_CONCRETE"),
        ("two -1",                                    "[-1,-1]", dims(&[-1, -1]),        flat(6),    "SHAPE_NOT_CONCRETE"),
        ("-2: an error",                              "[-1,2]", dims(&[-2, 2]),          flat(6),    "SHAPE_NOT_CONCRETE"),
        ("-1, unknown declared",                      "",      dims(&[-1]),              flat(3),    "SHAPE_NOT_CONCRETE"),
        ("names of dims are ignored",                 "[-1]",  dim(&[named]),            flat(3),    "conforms"),
        ("a dim twice in two shapes: both",           "[-1,-1]", [dims(&[1]), dim(&[three])].concat(), flat(3), "conforms"),
        ("rank 254",                                  "",      dims(&[1; 254]),          flat(1),    "conforms"),
        ("rank 32: stray axes",                       "[-1]",  dims(&[1; 32]),           flat(1),    "drop_unit_dims"),
        ("rank 254: too many to be a mistake",         "[-1]",  dims(&[1; 254]),          flat(1),    "RANK_TOO_HIGH"),
        ("rank 255: an error",                        "",      dims(&[1; 255]),          flat(1),    "RANK_TOO_HIGH"),
        ("rank 300: an error",                        "",      dims(&[1; 300]),          flat(1),    "RANK_TOO_HIGH"),
        ("[0,2^62]: empty",                           "",      dims(&[0, LARGE]),        vec![],     "conforms"),
        ("[2^62,2^62,0]: an error all the same",      "",      dims(&[LARGE, LARGE, 0]), vec![],     "MALFORMED"),
        ("[0,2^62,2^62]: empty",                      "",      dims(&[0, LARGE, LARGE]), vec![],     "conforms"),
        ("[2^62]: an error",                          "[-1]",  dims(&[LARGE]),           vec![],     "MALFORMED"),
        ("[2^62] of one value",                       "[-1]",  dims(&[LARGE]),           flat(1),    "MALFORMED"),
        ("[2^28] of one value: a GiB",                "[-1]",  dims(&[1 << 28]),         flat(1),    "TOO_LARGE"),
        ("[2^26] of one value: 256 MiB",              "[-1]",  dims(&[1 << 26]),         flat(1),    "conforms"),
        ("[2^26 + 1] of one value",                   "[-1]",  dims(&[(1 << 26) + 1]),   flat(1),    "TOO_LARGE"),
    ];
    let mut faults = Faults::default();
    for (what, declared, shape, values, expected) in cases {
        let tensor = [number_field(1, 1), shape, values].concat();
        let mut found = answer(&format!("float{declared}"), "", &tensor);
        if expected == "drop_unit_dims" {
            // The change of a shape of rank 32 is too long for the table.
            found.truncate(expected.len());
        }
        faults.compare(&format!("{what}, {declared:?} declared"), expected, &found);
    }
    // Mode observe refuses requests that endanger the server, too.
    let bomb = [number_field(1, 1), dims(&[1 << 28]), flat(1)].concat();
    faults.compare("a GiB in mode observe", "TOO_LARGE", &answer("float[-1]", "mode: observe", &bomb));
    for number in [0, 77, 9999, 101, 107, u64::MAX] {
        for declared in ["float[-1]", "float"] {
            let tensor = [number_field(1, number), dims(&[3]), flat(3)].concat();
            faults.compare(&format!("dtype {number}"), "DTYPE_MISMATCH", &answer(declared, "", &tensor));
        }
    }
    let absent = [dims(&[3]), flat(3)].concat();
    faults.compare("no dtype", "DTYPE_MISMATCH", &answer("float[-1]", "", &absent));
    faults.report();
}
