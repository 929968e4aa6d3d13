"""Prints the operations that the TensorFlow in an unpacked wheel registers, as a serialized `OpList`.

Run by generate.py in a process of its own, because a process can load only one TensorFlow."""

import ctypes
import os
import subprocess
import sys
import tempfile
from pathlib import Path

# TensorFlow's own names for its libraries, the newest first.
LIBRARIES = ("libtensorflow_cc.so.2", "python/_pywrap_tensorflow_internal.so")


class Buffer(ctypes.Structure):
    """`TF_Buffer` (tensorflow/c/c_api.h)."""

    _fields_ = (("data", ctypes.c_void_p), ("length", ctypes.c_size_t), ("deallocator", ctypes.c_void_p))


def python_symbols(folder):
    """TensorFlow 2.4 needs a data symbol that Python no longer exports. Lazy binding does not help
    with data, so a library provides it."""
    shim = Path(folder) / "symbols.so"
    source = "int _Py_CheckRecursionLimit = 1000;\n"
    command = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(shim)]
    subprocess.run(command, input=source.encode(), check=True)
    ctypes.CDLL(str(shim), mode=os.RTLD_NOW | os.RTLD_GLOBAL)


def library(root):
    """TensorFlow's C API."""
    with tempfile.TemporaryDirectory() as folder:
        python_symbols(folder)
    mode = os.RTLD_LAZY | os.RTLD_GLOBAL
    ctypes.CDLL(str(root / "libtensorflow_framework.so.2"), mode=mode)
    path = next(root / name for name in LIBRARIES if (root / name).exists())
    return ctypes.CDLL(str(path), mode=mode)


def main(root):
    tf = library(root)
    tf.TF_GetAllOpList.restype = ctypes.POINTER(Buffer)
    buffer = tf.TF_GetAllOpList().contents
    sys.stdout.buffer.write(ctypes.string_at(buffer.data, buffer.length))
    sys.stdout.flush()
    # Its static destructors are of no use here, and some need Python.
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
