"""Predict, with TensorFlow Serving's checks, their order, and its texts."""

from tensorflow_serving.apis import predict_pb2

from .capi import Tensor
from .encode import to_proto
from .errors import StatusError, failed_precondition, invalid

DEFAULT_SIGNATURE = "serving_default"


def joined(names):
    return ",".join(sorted(names))


def check_counts(inputs, signature):
    sent, wanted = set(inputs), set(signature.inputs)
    if len(sent) > len(wanted) or (len(sent) < len(wanted) and not signature.defaults):
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(wanted)} "
            f"len({{{joined(sent)}}}) != len({{{joined(wanted)}}}). "
            f"Sent extra: {{{joined(sent - wanted)}}}. Missing but required: {{{joined(wanted - sent)}}}."
        )


def decode(alias, proto):
    try:
        return Tensor.from_proto(proto.SerializeToString())
    except StatusError as error:
        raise invalid(f"tensor parsing error: {alias}") from error


def feeds_of(inputs, signature):
    """{graph tensor name: Tensor} for a request's inputs, using the signature's defaults for
    missing ones."""
    check_counts(inputs, signature)
    feeds, used = {}, []
    for alias, info in signature.inputs.items():
        if alias in inputs:
            feeds[info.name] = decode(alias, inputs[alias])
            used.append(alias)
        elif alias in signature.defaults:
            feeds[info.name] = decode(alias, signature.defaults[alias])
        else:
            raise invalid(
                f"Signature input alias: {alias}(feed name: {info.name}) not found in request and no default value "
                f"provided. Inputs expected to be in the request {{{joined(inputs)}}}, "
                f"or default input alias set: {joined(signature.defaults)}"
            )
    if len(used) != len(inputs):
        raise invalid(
            f"Inputs contains invalid name. Used request inputs: {joined(used)}, request input: {joined(inputs)}"
        )
    return feeds


def aliases_of(output_filter, signature):
    """The outputs to return: those in the filter, or all."""
    chosen = []
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {alias} "
                f"Outputs expected to be in the set {{{joined(signature.outputs)}}}."
            )
        if alias in chosen:
            raise invalid(f"duplicate output tensor alias: {alias}")
        chosen.append(alias)
    return chosen or list(signature.outputs)


def predict(models, request, timeout_ms):
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    servable = models.lookup(request.model_spec)
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    if name not in servable.model.signatures:
        raise failed_precondition(f'Serving signature key "{name}" not found.')
    signature = servable.model.signatures[name]
    feeds = feeds_of(request.inputs, signature)
    aliases = aliases_of(request.output_filter, signature)
    results = servable.model.run(feeds, [signature.outputs[alias].name for alias in aliases], timeout_ms)
    response = predict_pb2.PredictResponse()
    servable.describe(response.model_spec, name)
    for alias, tensor in zip(aliases, results, strict=True):
        response.outputs[alias].CopyFrom(to_proto(tensor))
    return response
