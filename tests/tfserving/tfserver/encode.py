"""Converts a runtime tensor into a TensorProto with full typed lists, as TensorFlow Serving
does."""

import numpy as np
from tensorflow.core.framework import tensor_pb2, types_pb2

from .errors import unimplemented

# Lists whose wire format (packed, little-endian) equals the tensor's memory: every bit survives,
# also in a NaN.
SAME_BYTES = {
    types_pb2.DT_FLOAT: "float_val",
    types_pb2.DT_DOUBLE: "double_val",
    types_pb2.DT_COMPLEX64: "scomplex_val",
    types_pb2.DT_COMPLEX128: "dcomplex_val",
    types_pb2.DT_BOOL: "bool_val",
}

# The others: the list, and the NumPy dtype of the memory.
INTEGERS = {
    types_pb2.DT_INT8: ("int_val", "i1"),
    types_pb2.DT_UINT8: ("int_val", "u1"),
    types_pb2.DT_QINT8: ("int_val", "i1"),
    types_pb2.DT_QUINT8: ("int_val", "u1"),
    types_pb2.DT_INT16: ("int_val", "<i2"),
    types_pb2.DT_UINT16: ("int_val", "<u2"),
    types_pb2.DT_QINT16: ("int_val", "<i2"),
    types_pb2.DT_QUINT16: ("int_val", "<u2"),
    types_pb2.DT_INT32: ("int_val", "<i4"),
    types_pb2.DT_QINT32: ("int_val", "<i4"),
    types_pb2.DT_INT64: ("int64_val", "<i8"),
    types_pb2.DT_UINT32: ("uint32_val", "<u4"),
    types_pb2.DT_UINT64: ("uint64_val", "<u8"),
    types_pb2.DT_HALF: ("half_val", "<u2"),
    types_pb2.DT_BFLOAT16: ("half_val", "<u2"),
}


def varint(number):
    data = bytearray()
    while number > 0x7F:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    data.append(number)
    return bytes(data)


def packed(field, data):
    """A packed field of TensorProto in wire format."""
    number = tensor_pb2.TensorProto.DESCRIPTOR.fields_by_name[field].number
    return varint(number << 3 | 2) + varint(len(data)) + data


def to_proto(tensor):
    """The TensorProto of a Tensor."""
    dtype = tensor.dtype
    proto = tensor_pb2.TensorProto(dtype=dtype)
    proto.tensor_shape.SetInParent()
    for size in tensor.shape:
        proto.tensor_shape.dim.add(size=size)
    if dtype == types_pb2.DT_STRING:
        proto.string_val.extend(tensor.strings())
    elif dtype in SAME_BYTES:
        data = tensor.raw()
        if data:
            proto.MergeFromString(packed(SAME_BYTES[dtype], data))
    elif dtype in INTEGERS:
        field, kind = INTEGERS[dtype]
        getattr(proto, field).extend(np.frombuffer(tensor.raw(), dtype=kind).tolist())
    else:
        raise unimplemented(f"this test server cannot return {types_pb2.DataType.Name(dtype)}")
    return proto
