"""Clients under load: gRPC's own Python client with long-lived channels, whose answers are all checked.

No client has a retry policy or waits for a connection. What gRPC does by itself is what a client does by
default: it sends a stream again that never left, or that a GOAWAY says was not processed ("transparent
retries"), and asks DNS again when it loses a connection.
"""

import json
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import grpc

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "browser"))

from backend import FLOAT, SERVICE, predict_pb2  # noqa: E402
from pod import clock  # noqa: E402
from serving import WEIGHTS  # noqa: E402

DEADLINE = 20
ROUND_ROBIN = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})
OPTIONS = {
    "grpc.use_local_subchannel_pool": 1,
    # The rolling updates of a test follow each other in seconds. By default, DNS is asked at most every 30 s.
    "grpc.dns_min_time_between_resolutions_ms": 500,
}


class Client(threading.Thread):
    """Sends one request after the other. With `calls`, it makes a new channel after so many."""

    def __init__(self, name, target, model, round_robin=False, seconds=0, pause=0.02, calls=None):
        super().__init__(name=name)
        self.target, self.model, self.seconds, self.pause, self.calls = target, model, seconds, pause, calls
        self.options = {**OPTIONS, **({"grpc.service_config": ROUND_ROBIN} if round_robin else {})}
        self.ended, self.sent, self.wrong, self.failures = threading.Event(), 0, 0, []
        self.slowest = 0

    def run(self):
        while not self.ended.is_set():
            with grpc.insecure_channel(self.target, options=list(self.options.items())) as channel:
                call = channel.unary_unary(
                    f"/{SERVICE}PredictionService/Predict",
                    predict_pb2.PredictRequest.SerializeToString,
                    predict_pb2.PredictResponse.FromString,
                )
                made = 0
                while not self.ended.is_set() and made != self.calls:
                    made += 1
                    self.send(call)
                    self.ended.wait(self.pause)

    def send(self, call):
        self.sent += 1
        values = [self.sent % 1000, self.sent % 7, len(self.name)]
        request = predict_pb2.PredictRequest()
        request.model_spec.name = self.model
        tensor = request.inputs["x"]
        tensor.dtype = FLOAT
        tensor.tensor_shape.dim.add().size = 1
        tensor.tensor_shape.dim.add().size = len(values) + 1
        tensor.float_val.extend([self.seconds, *values])
        begun = time.monotonic()
        try:
            answer = call(request, timeout=DEADLINE).outputs["score"].float_val
        except grpc.RpcError as error:
            self.failures.append((round(clock(), 3), self.name, error.code().name, error.details()))
            return
        self.slowest = max(self.slowest, time.monotonic() - begun)
        self.wrong += list(answer) != [sum(weight * value for weight, value in zip(WEIGHTS, values))]


class Traffic:
    """Clients of all kinds, from the beginning to the end of the `with` block."""

    def __init__(self, cluster_ip, headless, model):
        self.clients = [
            Client("round robin", headless, model, round_robin=True),
            Client("round robin, slow model", headless, model, round_robin=True, seconds=0.3),
            Client("single connection", cluster_ip, model),
            Client("single connection, slow model", cluster_ip, model, seconds=0.3),
            Client("new connections", cluster_ip, model, calls=5, pause=0.05),
        ]

    def __enter__(self):
        for client in self.clients:
            client.start()
        return self

    def __exit__(self, *_):
        for client in self.clients:
            client.ended.set()
        for client in self.clients:
            client.join()

    @property
    def sent(self):
        return {client.name: client.sent for client in self.clients}

    @property
    def wrong(self):
        return sum(client.wrong for client in self.clients)

    @property
    def failures(self):
        return sorted(failure for client in self.clients for failure in client.failures)

    def codes(self):
        return Counter(f"{name}: {code}" for _, name, code, _ in self.failures)
