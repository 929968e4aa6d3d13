"""Classify, Regress and MultiInference on `tf.Example`s, with checks in TensorFlow Serving's
order."""

import numpy as np
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import classification_pb2, inference_pb2, model_pb2, regression_pb2

from .capi import Tensor
from .errors import invalid, unimplemented
from .predict import DEFAULT_SIGNATURE

CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"


def examples_tensor(request_input):
    """(tensor of serialized examples, their number). A context is prepended to each example."""
    kind = request_input.WhichOneof("kind")
    context = b""
    examples = []
    if kind == "example_list":
        examples = request_input.example_list.examples
    elif kind == "example_list_with_context":
        examples = request_input.example_list_with_context.examples
        context = request_input.example_list_with_context.context.SerializeToString()
    if not examples:
        raise invalid("Input is empty.")
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING)
    proto.tensor_shape.dim.add(size=len(examples))
    proto.string_val.extend(context + example.SerializeToString() for example in examples)
    return Tensor.from_proto(proto.SerializeToString()), len(examples)


class Classification:
    """What Classify requires of a signature, and how it reads the results."""

    method = CLASSIFY

    def __init__(self, signature):
        if len(signature.inputs) != 1:
            raise invalid("Expected one input Tensor.")
        if len(signature.outputs) not in (1, 2):
            raise invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
        if "inputs" not in signature.inputs:
            raise invalid(f"No classification inputs found in SignatureDef: {signature}")
        self.feed = signature.inputs["inputs"].name
        self.fetches = {
            alias: signature.outputs[alias].name for alias in ("classes", "scores") if alias in signature.outputs
        }
        if not self.fetches:
            raise invalid(
                'Expected classification signature outputs to contain at least one of "classes" or "scores". '
                f"Signature was: {signature}"
            )

    def result(self, tensors, examples):
        columns = {}
        for alias, dtype in (("classes", types_pb2.DT_STRING), ("scores", types_pb2.DT_FLOAT)):
            if alias not in self.fetches:
                continue
            tensor = tensors[self.fetches[alias]]
            if len(tensor.shape) != 2:
                raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {shape_text(tensor)}")
            if tensor.dtype != dtype:
                raise invalid(f"Expected {alias} Tensor of {types_pb2.DataType.Name(dtype)}. Got: {type_text(tensor)}")
            if tensor.shape[0] != examples:
                raise invalid(f"Expected {alias} tensor batch size of {examples} but got {tensor.shape[0]}")
            columns[alias] = tensor
        widths = {alias: tensor.shape[1] for alias, tensor in columns.items()}
        if len(set(widths.values())) > 1:
            raise invalid(
                f"Tensors class and score should match in dim_size(1). Got {widths['classes']} vs. {widths['scores']}"
            )
        width = next(iter(widths.values()))
        labels = columns["classes"].strings() if "classes" in columns else []
        scores = np.frombuffer(columns["scores"].raw(), "<f4").tolist() if "scores" in columns else []
        result = classification_pb2.ClassificationResult()
        for row in range(examples):
            classes = result.classifications.add().classes
            for index in range(row * width, (row + 1) * width):
                # Labels are bytes in the tensor and text in the message.
                label = labels[index].decode("utf-8", "replace") if labels else ""
                classes.add(label=label, score=scores[index] if scores else 0.0)
        return result


class Regression:
    """What Regress requires of a signature, and how it reads the result."""

    method = REGRESS

    def __init__(self, signature):
        if len(signature.inputs) != 1:
            raise invalid("Expected one input Tensor.")
        if len(signature.outputs) != 1:
            raise invalid("Expected one output Tensor.")
        if "inputs" not in signature.inputs:
            raise invalid(f"No regression inputs found in SignatureDef: {signature}")
        if "outputs" not in signature.outputs:
            raise invalid(f"No regression outputs found in SignatureDef: {signature}")
        self.feed = signature.inputs["inputs"].name
        self.fetches = {"outputs": signature.outputs["outputs"].name}

    def result(self, tensors, examples):
        tensor = tensors[self.fetches["outputs"]]
        if tensor.shape[1:] not in ([], [1]) or not tensor.shape:
            raise invalid(
                "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] "
                f"but got {shape_text(tensor)}"
            )
        if tensor.shape[0] != examples:
            raise invalid(f"Input batch size did not match output batch size: {examples} vs. {tensor.shape[0]}")
        if tensor.dtype != types_pb2.DT_FLOAT:
            raise invalid(f"Expected output Tensor of DT_FLOAT.  Got: {type_text(tensor)}")
        result = regression_pb2.RegressionResult()
        for value in np.frombuffer(tensor.raw(), "<f4").tolist():
            result.regressions.add(value=value)
        return result


def shape_text(tensor):
    return "[" + ",".join(str(size) for size in tensor.shape) + "]"


def type_text(tensor):
    return types_pb2.DataType.Name(tensor.dtype)


def evaluate(servable, plans, request_input, timeout_ms):
    """Runs all plans, which share one input, in a single run, and returns their results."""
    tensor, examples = examples_tensor(request_input)
    feeds = {plan.feed: tensor for plan in plans}
    fetches = sorted({name for plan in plans for name in plan.fetches.values()})
    tensors = dict(zip(fetches, servable.model.run(feeds, fetches, timeout_ms), strict=True))
    return [plan.result(tensors, examples) for plan in plans]


def single(models, request, timeout_ms, plan_type, response):
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    servable = models.lookup(request.model_spec)
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    if name not in servable.model.signatures:
        raise invalid(f"No signature was found with the name: {name}")
    plan = plan_type(servable.model.signatures[name])
    (result,) = evaluate(servable, [plan], request.input, timeout_ms)
    response.result.CopyFrom(result)
    servable.describe(response.model_spec, name)
    return response


def classify(models, request, timeout_ms):
    return single(models, request, timeout_ms, Classification, classification_pb2.ClassificationResponse())


def regress(models, request, timeout_ms):
    return single(models, request, timeout_ms, Regression, regression_pb2.RegressionResponse())


def multi_inference(models, request, timeout_ms):
    servable = models.lookup(request.tasks[0].model_spec if request.tasks else model_pb2.ModelSpec())
    plans, names = [], []
    for task in request.tasks:
        if not task.model_spec.name:
            raise invalid("Found ModelSpec with an empty model name.")
        if task.model_spec.name != servable.name:
            raise invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        name = task.model_spec.signature_name or DEFAULT_SIGNATURE
        if name in names:
            raise invalid(f"Duplicate evaluation of signature: {name}")
        if name not in servable.model.signatures:
            raise invalid(f"Requested signature not found in model graph: {name}")
        plan_types = {CLASSIFY: Classification, REGRESS: Regression}
        if task.method_name not in plan_types:
            raise unimplemented(f"Unsupported signature method_name: {task.method_name}")
        plans.append(plan_types[task.method_name](servable.model.signatures[name]))
        names.append(name)
    response = inference_pb2.MultiInferenceResponse()
    for plan, name, result in zip(plans, names, evaluate(servable, plans, request.input, timeout_ms), strict=True):
        answer = response.results.add()
        servable.describe(answer.model_spec, name)
        if plan.method == CLASSIFY:
            answer.classification_result.CopyFrom(result)
        else:
            answer.regression_result.CopyFrom(result)
    return response
