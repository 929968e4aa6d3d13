//! Fixed signatures of the models in the golden tests, whose requests are the seeds, and a few
//! requests to try on any signature.
use std::sync::LazyLock;

use tfs_sidecar::repair::notation;
use tfs_sidecar::signature::{Signature, Signatures};
use tfs_sidecar::wire::Rope;

/// One model on each line, with ` & ` between its signatures. `seeds.py` uses the same order.
pub const MODELS: &[(&str, &str)] = &[
    (
        "mlp",
        "@__saved_model_init_op & input_tensor=serving_default_input_tensor:0:float[-1,128] -> probs:float[-1,10]",
    ),
    (
        "twoin",
        "k=serving_default_k:0:int32[-1] x=serving_default_x:0:float[-1,8] -> k2:int32[-1] xx:float[-1,8] y:float[-1]",
    ),
    ("cnn", "image=serving_default_image:0:float[-1,28,28,1] -> probs:float[-1,10]"),
    ("fixed", "x=serving_default_x:0:float[4,16] -> y:float[4,2]"),
    (
        "example",
        "@dangling x=xin:0:float[-1,4] -> scores:float[-1,3] & @odd_method x=xin:0:float[-1,4] -> scores:float[-1,3] & @predict x=xin:0:float[-1,4] -> scores:float[-1,3] & @predict_str inputs=input_example_tensor:0:string[-1] -> classes:string[-1,3] scores:float[-1,3] & @regress inputs=input_example_tensor:0:string[-1] -> outputs:float[-1,1] & inputs=input_example_tensor:0:string[-1] -> classes:string[-1,3] scores:float[-1,3]",
    ),
    ("rank0", "x=serving_default_x:0:float[] -> y:float[]"),
    ("unkrank", "x=serving_default_x:0:float -> rank:int32[] shape:int32[-1] y:float"),
    (
        "multisig",
        "@ids ids=ids_ids:0:int64[-1] -> plus1:int64[-1] & x=serving_default_x:0:float[-1,-1] -> y:float[-1,-1]",
    ),
    (
        "ab",
        "a=serving_default_a:0:float[-1,4] b=serving_default_b:0:float[-1,4] -> c:float[-1,4] cat:float[-1,8]",
    ),
    ("scalarout", "x=serving_default_x:0:float[-1,4] -> sum:float[] y:float[-1,4]"),
    (
        "mlp_keras",
        "@serve input_tensor=serve_input_tensor:0:float[-1,128] -> output_0:float[-1,10] & input_tensor=serving_default_input_tensor:0:float[-1,128] -> output_0:float[-1,10]",
    ),
    ("echo_float16", "x:half[-1,3] -> y:half[-1,3]"),
    ("echo_bfloat16", "x:bfloat16[-1,3] -> y:bfloat16[-1,3]"),
    ("echo_float32", "x:float[-1,3] -> y:float[-1,3]"),
    ("echo_float64", "x:double[-1,3] -> y:double[-1,3]"),
    ("echo_int8", "x:int8[-1,3] -> y:int8[-1,3]"),
    ("echo_uint8", "x:uint8[-1,3] -> y:uint8[-1,3]"),
    ("echo_int16", "x:int16[-1,3] -> y:int16[-1,3]"),
    ("echo_uint16", "x:uint16[-1,3] -> y:uint16[-1,3]"),
    ("echo_int32", "x:int32[-1,3] -> y:int32[-1,3]"),
    ("echo_int64", "x:int64[-1,3] -> y:int64[-1,3]"),
    ("echo_uint32", "x:uint32[-1,3] -> y:uint32[-1,3]"),
    ("echo_uint64", "x:uint64[-1,3] -> y:uint64[-1,3]"),
    ("echo_bool", "x:bool[-1,3] -> y:bool[-1,3]"),
    ("echo_string", "x:string[-1,3] -> y:string[-1,3]"),
    ("echo_complex64", "x:complex64[-1,3] -> y:complex64[-1,3]"),
    ("echo_complex128", "x:complex128[-1,3] -> y:complex128[-1,3]"),
    ("nodefault", "@only_me x=only_me_x:0:float[-1,4] -> y:float[-1,4]"),
    (
        "withdefault",
        "scale=serving_default_scale:0:float[] x=serving_default_x:0:float[-1,4] -> y:float[-1,4]",
    ),
];

static SIGNATURES: LazyLock<Vec<Signatures>> =
    LazyLock::new(|| MODELS.iter().map(|(_, text)| text.split(" & ").flat_map(one).collect()).collect());

fn one(text: &str) -> Vec<Signature> {
    let parsed = notation::signature(text).expect("the table is in the notation");
    parsed.iter().map(|signature| signature.as_ref().clone()).collect()
}

/// The signatures of a model in the table.
pub fn signatures(index: usize) -> &'static Signatures {
    &SIGNATURES[index % SIGNATURES.len()]
}

/// The index of a model in the table.
pub fn index(model: &str) -> Option<usize> {
    MODELS.iter().position(|(name, _)| *name == model)
}

static PROBES: LazyLock<Vec<Rope>> = LazyLock::new(|| {
    ["x:float[2]", "x:double[1,2] y:int64[1]", "@other x:string[1]{a}", "", "x:float[]{1} x:int32[0]"]
        .iter()
        .map(|text| notation::request("m", text).expect("a probe is in the notation"))
        .collect()
});

pub fn probes() -> &'static [Rope] {
    &PROBES
}
