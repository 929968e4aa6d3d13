"""The gRPC server: raw bytes in and out, TensorFlow Serving's codes and thread limit, the
recorder."""

import os
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from .errors import StatusError
from .inference import classify, multi_inference, regress
from .predict import predict
from .status import get_model_metadata, get_model_status, reload_config

PREDICTION = "/tensorflow.serving.PredictionService/"
MODEL = "/tensorflow.serving.ModelService/"
RECORDER = "/tfsidecar.test.Recorder/"

OPTIONS = (
    ("grpc.max_receive_message_length", 2**31 - 1),
    ("grpc.max_send_message_length", -1),
    # Without this, two servers could share a port by accident.
    ("grpc.so_reuseport", 0),
)


def timed(function):
    """Passes the remaining time in milliseconds, or 0 without a deadline, to methods that run the
    model."""

    def call(models, request, context):
        remaining = context.time_remaining()
        return function(models, request, 0 if remaining is None else min(int(remaining * 1000), 2**31 - 1))

    return call


def untimed(function):
    return lambda models, request, _context: function(models, request)


METHODS = {
    PREDICTION + "Predict": (predict_pb2.PredictRequest, timed(predict)),
    PREDICTION + "Classify": (classification_pb2.ClassificationRequest, timed(classify)),
    PREDICTION + "Regress": (regression_pb2.RegressionRequest, timed(regress)),
    PREDICTION + "MultiInference": (inference_pb2.MultiInferenceRequest, timed(multi_inference)),
    PREDICTION + "GetModelMetadata": (get_model_metadata_pb2.GetModelMetadataRequest, untimed(get_model_metadata)),
    MODEL + "GetModelStatus": (get_model_status_pb2.GetModelStatusRequest, untimed(get_model_status)),
    MODEL + "HandleReloadConfigRequest": (model_management_pb2.ReloadConfigRequest, reload_config),
}


class Recorder:
    """The last Predict requests in their original bytes, and the number of all."""

    def __init__(self, keep):
        self.lock = threading.Lock()
        self.requests = deque(maxlen=keep)
        self.count = 0

    def add(self, data):
        with self.lock:
            self.count += 1
            self.requests.append(data)

    def last(self, data, context):
        """The newest request, or the k-th before it, with k as decimal digits in the body."""
        with self.lock:
            index = len(self.requests) - 1 - int(data or b"0")
            found = self.requests[index] if index >= 0 else None
        if found is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such request was recorded")
        return found

    def total(self, _data, _context):
        with self.lock:
            return str(self.count).encode()


class Service(grpc.GenericRpcHandler):
    """Routes every call. Methods unknown to TensorFlow Serving are UNIMPLEMENTED with an empty
    text."""

    def __init__(self, models, max_threads, record):
        self.models = models
        self.slots = threading.Semaphore(max_threads) if max_threads else None
        self.recorder = Recorder(record) if record else None

    def service(self, details):
        path = details.method
        if path in METHODS:
            return grpc.unary_unary_rpc_method_handler(lambda data, context: self.limited(path, data, context))
        if self.recorder and path == RECORDER + "Last":
            return grpc.unary_unary_rpc_method_handler(self.recorder.last)
        if self.recorder and path == RECORDER + "Count":
            return grpc.unary_unary_rpc_method_handler(self.recorder.total)
        return grpc.stream_stream_rpc_method_handler(unknown)

    def limited(self, path, data, context):
        if self.slots is None:
            return self.answer(path, data, context)
        if not self.slots.acquire(blocking=False):
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Server Threadpool Exhausted")
        try:
            return self.answer(path, data, context)
        finally:
            self.slots.release()

    def answer(self, path, data, context):
        request_type, function = METHODS[path]
        if self.recorder and path == PREDICTION + "Predict":
            self.recorder.add(data)
        try:
            request = request_type.FromString(data)
        except DecodeError:
            context.abort(grpc.StatusCode.INTERNAL, "")
        try:
            return function(self.models, request, context).SerializeToString()
        except StatusError as error:
            context.abort(*error.grpc())


def unknown(_requests, context):
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "")


def start(models, port, max_threads=0, record=0):
    """(server, port it listens on). No thread limit if `max_threads` is 0."""
    # More workers than slots: a call beyond the limit needs a thread that refuses it.
    workers = max(64, max_threads + 8 * (os.cpu_count() or 1))
    server = grpc.server(ThreadPoolExecutor(workers), options=OPTIONS)
    server.add_generic_rpc_handlers((Service(models, max_threads, record),))
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server, bound
