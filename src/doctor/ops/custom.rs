//! Operations that TensorFlow does not have: which package brings them, and whether TensorFlow
//! Serving has them.

/// Where an operation comes from.
#[derive(Debug, PartialEq, Eq)]
pub struct Package {
    pub name: &'static str,
    /// Names of its operations, or their beginnings with a `*`.
    ops: &'static [&'static str],
    /// Since when the official TensorFlow Serving is built with it (its RELEASE.md); `None` if it
    /// is not.
    pub in_serving: Option<&'static str>,
    /// What to do if the server does not have it.
    pub action: &'static str,
}

const LINK: &str = "run a TensorFlow Serving that is built with it (a custom `SUPPORTED_TENSORFLOW_OPS` in tensorflow_serving/model_servers/BUILD), or export the model without it";

const PACKAGES: &[Package] = &[
    Package {
        name: "tensorflow_text",
        ops: &[
            "TFText>*",
            "*SentencepieceTokenize*",
            "Sentencepiece*",
            "*TokenizeWithOffsets*",
            "WhitespaceTokenize*",
            "WordpieceTokenize*",
            "FastWordpiece*",
            "FastBertNormalize",
            "CaseFoldUTF8",
            "NormalizeUTF8*",
            "ConstrainedSequence",
            "MaxSpanningTree",
            "SentenceFragments*",
            "RegexSplitWithOffsets",
            "RougeL",
            "SplitMergeTokenize*",
            "NgramsStringJoin",
            "RoundRobin*",
            "MinDistance*",
        ],
        in_serving: Some("2.0"),
        action: "run the official TensorFlow Serving of the exporting TensorFlow's version or newer: it has the operations of tensorflow_text, and newer ones only in newer releases",
    },
    Package {
        name: "tensorflow_decision_forests",
        ops: &["SimpleML*", "YggdrasilDecisionForests*"],
        in_serving: Some("2.11"),
        action: "run the official TensorFlow Serving 2.11 or newer, which has the inference operations of decision forests",
    },
    Package { name: "tensorflow_addons", ops: &["Addons>*", "Addons*"], in_serving: None, action: LINK },
    Package {
        name: "ScaNN (tensorflow_recommenders)",
        ops: &["Scann>*", "Scann*"],
        in_serving: None,
        action: "run a TensorFlow Serving that is built with ScaNN (google/tf-serving-scann), or use the BruteForce layer for serving",
    },
    Package {
        name: "TensorFlow-TensorRT",
        ops: &["TRTEngineOp", "*TRTResource*", "GetCalibrationDataOp"],
        in_serving: None,
        action: "run the GPU image of TensorFlow Serving, which is built with TensorRT, or export the model before its conversion",
    },
    Package {
        name: "Horovod",
        ops: &["Horovod*"],
        in_serving: None,
        action: "export the model for inference: Horovod is needed for training only (wrap the optimizer after the model is built, or load the weights into a model without it)",
    },
    Package { name: "tensorflow_io", ops: &["IO>*"], in_serving: None, action: LINK },
    Package { name: "tensorflow_recommenders_addons", ops: &["TFRA>*"], in_serving: None, action: LINK },
    Package {
        name: "struct2tensor or tfx_bsl",
        ops: &["DecodeProtoSparse*", "Struct2Tensor>*", "EquiJoin*", "CreatePath*", "RunGraph*"],
        in_serving: Some("2.1"),
        action: LINK,
    },
    Package { name: "tensorflow_quantum", ops: &["Tfq*"], in_serving: None, action: LINK },
    Package {
        name: "tf.contrib",
        ops: &[
            "TreePredictions*",
            "TreeSerialize",
            "TreeDeserialize",
            "TreeVariable",
            "TreeSize",
            "GradientTrees*",
            "GatherTree",
            "BeamSearchStep",
            "SingleImageRandomDotStereograms",
            "KMeans*",
            "Resampler*",
            "PeriodicResample*",
            "FactorizationMachine*",
            "ImageConnectedComponents",
            "BipartiteMatch",
            "DecodeVideo",
        ],
        in_serving: None,
        action: "export the model again without tf.contrib, which TensorFlow Serving has only up to 1.15",
    },
];

/// The package that brings an operation, if its name tells.
pub fn package_of(op: &str) -> Option<&'static Package> {
    PACKAGES.iter().find(|package| package.ops.iter().any(|pattern| matches(pattern, op)))
}

fn matches(pattern: &str, op: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(inner), Some(_)) => op.contains(inner.trim_end_matches('*')),
        (Some(end), None) => op.ends_with(end),
        (None, Some(start)) => op.starts_with(start),
        (None, None) => op == pattern,
    }
}
