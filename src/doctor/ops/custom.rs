//! Operations that TensorFlow does not have: which package brings them, and whether TensorFlow
//! Serving has them.

/// Where an operation comes from. The names are those of the packages' wheels
/// (`tools/op_tables/packages.py`); of Horovod and TensorRT those of their sources.
#[derive(Debug, PartialEq, Eq)]
pub struct Package {
    pub name: &'static str,
    /// Names of its operations, or their beginnings with a `*`.
    ops: &'static [&'static str],
    /// Since when the official TensorFlow Serving is built with it (`SUPPORTED_TENSORFLOW_OPS` in
    /// its model_servers/BUILD); `None` if it is not.
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
            "Sentencepiece*",
            "*TokenizeWithOffsets",
            "CaseFoldUTF8",
            "ConstrainedSequence",
            "FastBertNormalize",
            "FindSourceOffsets",
            "MaxSpanningTree",
            "NormalizeUTF8*",
            "PhraseTokenize",
            "RegexSplitWithOffsets",
            "RougeL",
            "SentenceFragments*",
            "TokenizerFromLogits",
        ],
        in_serving: Some("2.0"),
        action: "run the official TensorFlow Serving of the exporting TensorFlow's version or newer: it has the operations of tensorflow_text, and newer ones only in newer releases",
    },
    Package {
        name: "tensorflow_decision_forests",
        ops: &["SimpleML*", "Yggdrasil*"],
        in_serving: Some("2.11"),
        action: "run the official TensorFlow Serving 2.11 or newer, which has the inference operations of decision forests",
    },
    Package { name: "tensorflow_addons", ops: &["Addons>*"], in_serving: None, action: LINK },
    Package {
        name: "ScaNN (tensorflow_recommenders)",
        ops: &["Scann>*"],
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
        name: "struct2tensor",
        ops: &["DecodeProtoMap*", "DecodeProtoSparse*", "EquiJoin*", "ParquetDataset", "RunLengthBefore"],
        in_serving: None,
        action: LINK,
    },
    Package { name: "tensorflow_quantum", ops: &["Tfq*"], in_serving: None, action: LINK },
    Package {
        name: "tf.contrib",
        ops: &[
            "AdjustHsvInYiq",
            "BigQueryReader",
            "Bigtable*",
            "BipartiteMatch",
            "BucketizeWithInputBoundaries",
            "BuildCategoricalEqualitySplits",
            "BuildDenseInequalitySplits",
            "BuildSparseInequalitySplits",
            "BytesInUse",
            "BytesLimit",
            "CenterTreeEnsembleBias",
            "CreateFertileStatsVariable",
            "CreateQuantileAccumulator",
            "CreateStatsAccumulator*",
            "CreateTreeEnsembleVariable",
            "CreateTreeVariable",
            "DatasetToBigtable",
            "DecisionTree*",
            "DecodeAudio*",
            "DecodeLibsvm",
            "DecodeVideo",
            "EncodeAudio*",
            "FeatureUsageCounts",
            "FertileStats*",
            "FinalizeTree",
            "FusedConv2DBiasActivation",
            "GatherTree",
            "GcsConfigure*",
            "GenerateBigQueryReaderPartitions",
            "GradientTrees*",
            "GrowTree*",
            "IgniteDataset",
            "ImageConnectedComponents",
            "ImageProjectiveTransform*",
            "KafkaDataset",
            "KinesisDataset",
            "MakeQuantileSummaries",
            "MaskedMatmul",
            "MaxBytesInUse",
            "ObtainNext",
            "PeriodicResample*",
            "ProcessInputV4",
            "Quantile*",
            "ReduceSlice*",
            "ReinterpretStringToFloat",
            "Resampler*",
            "ScatterAddNdim",
            "SequenceFileDataset",
            "SingleImageRandomDotStereograms",
            "SkipGramGenerateCandidates",
            "SparseFeatureCross*",
            "StatsAccumulator*",
            "TraverseTreeV4",
            "TreeDeserialize",
            "TreeEnsemble*",
            "TreeIsInitializedOp",
            "TreePredictions*",
            "TreeSerialize",
            "TreeSize",
            "UpdateModelV4",
            "WALSComputePartialLhsAndRhs",
            "ZeroInitializer",
            "ZeroVarInitializer",
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

#[cfg(test)]
mod tests {
    use super::super::Op;
    use super::*;

    #[test]
    fn each_operation_of_a_package_is_attributed_to_it() {
        let text = include_str!("../../../tests/fixtures/custom_ops.tsv");
        let (mut all, mut used) = (0, std::collections::BTreeSet::<&str>::new());
        for line in text.lines() {
            let (package, ops) = line.split_once('\t').unwrap();
            // Operations that a newer TensorFlow has are not foreign.
            for op in ops.split(['\t', ' ']).skip(1).filter(|op| Op::find(op).is_none()) {
                let found = package_of(op).map(|package| package.name);
                assert_eq!(found, Some(package), "{op}");
                let patterns = PACKAGES.iter().flat_map(|package| package.ops);
                used.extend(patterns.filter(|pattern| matches(pattern, op)));
                all += 1;
            }
        }
        assert!(all > 300, "{all}");
        // No pattern is there that no wheel shows.
        for package in
            PACKAGES.iter().filter(|package| !["Horovod", "TensorFlow-TensorRT"].contains(&package.name))
        {
            for pattern in package.ops {
                assert!(
                    used.contains(pattern) || Op::find(pattern.trim_end_matches('*')).is_some(),
                    "{pattern}"
                );
            }
        }
    }
}
