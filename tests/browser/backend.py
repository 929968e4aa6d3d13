"""A stand-in for TensorFlow Serving with small models, for the tests of the status page and of deploy/."""

import importlib
import sys
import tempfile
from concurrent import futures
from pathlib import Path

import grpc
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parents[2]
PROTO = ROOT / "proto"
FLOAT, DOUBLE, INT64 = 1, 2, 9
SERVICE = "tensorflow.serving."


def compile_protos(folder):
    """Makes Python classes of all messages in `folder`."""
    files = [str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto")]
    included = Path(protoc.__file__).parent / "_proto"
    code = protoc.main(["protoc", f"-I{PROTO}", f"-I{included}", f"--python_out={folder}", *files])
    assert code == 0, "protoc failed"
    sys.path.insert(0, str(folder))


_classes = tempfile.TemporaryDirectory(prefix="tfs-sidecar-browser-")
compile_protos(_classes.name)
predict_pb2 = importlib.import_module("tensorflow_serving.apis.predict_pb2")
metadata_pb2 = importlib.import_module("tensorflow_serving.apis.get_model_metadata_pb2")
status_pb2 = importlib.import_module("tensorflow_serving.apis.get_model_status_pb2")


def signature(inputs, output="score"):
    """A SignatureDefMap with one signature."""
    signatures = metadata_pb2.SignatureDefMap()
    made = signatures.signature_def["serving_default"]
    made.method_name = "tensorflow/serving/predict"
    for name, (dtype, dims) in inputs.items():
        info = made.inputs[name]
        info.name, info.dtype = f"serving_default_{name}:0", dtype
        for size in dims:
            info.tensor_shape.dim.add().size = size
    info = made.outputs[output]
    info.name, info.dtype = "StatefulPartitionedCall:0", FLOAT
    info.tensor_shape.dim.add().size = -1
    return signatures


class Backend:
    """Serves models; `models` maps a name to (version, inputs), and may be changed at any time.

    `services` are functions that add further services to the server.
    """

    def __init__(self, models, address="127.0.0.1:0", threads=8, services=()):
        self.models = models
        self.server = grpc.server(futures.ThreadPoolExecutor(threads))
        handlers = {
            f"{SERVICE}PredictionService": {"Predict": self.predict, "GetModelMetadata": self.metadata},
            f"{SERVICE}ModelService": {"GetModelStatus": self.status},
        }
        requests = {
            "Predict": predict_pb2.PredictRequest,
            "GetModelMetadata": metadata_pb2.GetModelMetadataRequest,
            "GetModelStatus": status_pb2.GetModelStatusRequest,
        }
        for service, methods in handlers.items():
            unary = {
                name: grpc.unary_unary_rpc_method_handler(
                    method, requests[name].FromString, lambda answer: answer.SerializeToString()
                )
                for name, method in methods.items()
            }
            self.server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, unary)])
        for add in services:
            add(self.server)
        port = self.server.add_insecure_port(address)
        self.address = address if address.startswith("unix:") else f"127.0.0.1:{port}"
        self.server.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.stop(None).wait()

    def find(self, spec, context):
        if spec.name not in self.models:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Latest({spec.name})")
        return self.models[spec.name]

    def predict(self, request, context):
        version, _ = self.find(request.model_spec, context)
        answer = predict_pb2.PredictResponse()
        answer.model_spec.name, answer.model_spec.version.value = request.model_spec.name, version
        answer.outputs["score"].dtype = FLOAT
        answer.outputs["score"].float_val.append(0.5)
        answer.outputs["score"].tensor_shape.dim.add().size = 1
        return answer

    def metadata(self, request, context):
        version, inputs = self.find(request.model_spec, context)
        answer = metadata_pb2.GetModelMetadataResponse()
        answer.model_spec.name, answer.model_spec.version.value = request.model_spec.name, version
        answer.metadata["signature_def"].Pack(signature(inputs))
        return answer

    def status(self, request, context):
        version, _ = self.find(request.model_spec, context)
        answer = status_pb2.GetModelStatusResponse()
        answer.model_version_status.add(version=version, state=30)
        return answer


class Client:
    """A client with a user agent of its own. `agent` may name the library of another language."""

    def __init__(self, address, agent):
        options = (("grpc.primary_user_agent", agent), ("grpc.use_local_subchannel_pool", 1))
        self.channel = grpc.insecure_channel(address, options=options)
        self.call = self.channel.unary_unary(
            f"/{SERVICE}PredictionService/Predict",
            lambda request: request.SerializeToString(),
            predict_pb2.PredictResponse.FromString,
        )

    def send(self, model, times=1, **inputs):
        """Sends tensors, each as (dtype, dims) or (dtype, dims, values); all values are 1 where they do not matter.
        Returns the last code."""
        request = predict_pb2.PredictRequest()
        request.model_spec.name = model
        for name, (dtype, dims, *values) in inputs.items():
            tensor = request.inputs[name]
            tensor.dtype = dtype
            count = 1
            for size in dims:
                tensor.tensor_shape.dim.add().size = size
                count *= size
            listed = {FLOAT: tensor.float_val, DOUBLE: tensor.double_val, INT64: tensor.int64_val}[dtype]
            listed.extend(values[0] if values else [1] * count)
        code = "OK"
        for _ in range(times):
            try:
                self.call(request, timeout=10)
            except grpc.RpcError as error:
                code = error.code().name
        return code

    def close(self):
        self.channel.close()
