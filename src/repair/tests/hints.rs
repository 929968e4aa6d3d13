//! Hints, case by case.
use super::*;

/// The hints of a verdict, in the order of its problems.
fn hints(verdict: &Verdict) -> String {
    let hints: Vec<&str> = verdict
        .problems
        .iter()
        .map(|problem| problem.hint.as_str())
        .filter(|hint| !hint.is_empty())
        .collect();
    hints.join(" | ")
}

#[test]
fn each_case_gets_the_expected_hint() {
    let nhwc = "looks like NCHW, this input is NHWC: transpose before sending";
    let nchw = "looks like NHWC, this input is NCHW: transpose before sending";
    let cases = [
        // Swapped inputs.
        (
            "item:int64[-1] user:string[-1]",
            "item:string[1] user:int64[1]",
            "item's tensor would fit input user, and user's would fit item | user's tensor would fit input item, and item's would fit user",
        ),
        (
            "a:float[-1,4] b:float[-1,9]",
            "a:double[2,9] b:double[2,4]",
            "a's tensor would fit input b, and b's would fit a | b's tensor would fit input a, and a's would fit b",
        ),
        ("a:float[-1,4] b:float[-1,9]", "a:float[2,9] b:float[2,9]", ""),
        (
            "a:string[-1] b:int64[-1] c:int64[-1]",
            "a:int64[1] b:string[1] c:string[1]",
            "this input takes bytes, such as text, an encoded image or a serialized tf.Example | this input takes numbers, such as token ids: tokenize or parse the text first | this input takes numbers, such as token ids: tokenize or parse the text first",
        ),
        // The order of axes.
        ("x:float[-1,224,224,3]", "x:float[1,3,224,224]", nhwc),
        ("x:float[-1,224,224,3]", "x:float[3,224,224]", nhwc),
        ("x:float[-1,-1,-1,3]", "x:float[2,3,20,30]", nhwc),
        ("x:float[224,224,3]", "x:float[3,224,224]", nhwc),
        ("x:float[-1,-1,3]", "x:float[3,20,30]", nhwc),
        ("x:float[-1,3,224,224]", "x:float[1,224,224,3]", nchw),
        ("x:float[-1,3,224,224]", "x:float[224,224,3]", nchw),
        (
            "x:float[-1,10,20,30]",
            "x:float[1,30,10,20]",
            "the dimensions are in another order: transpose before sending",
        ),
        ("x:float[-1,4]", "x:float[4,3]", "looks transposed: dimension 0 is the rows"),
        // Channels and sizes of images.
        ("x:float[-1,8,8,3]", "x:float[1,8,8,1]", "one channel was sent, this input takes 3: convert to RGB"),
        (
            "x:float[-1,8,8,3]",
            "x:float[8,8,4]",
            "four channels were sent, this input takes 3: drop the alpha channel",
        ),
        (
            "x:float[-1,8,8,1]",
            "x:float[1,8,8,3]",
            "colour was sent, this input takes 1 channel: convert to greyscale",
        ),
        (
            "x:float[-1,3,8,8]",
            "x:float[1,4,8,8]",
            "four channels were sent, this input takes 3: drop the alpha channel",
        ),
        ("x:float[-1,8,8,3]", "x:float[1,9,7,3]", "resize the image to 8x8 before sending"),
        ("x:float[-1,100,3]", "x:float[1,100,1]", ""),
        // Bytes and numbers.
        ("x:float[-1,8,8,3]", "x:string[1]", "this input takes decoded pixels: decode the image first"),
        ("x:uint8[-1,-1,3]", "x:string[2,2,3]", "this input takes decoded pixels: decode the image first"),
        (
            "x:int32[-1]",
            "x:string[1]",
            "this input takes numbers, such as token ids: tokenize or parse the text first",
        ),
        ("x:float[-1]", "x:string[1]", "this input takes numbers: decode, tokenize or parse the bytes first"),
        (
            "x:string[-1]",
            "x:float[1]",
            "this input takes bytes, such as text, an encoded image or a serialized tf.Example",
        ),
        ("x:int64[-1]", "x:float[1]", "send int64"),
        ("x:float[-1]", "x:bool[1]", "send float"),
        ("x:bool[-1]", "x:int32[1]", "send bool"),
        // tf.Example.
        ("examples:string[-1]", "examples:float[1]", "this signature takes serialized tf.Example protos"),
        (
            "x=input_example_tensor:0:string[-1]",
            "x:int64[4]",
            "this signature takes serialized tf.Example protos",
        ),
        (
            "inputs:string[-1]",
            "inputs:float[4]",
            "this signature takes strings, usually serialized tf.Example protos",
        ),
        (
            "examples:string[-1]",
            "age:float[1] income:float[1]",
            "this signature takes serialized tf.Example protos",
        ),
        (
            "x:float[-1]",
            "examples:string[1]",
            "`examples` is the input of serialized-tf.Example signatures; this one takes tensors | this input takes numbers: decode, tokenize or parse the bytes first",
        ),
        // Rows.
        ("x:float[-1,128]", "x:float[127]", "127 values are not a whole number of rows of 128"),
        ("x:float[-1,2,3]", "x:float[6]", "send shape [1,2,3]"),
        ("x:float[-1,2,3]", "x:float[12]", "send shape [2,2,3]"),
        ("x:float[-1,6]", "x:float[4,2,3]", "send shape [4,6]"),
        ("x:float[-1,6]", "x:float[2,3,4]", ""),
        ("x:float[1,2,3]", "x:float[12]", ""),
        ("x:float[-1,128]", "x:float[1,256]", ""),
        // Names.
        (
            "input_ids:int64[-1] mask:int64[-1]",
            "input-ids:int64[1] mask:int64[1]",
            "did you mean 'input_ids'?",
        ),
        (
            "input_ids:int64[-1] mask:int64[-1]",
            "Input_Ids:int64[1] mask:int64[1]",
            "did you mean 'input_ids'?",
        ),
        (
            "input_ids:int64[-1] mask:int64[-1]",
            "input_idx:int64[1] mask:int64[1]",
            "did you mean 'input_ids'?",
        ),
        ("input_ids:int64[-1] mask:int64[-1]", "input_ids:int64[1] maks:int64[1]", "did you mean 'mask'?"),
        ("ids_1:int64[-1] ids_2:int64[-1]", "ids_2:int64[1] ids_3:int64[1]", "did you mean 'ids_1'?"),
        ("input_ids:int64[-1] mask:int64[-1]", "tokens:int64[1] mask:int64[1]", ""),
        ("input_ids:int64[-1]", "input_ids:int64[1] input_idx:int64[1]", ""),
    ];
    for (signature, request, expected) in cases {
        let verdict = Case::new(signature, request).judge();
        assert_eq!(hints(&verdict), expected, "{signature} <- {request}: {:?}", verdict.problems);
    }
}

