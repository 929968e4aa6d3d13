"""Loads SavedModels with the TensorFlow in an unpacked wheel, through the loader of TensorFlow
Serving, and runs `serving_default` on zeros: `load.py ROOT`, requests as JSON lines on stdin.

Run by verify.py in a process of its own, because a process can load only one TensorFlow."""

import ctypes
import json
import os
import sys
from ctypes import POINTER, byref, c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path

import dump

FLOAT = 1


class Output(ctypes.Structure):
    """`TF_Output` (tensorflow/c/c_api.h)."""

    _fields_ = (("oper", c_void_p), ("index", c_int))


def outputs(tf, graph, names):
    pairs = [name.rsplit(":", 1) for name in names]
    return (Output * len(pairs))(*(Output(tf.TF_GraphOperationByName(graph, c_char_p(op.encode())), int(at)) for op, at in pairs))


def zeros(tf, shape):
    elements = 1
    for size in shape:
        elements *= size
    tensor = tf.TF_AllocateTensor(c_int(FLOAT), (c_int64 * len(shape))(*shape), c_int(len(shape)), c_size_t(4 * elements))
    ctypes.memset(tf.TF_TensorData(c_void_p(tensor)), 0, 4 * elements)
    return tensor


def attempt(tf, request):
    """The stage that fails, or `ok`, and TensorFlow's text."""
    status, graph = c_void_p(tf.TF_NewStatus()), c_void_p(tf.TF_NewGraph())
    tags = (c_char_p * 1)(b"serve")
    options = c_void_p(tf.TF_NewSessionOptions())
    path = c_char_p(request["path"].encode())
    session = c_void_p(tf.TF_LoadSessionFromSavedModel(options, None, path, tags, c_int(1), graph, None, status))
    if tf.TF_GetCode(status):
        return "load", tf.TF_Message(status).decode()
    feeds = request["inputs"]
    tensors = (c_void_p * len(feeds))(*(zeros(tf, shape) for _, shape in feeds))
    fetched = (c_void_p * len(request["outputs"]))()
    tf.TF_SessionRun(
        session, None, outputs(tf, graph, [name for name, _ in feeds]), tensors, c_int(len(feeds)),
        outputs(tf, graph, request["outputs"]), fetched, c_int(len(fetched)), None, c_int(0), None, status,
    )
    if tf.TF_GetCode(status):
        return "run", tf.TF_Message(status).decode()
    return "ok", ""


def main(root):
    tf = dump.library(root)
    for name in ("TF_NewStatus", "TF_NewGraph", "TF_NewSessionOptions", "TF_LoadSessionFromSavedModel", "TF_GraphOperationByName", "TF_AllocateTensor", "TF_TensorData"):
        getattr(tf, name).restype = c_void_p
    tf.TF_Message.restype = c_char_p
    tf.TF_LoadSessionFromSavedModel.argtypes = [c_void_p, c_void_p, c_char_p, POINTER(c_char_p), c_int, c_void_p, c_void_p, c_void_p]
    tf.TF_SessionRun.argtypes = [c_void_p, c_void_p, POINTER(Output), POINTER(c_void_p), c_int, POINTER(Output), POINTER(c_void_p), c_int, c_void_p, c_int, c_void_p, c_void_p]
    tf.TF_SessionRun.restype = None
    for line in sys.stdin:
        stage, text = attempt(tf, json.loads(line))
        print(json.dumps({"stage": stage, "text": text[:300]}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
