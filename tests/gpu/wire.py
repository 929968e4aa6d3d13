"""The few messages of TensorFlow Serving that the server needs, without a protobuf library: tensors
are read in place, and nothing has to be compiled on the machine with the GPU."""

FLOAT, UINT8 = 1, 4
AVAILABLE = 30
PREDICT = b"tensorflow/serving/predict"


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field, value):
    # A negative number has ten bytes.
    return varint(field << 3) + varint(value & (1 << 64) - 1)


def message(field, *parts):
    return varint(field << 3 | 2) + varint(sum(map(len, parts))) + b"".join(parts)


def entry(field, key, *value):
    """An entry of a map from strings to messages."""
    return message(field, message(1, key.encode()), message(2, *value))


def fields(view):
    """(field, number or memoryview) of each field."""
    at, end = 0, len(view)

    def read():
        nonlocal at
        value = shift = 0
        while True:
            byte = view[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    while at < end:
        tag = read()
        if tag & 7 == 0:
            yield tag >> 3, read()
        elif tag & 7 == 2:
            size = read()
            if at + size > end:
                raise ValueError("a field is longer than its message")
            yield tag >> 3, view[at : at + size]
            at += size
        else:
            raise ValueError(f"expected a number or bytes, got wire type {tag & 7}")


def shape(dims):
    return b"".join(message(2, number(1, size)) for size in dims)


def read_model(request):
    """The model's name. All three requests have their ModelSpec in field 1."""
    for field, spec in fields(memoryview(request)):
        if field == 1:
            return "".join(str(value, "utf-8") for field, value in fields(spec) if field == 1)
    raise ValueError("the request names no model")


def read_predict(request):
    """(model, name of the input, dtype, dims, tensor_content)"""
    model, inputs = read_model(request), []
    for field, value in fields(memoryview(request)):
        if field == 2:
            pair = dict(fields(value))
            inputs.append((str(pair[1], "utf-8"), pair[2]))
    if len(inputs) != 1:
        raise ValueError(f"expected one input, got {len(inputs)}")
    [(name, tensor)] = inputs
    dtype, dims, content = None, [], None
    for field, value in fields(tensor):
        if field == 1:
            dtype = value
        elif field == 2:
            dims = [dict(fields(dim)).get(1, 0) for field, dim in fields(value) if field == 2]
        elif field == 4:
            content = value
    if content is None:
        raise ValueError("expected values in `tensor_content`")
    return model, name, dtype, dims, content


def spec(model):
    return message(1, model.encode()), message(2, number(1, 1)), message(3, b"serving_default")


def predict_response(model, output, dims, content):
    tensor = number(1, FLOAT), message(2, shape(dims)), message(4, content)
    return entry(1, output, *tensor) + message(2, *spec(model))


def metadata_response(model, source, dtype, dims, output, width):
    """One signature with one input and one output; the number of rows is free."""

    def info(name, dtype, dims):
        return message(1, name.encode()), number(2, dtype), message(3, shape([-1, *dims]))

    signature = (entry(1, source, *info(f"serving_default_{source}:0", dtype, dims)),
                 entry(2, output, *info("StatefulPartitionedCall:0", FLOAT, [width])), message(3, PREDICT))  # fmt: skip
    url = b"type.googleapis.com/tensorflow.serving.SignatureDefMap"
    any_message = message(1, url), message(2, entry(1, "serving_default", *signature))
    return message(1, *spec(model)) + entry(2, "signature_def", *any_message)


def status_response():
    return message(1, number(1, 1), number(2, AVAILABLE), message(3))