#[test]
fn strict_mode_hints_at_what_the_repair_would_have_sent() {
    let cases = [
        ("text:float[-1,100]", "text:float[100]", "send shape [1,100]"),
        ("x:float[-1,2]", "x:double[2]", "send float | send shape [1,2]"),
        ("inputs:float[-1]", "images:float[1]", "send it as 'inputs'"),
        ("@score x:float[-1]", "x:float[1]", "send signature_name 'score'"),
    ];
    for (signature, request, expected) in cases {
        let verdict = Case::new(signature, request).mode(Mode::Strict).judge();
        assert_eq!(hints(&verdict), expected, "{signature} <- {request}");
    }
}

#[test]
fn an_unknown_signature_gets_a_list_and_a_suggestion() {
    let case = Case::new("@score x:float[-1] y:int64[-1,2] -> z:float[-1]", "@scores x:float[1]");
    let mut strict = ModelPolicy::default();
    set(&mut strict.defaults, "only_signature", false);
    let case = Case { policy: strict, ..case };
    assert_eq!(
        case.says(),
        "Serving signature key \"scores\" not found; the model has 'score' (x: float [-1], y: int64 [-1,2]) (SIGNATURE_UNKNOWN; did you mean 'score'?)"
    );
    let many: Signatures = (0..100)
        .map(|n| crate::signature::Signature {
            name: format!("signature_{n:03}"),
            inputs: Vec::new(),
            outputs: Vec::new(),
            method_name: String::new(),
        })
        .collect();
    let list = super::super::hints::list(&many);
    assert!(list.len() < 500 && list.ends_with(" more"), "{list}");
}

#[test]
fn the_number_of_hints_is_limited() {
    let request: Vec<String> = (0..32).map(|n| format!("input_ids{n}:float[1]")).collect();
    let verdict = Case::new("input_ids:int64[-1] mask:int64[-1]", &request.join(" ")).judge();
    let hinted = verdict.problems.iter().filter(|problem| !problem.hint.is_empty()).count();
    assert!((1..=16).contains(&hinted), "{hinted}");
}

#[test]
fn an_output_of_another_signature_is_told() {
    let other = notation::signature("@debug x:float[-1] -> logits:float[-1]").unwrap();
    let filtered = |name: &str| {
        let mut case = Case::new("x:float[-1] -> y:float[-1]", "x:float[1]");
        case.signatures = case.signatures.iter().chain(other.iter()).map(|one| (**one).clone()).collect();
        case.message.append(crate::wire::emit::field(3, Rope::from(name.as_bytes().to_vec())));
        hints(&case.judge())
    };
    assert_eq!(filtered("logits"), "signature 'debug' has 'logits': send it as signature_name");
    assert_eq!(filtered("Y"), "did you mean 'y'?");
}
