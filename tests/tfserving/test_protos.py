"""The committed .proto files compile and are equivalent to the descriptors in the TensorFlow
wheels."""

import importlib.resources
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

import generate

PROTO = Path(__file__).resolve().parents[2] / "proto"


def compile_protos(directory, paths, output):
    """Compiles .proto files with Google's compiler: {path: FileDescriptorProto}."""
    bundled = importlib.resources.files("grpc_tools") / "_proto"
    # In its own process: the compiler and TensorFlow each bring a protobuf library, and the two
    # crash in one process.
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{directory}", f"-I{bundled}"]
    done = subprocess.run([*command, f"--descriptor_set_out={output}", *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    files = descriptor_pb2.FileDescriptorSet.FromString(output.read_bytes()).file
    return {file.name: file for file in files}


def plain(descriptor):
    """A copy without JSON names, which compilers derive from field names, and with nested types
    sorted by name, because the position of a map's entry type depends on the position of the
    map."""
    copy = descriptor_pb2.FileDescriptorProto.FromString(descriptor.SerializeToString())

    def clear(message):
        for field in message.field:
            field.ClearField("json_name")
        for nested in message.nested_type:
            clear(nested)
        in_order = sorted(message.nested_type, key=lambda nested: nested.name)
        nested_types = [descriptor_pb2.DescriptorProto.FromString(nested.SerializeToString()) for nested in in_order]
        del message.nested_type[:]
        message.nested_type.extend(nested_types)

    for message in copy.message_type:
        clear(message)
    return copy


@pytest.fixture(scope="module")
def wheels():
    return {path: plain(descriptor) for path, descriptor in generate.descriptors().items()}


@pytest.fixture(scope="module")
def committed(tmp_path_factory):
    paths = sorted(path.relative_to(PROTO).as_posix() for path in PROTO.rglob("*.proto"))
    files = compile_protos(PROTO, paths, tmp_path_factory.mktemp("protos") / "set.bin")
    return {path: plain(descriptor) for path, descriptor in files.items()}


def test_the_committed_files_are_the_services_and_their_imports(committed, wheels):
    assert sorted(committed) == sorted(wheels)
    assert "tensorflow_serving/apis/prediction_service.proto" in committed
    assert "tensorflow/core/example/example.proto" in committed


def test_every_file_is_equivalent_to_the_wheels_descriptor(committed, wheels):
    different = [path for path in sorted(wheels) if committed.get(path) != wheels[path]]
    details = "\n".join(
        f"--- {path}: wheel\n{wheels[path]}\n+++ committed\n{committed.get(path)}" for path in different
    )
    assert not different, details


def test_the_files_are_what_the_script_writes():
    different = [
        path for path, text in generate.rendered().items() if (PROTO / path).read_text(encoding="utf-8") != text
    ]
    assert not different, "the files differ from the wheels (run proto/generate.py)"


def test_the_comparison_detects_a_changed_field_number(wheels, tmp_path):
    path = "tensorflow_serving/apis/predict.proto"
    for source in PROTO.rglob("*.proto"):
        target = tmp_path / source.relative_to(PROTO)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    changed = (PROTO / path).read_text(encoding="utf-8").replace("output_filter = 3;", "output_filter = 33;")
    (tmp_path / path).write_text(changed, encoding="utf-8")
    files = compile_protos(tmp_path, [path], tmp_path / "set.bin")
    assert plain(files[path]) != wheels[path]


def test_the_readme_names_the_versions():
    readme = (PROTO / "README.md").read_text(encoding="utf-8")
    for path in ("tensorflow_serving/apis/predict.proto", "tensorflow/core/framework/tensor.proto"):
        assert generate.source_of(path) in readme
