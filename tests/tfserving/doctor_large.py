"""Measures `doctor` on a SavedModel of 1 GB: seconds, and the most memory that it held. Exits with 1 if it
takes more than 2 s or 100 MB."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from sidecar import binary

SECONDS, MEGABYTES = 2.0, 100
# 16 constants of 64 MB in the graph, as in a frozen model, and 50,000 nodes.
CONSTANTS, FLOATS, NODES = 16, 16 << 20, 50_000


def write(export):
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    @tf.function(input_signature=[tf.TensorSpec((None, 2), tf.float32, name="x")])
    def double(x):
        return {"y": x * 2.0}

    module = tf.Module()
    module.double = double
    tf.saved_model.save(module, str(export), signatures={"serving_default": double})
    path = export / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    graph = model.meta_graphs[0].graph_def
    for number in range(NODES):
        node = graph.node.add(name=f"layer/{number}/identity", op="Identity", input=[f"layer/{number - 1}/identity" if number else "constant/0"])
        node.attr["T"].type = tf.float32.as_datatype_enum
    for number in range(CONSTANTS):
        node = graph.node.add(name=f"constant/{number}", op="Const")
        node.attr["dtype"].type = tf.float32.as_datatype_enum
        tensor = node.attr["value"].tensor
        tensor.dtype = tf.float32.as_datatype_enum
        tensor.tensor_shape.dim.add(size=FLOATS)
        tensor.tensor_content = bytes(4 * FLOATS)
    path.write_bytes(model.SerializeToString())


def main():
    with tempfile.TemporaryDirectory() as folder:
        export = Path(folder) / "1"
        # A process counts the memory of the one that started it, so TensorFlow runs in another.
        subprocess.run([sys.executable, __file__, str(export)], check=True, stderr=subprocess.DEVNULL)
        size = (export / "saved_model.pb").stat().st_size / 1e6
        started = time.monotonic()
        process = subprocess.Popen([binary(), "doctor", "--saved-model", str(export), "--tf-version", "2.21"], stdout=subprocess.PIPE, env={})
        output = process.stdout.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
    assert status == 0, output
    assert "saved_model.pb of" in output
    # Linux counts it in KiB.
    megabytes = usage.ru_maxrss * 1024 / 1e6
    print(f"doctor on a SavedModel of {size:.0f} MB: {seconds:.2f} s, {megabytes:.0f} MB")
    return int(seconds > SECONDS or megabytes > MEGABYTES)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        write(Path(sys.argv[1]))
    else:
        sys.exit(main())
