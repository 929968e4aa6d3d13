"""A test server: TensorFlow Serving's gRPC services on the TensorFlow runtime of the Python
wheel."""

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# The golden records were made without oneDNN, whose convolution ends the process if an input has
# the wrong rank.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

from tfserver import light  # noqa: E402

light.install()

from google.protobuf import text_format  # noqa: E402
from tensorflow_serving.config import model_server_config_pb2  # noqa: E402

from tfserver.errors import StatusError  # noqa: E402
from tfserver.models import Models, error_text  # noqa: E402
from tfserver.service import start  # noqa: E402


def model_config(text):
    """Parses `name=dir[:label=version...]`. With labels all versions are served, otherwise the
    latest."""
    name, equals, rest = text.partition("=")
    directory, *labels = rest.split(":")
    if not (name and equals and directory):
        raise argparse.ArgumentTypeError(f"expected name=dir[:label=version...], got {text!r}")
    config = model_server_config_pb2.ModelConfig(
        name=name, base_path=str(Path(directory).absolute()), model_platform="tensorflow"
    )
    for label in labels:
        key, _, number = label.partition("=")
        config.version_labels[key] = int(number)
        config.model_version_policy.all.SetInParent()
    return config


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", type=model_config, action="append", default=[], metavar="NAME=DIR[:LABEL=VERSION...]"
    )
    parser.add_argument(
        "--model-config-file", type=Path, help="ModelServerConfig in text format, as for TensorFlow Serving"
    )
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 picks a free one")
    parser.add_argument("--grpc-max-threads", type=int, default=0, help="refuse calls beyond this number at once; 0: no limit")
    parser.add_argument(
        "--record", type=int, default=0, nargs="?", const=100, help="keep the last N Predict requests (100)"
    )
    parser.add_argument("--file-system-poll-wait-seconds", type=float, default=1.0)
    return parser.parse_args()


def main():
    options = arguments()
    configs = options.model
    if options.model_config_file:
        text = options.model_config_file.read_text(encoding="utf-8")
        configs = configs + list(
            text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config
        )

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    models = Models(options.file_system_poll_wait_seconds)
    try:
        models.configure(configs, give_up=stop.is_set)
    except StatusError as error:
        sys.exit(f"Failed to start server. Error: {error_text(error)}")
    server, port = start(models, options.port, options.grpc_max_threads, options.record)
    print(f"listening 127.0.0.1:{port}", flush=True)
    stop.wait()
    server.stop(grace=1).wait()
    models.stop()


if __name__ == "__main__":
    main()
