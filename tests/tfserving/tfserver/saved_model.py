"""A SavedModel in a TensorFlow session, run like the session path of TensorFlow Serving."""

import ctypes

from tensorflow.core.protobuf import config_pb2, meta_graph_pb2

from .capi import TF, Output, Tensor, checked
from .errors import invalid

TAGS = (b"serve",)


class SavedModel:
    """A loaded SavedModel: its signatures, and `run`."""

    def __init__(self, path):
        self.graph = TF.TF_NewGraph()
        self.session = None
        options = TF.TF_NewSessionOptions()
        meta_graph = TF.TF_NewBuffer()
        try:
            tags = (ctypes.c_char_p * len(TAGS))(*TAGS)
            self.session = checked(
                TF.TF_LoadSessionFromSavedModel,
                options,
                None,
                str(path).encode(),
                tags,
                len(TAGS),
                self.graph,
                meta_graph,
            )
            data = ctypes.string_at(meta_graph.contents.data, meta_graph.contents.length)
        finally:
            TF.TF_DeleteBuffer(meta_graph)
            TF.TF_DeleteSessionOptions(options)
        self.signatures = meta_graph_pb2.MetaGraphDef.FromString(data).signature_def

    def __del__(self):
        if self.session:
            checked(TF.TF_CloseSession, self.session)
            checked(TF.TF_DeleteSession, self.session)
        TF.TF_DeleteGraph(self.graph)

    def _output(self, name):
        """Resolves `op:index`, or `op` for its first output."""
        operation, _, index = name.partition(":")
        found = TF.TF_GraphOperationByName(self.graph, operation.encode())
        if not found:
            raise invalid(
                f"Tensor {name}, specified in either feed_devices or fetch_devices was not found in the Graph"
            )
        return Output(found, int(index or 0))

    def run(self, feeds, fetches, timeout_ms=0):
        """Feeds {tensor name: Tensor} and returns the tensors named in `fetches`. No timeout if it
        is <= 0."""
        names = sorted(feeds)
        inputs = (Output * len(names))(*(self._output(name) for name in names))
        values = (ctypes.c_void_p * len(names))(*(feeds[name].handle for name in names))
        outputs = (Output * len(fetches))(*(self._output(name) for name in fetches))
        results = (ctypes.c_void_p * len(fetches))()
        options = config_pb2.RunOptions(timeout_in_ms=max(timeout_ms, 0)).SerializeToString()
        buffer = TF.TF_NewBufferFromString(options, len(options))
        try:
            checked(
                TF.TF_SessionRun,
                self.session,
                buffer,
                inputs,
                values,
                len(names),
                outputs,
                results,
                len(fetches),
                None,
                0,
                None,
            )
        finally:
            TF.TF_DeleteBuffer(buffer)
        return [Tensor(result) for result in results]
