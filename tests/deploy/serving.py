"""Takes the place of tensorflow_model_server in a simulated pod: its flags, its signals, and a model that computes.

The input `x` is [seconds, a, b, c]: the answer comes after so many seconds, and is a + 2b + 4c. Like
TensorFlow Serving, the process has no handler for SIGTERM: it ends at once, or ignores it as PID 1.
"""

import argparse
import os
import re
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "browser"))

from backend import FLOAT, Backend, predict_pb2  # noqa: E402
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # noqa: E402

WEIGHTS = (1, 2, 4)


class Serving(Backend):
    def predict(self, request, context):
        version, _ = self.find(request.model_spec, context)
        seconds, *values = request.inputs["x"].float_val
        if seconds:
            time.sleep(seconds)  # The time that the model takes.
        answer = predict_pb2.PredictResponse()
        answer.model_spec.name, answer.model_spec.version.value = request.model_spec.name, version
        score = answer.outputs["score"]
        score.dtype = FLOAT
        score.float_val.append(sum(weight * value for weight, value in zip(WEIGHTS, values)))
        score.tensor_shape.dim.add().size = 1
        return answer


def flags(arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8500)
    parser.add_argument("--grpc_socket_path", default="")
    parser.add_argument("--model_name", default="default")
    parser.add_argument("--model_config_file", default="")
    parser.add_argument("--grpc_max_threads", type=int, default=16)
    parser.add_argument("--enable_grpc_healthcheck_service", default="false", nargs="?", const="true")
    # Others have no meaning here.
    return parser.parse_known_args(arguments)[0]


def serve_health(server):
    service = health.HealthServicer()
    service.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(service, server)


def main():
    wanted = flags(sys.argv[1:])
    names = [wanted.model_name]
    if wanted.model_config_file:
        names = re.findall(r'name:\s*"([^"]+)"', Path(wanted.model_config_file).read_text())
    # TensorFlow Serving listens on all addresses of its pod; here, a pod has one.
    addresses = [f"{os.environ['POD_ADDRESS']}:{wanted.port}"] if wanted.port else []
    addresses += [f"unix://{wanted.grpc_socket_path}"] if wanted.grpc_socket_path else []
    models = {name: (1, {"x": (FLOAT, [-1, 4])}) for name in names}
    services = [serve_health] if wanted.enable_grpc_healthcheck_service == "true" else []
    services += [lambda server, more=more: server.add_insecure_port(more) for more in addresses[1:]]
    _serving = Serving(models, addresses[0], wanted.grpc_max_threads, services)
    threading.Event().wait()


if __name__ == "__main__":
    main()
