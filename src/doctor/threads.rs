//! Reports of users whose model and server had different versions: each error leads to the person
//! who can act, and says which release or package has what is missing.
use super::ops::of_error;
use crate::explain::{Actor, Context, explain};

/// The thread, the error, who must act, and words of what the tables add.
const THREADS: &[(&str, &str, Actor, &str)] = &[
    ("tensorflow/serving#411", "Op type not registered 'FIFOQueueV2'", Actor::Platform, "older than that"),
    (
        "tensorflow/serving#1155",
        "Op type not registered 'PaddedBatchDatasetV2'",
        Actor::Platform,
        "older than that",
    ),
    ("tensorflow/serving#924", "Op type not registered 'ClipByValue'", Actor::Platform, "older than that"),
    ("tensorflow/serving#992", "Op type not registered 'PyFunc'", Actor::Exporter, "calls Python"),
    ("tensorflow/serving#1167", "Op type not registered 'PyFunc'", Actor::Exporter, "calls Python"),
    ("tensorflow/serving#116", "Op type not registered 'TanhGrad'", Actor::Platform, "built without it"),
    ("tensorflow/serving#896", "Op type not registered 'att_sum_bahdanau'", Actor::Platform, "custom op"),
    (
        "tensorflow/serving#1177",
        "Op type not registered 'ImageProjectiveTransformV2'",
        Actor::Platform,
        "every TensorFlow since 2.4",
    ),
    ("tensorflow/serving#278", "Op type not registered 'TreePredictions'", Actor::Platform, "tf.contrib"),
    ("tensorflow/custom-op#68", "Op type not registered 'ActiveShift2DOp'", Actor::Platform, "custom op"),
    (
        "kubeflow/pipelines#1102",
        "Op type not registered 'NonMaxSuppressionV3'",
        Actor::Platform,
        "older than that",
    ),
    (
        "tensorflow/serving#831",
        "NodeDef mentions attr 'index_type' not in Op<name=Fill; signature=dims:int32, value:T -> output:T>",
        Actor::Platform,
        "`index_type` of Fill",
    ),
    (
        "tensorflow/serving#1432",
        "NodeDef mentions attr 'batch_dims' not in Op<name=GatherV2; signature=params:Tparams>",
        Actor::Platform,
        "`batch_dims` of GatherV2",
    ),
    (
        "tensorflow/tensorflow#32066",
        "NodeDef mentions attr 'batch_dims' not in Op<name=GatherV2; signature=params:Tparams>; NodeDef: {{node gather}}",
        Actor::Platform,
        "the server is older",
    ),
    (
        "tensorflow/serving#1737",
        "NodeDef mentions attr 'config_proto' not in Op<name=StatefulPartitionedCall; signature=args: -> output:>",
        Actor::Platform,
        "`config_proto` of StatefulPartitionedCall",
    ),
    (
        "tensorflow/serving#745",
        "NodeDef mentions attr 'dilations' not in Op<name=Conv2D; signature=input:T, filter:T -> output:T>",
        Actor::Platform,
        "`dilations` of Conv2D",
    ),
    (
        "tensorflow/tensorflow#22677",
        "NodeDef mentions attr 'Truncate' not in Op<name=Cast; signature=x:SrcT -> y:DstT>",
        Actor::Platform,
        "`Truncate` of Cast",
    ),
    (
        "triton-inference-server/server#2970",
        "input segment_ids[0] expected type int32 != int64, the type of concat[0]",
        Actor::Platform,
        "",
    ),
];

#[test]
fn version_threads_lead_to_the_person_who_can_act() {
    assert_eq!(THREADS.len(), 18);
    for (thread, text, actor, word) in THREADS {
        let text = format!("{text} in binary running on host. Make sure the Op and Kernel are registered");
        let found = explain(&text, &Context::default()).unwrap_or_else(|| panic!("{thread}"));
        assert_eq!(found.row.actor, *actor, "{thread}");
        let detail = of_error(&text).unwrap_or_default();
        assert!(detail.contains(word) && detail.is_empty() == word.is_empty(), "{thread}: {detail}");
        assert!(detail.is_ascii() && !detail.contains('\n'), "{thread}");
    }
}
