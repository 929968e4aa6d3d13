#!/usr/bin/env python3
"""Serves the models with the part of TensorFlow Serving's gRPC API that the sidecar uses.

All runs go to one thread, one after the other in order of arrival. The other threads only receive,
parse and answer."""

import argparse
import json
import queue
import socketserver
import sys
import threading
import warnings
from concurrent.futures import Future, ThreadPoolExecutor

import grpc
import numpy
import torch
import wire
from models import MODELS, make, use_tf32

INPUT, OUTPUT = "input_tensor", "output_0"
THREADS = 64
DTYPES = {"float": (wire.FLOAT, numpy.dtype("<f4")), "uint8": (wire.UINT8, numpy.dtype("u1"))}


class Device(threading.Thread):
    """The thread that runs the models."""

    def __init__(self, device, names):
        super().__init__(daemon=True)
        self.device, self.models = device, {name: make(name, device) for name in names}
        self.waiting = queue.SimpleQueue()
        self.start()

    def run(self):
        while True:
            name, rows, answer = self.waiting.get()
            try:
                answer.set_result(self.compute(name, rows))
            except Exception as error:
                answer.set_exception(error)

    @torch.inference_mode()
    def compute(self, name, rows):
        # Copying the answer waits for the GPU.
        return self.models[name](torch.from_numpy(rows).to(self.device)).cpu().numpy()

    def submit(self, name, rows):
        answer = Future()
        self.waiting.put((name, rows, answer))
        return answer


class Service:
    def __init__(self, device):
        self.device, self.lock = device, threading.Lock()
        self.counts = {"predict": 0, "rows": 0}

    def predict(self, request, context):
        try:
            model, name, dtype, dims, content = wire.read_predict(request)
            (wanted, kind), declared = DTYPES[MODELS[model].dtype], MODELS[model].dims
            if (name, dtype, dims[1:]) != (INPUT, wanted, declared) or not dims[0]:
                raise ValueError(f"expected `{INPUT}` with rows of {declared}")
            rows = numpy.frombuffer(content, kind).reshape(dims)
        except (ValueError, KeyError, IndexError) as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        result = self.device.submit(model, rows).result()
        with self.lock:
            self.counts["predict"] += 1
            self.counts["rows"] += dims[0]
        return wire.predict_response(model, OUTPUT, result.shape, memoryview(result).cast("B"))

    def metadata(self, request, context):
        model = self.known(request, context)
        kind = MODELS[model]
        return wire.metadata_response(model, INPUT, DTYPES[kind.dtype][0], kind.dims, OUTPUT, kind.outputs)

    def status(self, request, context):
        self.known(request, context)
        return wire.status_response()

    def known(self, request, context):
        model = wire.read_model(request)
        if model not in self.device.models:
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no model `{model}`")
        return model

    def tell(self, reset):
        with self.lock:
            counts = dict(self.counts)
            if reset:
                self.counts.update(predict=0, rows=0)
        return counts


def serve(service, port):
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(ThreadPoolExecutor(THREADS), options=options)
    methods = {
        "PredictionService": {"Predict": service.predict, "GetModelMetadata": service.metadata},
        "ModelService": {"GetModelStatus": service.status},
    }
    for name, handlers in methods.items():
        # Without serializers, messages are bytes.
        unary = {method: grpc.unary_unary_rpc_method_handler(call) for method, call in handlers.items()}
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(f"tensorflow.serving.{name}", unary)])
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server


def control(service, port):
    """Tells how many calls and rows there were, as the stub of tests/bench does: `s`, or `r` to
    start again from zero."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            reset = self.request.recv(1) == b"r"
            self.request.sendall(json.dumps(service.tell(reset)).encode() + b"\n")

    server = socketserver.TCPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--control", type=int, required=True)
    options.add_argument("--device", default="cuda")
    options.add_argument("--models", default=",".join(MODELS))
    options.add_argument("--no-tf32", action="store_true", help="multiply in full float32")
    options = options.parse_args()
    # The rows of a request are read in place, and never written.
    warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
    # The thread of the GPU must not wait 5 ms for one that parses.
    sys.setswitchinterval(0.0002)
    use_tf32(not options.no_tf32)
    service = Service(Device(options.device, options.models.split(",")))
    control(service, options.control)
    serve(service, options.port).wait_for_termination()


if __name__ == "__main__":
    main()
