"""The code of docs/clients.md, run as client developers would."""

import json
import re
import shutil
import subprocess

import grpc
import pytest
from tensorflow_serving.apis import prediction_service_pb2_grpc

import requests_mlp as mlp
from harness import MLP, ROOT, Server, channel
from sidecar import Sidecar

PACKAGES = ("@grpc/grpc-js@1.14", "@grpc/proto-loader@0.8")


def code(language):
    """The blocks of a language in docs/clients.md."""
    text = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert blocks, f"docs/clients.md has no code in {language}"
    return "\n".join(blocks)


@pytest.fixture(scope="module")
def sidecar():
    with Server("--model", MLP) as server, Sidecar(server.address, "--model", "mlp") as running:
        yield running.wait_ready()


def test_the_python_code_shows_repairs_and_reasons(sidecar, capsys):
    namespace = {}
    exec(compile(code("python"), "docs/clients.md", "exec"), namespace)  # noqa: S102
    values, expected = mlp.case()
    with channel(sidecar.address) as opened:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(opened)
        answer = namespace["predict"](stub, mlp.request(values, [128]))
        assert mlp.probabilities(answer) == pytest.approx(expected, abs=1e-6)
        assert capsys.readouterr().out == "tfs-sidecar-repair: input_tensor;add_batch_dim;[128]->[1,128]\n"
        with pytest.raises(grpc.RpcError):
            namespace["predict"](stub, mlp.request(values, [128]), [("tfs-sidecar-mode", "strict")])
        lines = capsys.readouterr().out.splitlines()
        assert "refused: RANK_TOO_LOW" in lines
        field = [line for line in lines if line.startswith('refused: inputs["input_tensor"]: ')]
        assert len(field) == 1 and "[-1,128]" in field[0]


NODE = """
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
%(code)s
const [address, proto, values] = JSON.parse(process.argv[2]);
const loaded = grpc.loadPackageDefinition(loader.loadSync(
  'tensorflow_serving/apis/prediction_service.proto', { keepCase: true, includeDirs: [proto] }));
const client = new loaded.tensorflow.serving.PredictionService(address, grpc.credentials.createInsecure());
const request = {
  model_spec: { name: 'mlp' },
  inputs: { input_tensor: { dtype: 'DT_FLOAT', tensor_shape: { dim: [{ size: 128 }] }, float_val: values } },
};
const strict = new grpc.Metadata();
strict.set('tfs-sidecar-mode', 'strict');
predict(client, request, new grpc.Metadata(), (error, answer) => {
  console.log(JSON.stringify(answer.outputs.probs.float_val));
  predict(client, request, strict, () => client.close());
});
"""


def test_the_node_code_shows_repairs_and_reasons(sidecar, tmp_path):
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("Node.js is not installed")
    install = ["npm", "install", "--no-save", "--no-audit", "--no-fund", "--prefix", str(tmp_path), *PACKAGES]
    installed = subprocess.run(install, capture_output=True, text=True, check=False, timeout=120)
    if installed.returncode != 0:
        pytest.skip(f"npm cannot install the packages: {installed.stderr[-300:]}")
    script = tmp_path / "client.js"
    script.write_text(NODE % {"code": code("js")}, encoding="utf-8")
    values, expected = mlp.case()
    arguments = json.dumps([sidecar.address, str(ROOT / "proto"), [float(value) for value in values]])
    ended = subprocess.run(["node", str(script), arguments], capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert "tfs-sidecar-repair: input_tensor;add_batch_dim;[128]->[1,128]" in lines
    numbers = next(line for line in lines if line.startswith("["))
    assert json.loads(numbers) == pytest.approx(expected, abs=1e-6)
    assert "refused: RANK_TOO_LOW" in lines
    assert any(line.startswith('refused: inputs["input_tensor"]: ') and "[-1,128]" in line for line in lines)
