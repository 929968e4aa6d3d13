"""TensorFlow's C API through ctypes: tensors reach the runtime without Python's casts."""

import ctypes
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path

import tensorflow

from .errors import StatusError

FLOAT = 1


class Output(ctypes.Structure):
    """TF_Output: an operation of a graph and the index of one of its outputs."""

    _fields_ = [("oper", c_void_p), ("index", c_int)]


class Buffer(ctypes.Structure):
    """TF_Buffer: bytes owned by the runtime."""

    _fields_ = [("data", c_void_p), ("length", c_size_t), ("deallocator", c_void_p)]


_SIGNATURES = {
    "TF_NewStatus": (c_void_p, []),
    "TF_DeleteStatus": (None, [c_void_p]),
    "TF_GetCode": (c_int, [c_void_p]),
    "TF_Message": (c_char_p, [c_void_p]),
    "TF_NewBuffer": (POINTER(Buffer), []),
    "TF_NewBufferFromString": (POINTER(Buffer), [c_char_p, c_size_t]),
    "TF_DeleteBuffer": (None, [POINTER(Buffer)]),
    "TF_AllocateTensor": (c_void_p, [c_int, POINTER(c_int64), c_int, c_size_t]),
    "TF_DeleteTensor": (None, [c_void_p]),
    "TF_TensorFromProto": (None, [POINTER(Buffer), c_void_p, c_void_p]),
    "TF_TensorType": (c_int, [c_void_p]),
    "TF_NumDims": (c_int, [c_void_p]),
    "TF_Dim": (c_int64, [c_void_p, c_int]),
    "TF_TensorByteSize": (c_size_t, [c_void_p]),
    "TF_TensorData": (c_void_p, [c_void_p]),
    "TF_TensorElementCount": (c_int64, [c_void_p]),
    "TF_StringGetDataPointer": (c_void_p, [c_void_p]),
    "TF_StringGetSize": (c_size_t, [c_void_p]),
    "TF_NewGraph": (c_void_p, []),
    "TF_DeleteGraph": (None, [c_void_p]),
    "TF_GraphOperationByName": (c_void_p, [c_void_p, c_char_p]),
    "TF_NewSessionOptions": (c_void_p, []),
    "TF_DeleteSessionOptions": (None, [c_void_p]),
    "TF_LoadSessionFromSavedModel": (
        c_void_p,
        [c_void_p, c_void_p, c_char_p, POINTER(c_char_p), c_int, c_void_p, POINTER(Buffer), c_void_p],
    ),
    "TF_CloseSession": (None, [c_void_p, c_void_p]),
    "TF_DeleteSession": (None, [c_void_p, c_void_p]),
    "TF_SessionRun": (
        None,
        [c_void_p, POINTER(Buffer)]
        + [POINTER(Output), POINTER(c_void_p), c_int] * 2
        + [POINTER(c_void_p), c_int, POINTER(Buffer), c_void_p],
    ),
}


def _load():
    library = ctypes.CDLL(str(Path(tensorflow.__file__).parent / "libtensorflow_cc.so.2"))
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library


TF = _load()


def checked(function, *arguments):
    """Calls a function whose last argument is a status; raises StatusError with the runtime's
    text."""
    status = TF.TF_NewStatus()
    try:
        result = function(*arguments, status)
        code = TF.TF_GetCode(status)
        if code:
            raise StatusError(code, TF.TF_Message(status).decode("utf-8", "replace"))
        return result
    finally:
        TF.TF_DeleteStatus(status)


class Tensor:
    """A TF_Tensor, freed with this object."""

    def __init__(self, handle):
        self.handle = handle

    @classmethod
    def from_proto(cls, data):
        """Parses a serialized TensorProto with C++ `Tensor::FromProto`."""
        tensor = cls(TF.TF_AllocateTensor(FLOAT, None, 0, 4))
        buffer = TF.TF_NewBufferFromString(data, len(data))
        try:
            checked(TF.TF_TensorFromProto, buffer, tensor.handle)
        finally:
            TF.TF_DeleteBuffer(buffer)
        return tensor

    def __del__(self):
        TF.TF_DeleteTensor(self.handle)

    @property
    def dtype(self):
        return TF.TF_TensorType(self.handle)

    @property
    def shape(self):
        return [TF.TF_Dim(self.handle, axis) for axis in range(TF.TF_NumDims(self.handle))]

    def raw(self):
        """The elements of a numeric tensor in the runtime's memory layout."""
        size = TF.TF_TensorByteSize(self.handle)
        return ctypes.string_at(TF.TF_TensorData(self.handle), size) if size else b""

    def strings(self):
        """The elements of a string tensor."""
        count = TF.TF_TensorElementCount(self.handle)
        start = TF.TF_TensorData(self.handle)
        step = TF.TF_TensorByteSize(self.handle) // count if count else 0
        addresses = (start + index * step for index in range(count))
        return [ctypes.string_at(TF.TF_StringGetDataPointer(at), TF.TF_StringGetSize(at)) for at in addresses]


__all__ = ["Buffer", "Output", "TF", "Tensor", "checked"]
