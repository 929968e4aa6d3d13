//! Reports of users whose model and server had different versions: each error leads to the person
//! who can act, and says which release or package has what is missing. The texts are those of the
//! threads, some cut at the node.
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
        "NodeDef mentions attr 'index_type' not in Op<name=Fill; signature=dims:int32, value:T -> output:T; attr=T:type>; NodeDef: zeros = Fill[T=DT_FLOAT, index_type=DT_INT32](concat, zeros/Const). (Check whether your GraphDef-interpreting binary is up to date with your GraphDef-generating binary.).",
        Actor::Platform,
        "`index_type` of Fill",
    ),
    (
        "tensorflow/serving#1432",
        "NodeDef mentions attr 'batch_dims' not in Op<name=GatherV2; signature=params:Tparams, indices:Tindices, axis:Taxis -> output:Tparams; attr=Tparams:type; attr=Tindices:type,allowed=[DT_INT32, DT_INT64]; attr=Taxis:type,allowed=[DT_INT32, DT_INT64]>; NodeDef: {{node embedding_lookup}}. (Check whether your GraphDef-interpreting binary is up to date with your GraphDef-generating binary.).",
        Actor::Platform,
        "`batch_dims` of GatherV2",
    ),
    (
        "tensorflow/tensorflow#32066",
        "NodeDef mentions attr 'batch_dims' not in Op<name=GatherV2; signature=params:Tparams, indices:Tindices, axis:Taxis -> output:Tparams; attr=Tparams:type; attr=Tindices:type,allowed=[DT_INT32, DT_INT64]; attr=Taxis:type,allowed=[DT_INT32, DT_INT64]>; NodeDef: {{node embedding_lookup}}. (Check whether your GraphDef-interpreting binary is up to date with your GraphDef-generating binary.).\n\t [[{{node embedding_lookup}}]]",
        Actor::Platform,
        "the server is older",
    ),
    (
        "tensorflow/serving#1737",
        "NodeDef mentions attr 'config_proto' not in Op<name=StatefulPartitionedCall; signature=args: -> output:; attr=Tin:list(type),min=0; attr=Tout:list(type),min=0; attr=f:func; is_stateful=true>; NodeDef: {{node StatefulPartitionedCall_2}}",
        Actor::Platform,
        "`config_proto` of StatefulPartitionedCall",
    ),
    // What is kept of this thread does not say which attribute. The next thread is of the same
    // year, and does.
    ("tensorflow/serving#745", "NodeDef mentions attr", Actor::Platform, ""),
    (
        "davidsandberg/facenet#832",
        "NodeDef mentions attr 'dilations' not in Op<name=Conv2D; signature=input:T, filter:T -> output:T; attr=T:type,allowed=[DT_HALF, DT_FLOAT]; attr=strides:list(int); attr=use_cudnn_on_gpu:bool,default=true; attr=padding:string,allowed=[\"SAME\", \"VALID\"]; attr=data_format:string,default=\"NHWC\",allowed=[\"NHWC\", \"NCHW\"]>; NodeDef: pnet/p_net/conv1/Conv2D = Conv2D[T=DT_FLOAT]",
        Actor::Platform,
        "`dilations` of Conv2D",
    ),
    // tensorflow/tensorflow#22677 says that a model of TensorFlow 1.11 fails in TF Serving 1.10,
    // and shows no error. This is the one that such a pair gives.
    (
        "google-research/bert#523",
        "NodeDef mentions attr 'Truncate' not in Op<name=Cast; signature=x:SrcT -> y:DstT; attr=SrcT:type; attr=DstT:type>; NodeDef: bert/encoder/Cast = Cast[DstT=DT_FLOAT, SrcT=DT_INT32, Truncate=false]",
        Actor::Platform,
        "`Truncate` of Cast",
    ),
    (
        "triton-inference-server/server#2970",
        "input segment_ids[0] expected type int32 != int64, the type of model/DenseFeatures_191/191_embedding/191_embedding_weights/embedding_lookup_sparse/strided_slice:output:0[0]",
        Actor::Platform,
        "",
    ),
];

#[test]
fn version_threads_lead_to_the_person_who_can_act() {
    assert_eq!(THREADS.len(), 19);
    for (thread, text, actor, word) in THREADS {
        // core/framework/op.cc; the threads differ in the operation and the name of the host.
        let end = " in binary running on host. Make sure the Op and Kernel are registered";
        let text = format!("{text}{}", if text.starts_with("Op type") { end } else { "" });
        let found = explain(&text, &Context::default()).unwrap_or_else(|| panic!("{thread}"));
        assert_eq!(found.row.actor, *actor, "{thread}");
        let detail = of_error(&text).unwrap_or_default();
        assert!(detail.contains(word) && detail.is_empty() == word.is_empty(), "{thread}: {detail}");
        assert!(detail.is_ascii() && !detail.contains('\n'), "{thread}");
    }
}
