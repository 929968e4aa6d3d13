"""Rolling updates under load, with the shipped manifests and with mistaken ones (pod.py says what is modelled).

Each scenario is mostly waiting, so those that were selected run at the same time, each in a process of its own.
Run with -rP to see what was measured.
"""

import copy
import functools
import multiprocessing
import signal
import tempfile
import threading
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from cluster import PATIENCE, Deployment
from pod import missing
from tools import DEPLOY, program, run, sidecar_binary, until
from traffic import Traffic

OVERLAYS = ("native", "classic", "uds")
UPDATES = 3
LIMIT = 150


@dataclass
class Outcome:
    """What happened in a scenario."""

    sent: dict = field(default_factory=dict)
    wrong: int = 0
    failures: list = field(default_factory=list)
    # Of each pod that was deleted.
    seconds: list = field(default_factory=list)
    killed: list = field(default_factory=list)
    codes: list = field(default_factory=list)
    grace: int = 0
    facts: dict = field(default_factory=dict)
    errors: list = field(default_factory=list)
    evidence: str = ""

    def __str__(self):
        slowest = f"{max(self.seconds):.1f}" if self.seconds else "-"
        return (
            f"{sum(self.sent.values())} RPCs, {len(self.failures)} failed, {self.wrong} wrong; "
            f"{len(self.seconds)} pods gone after at most {slowest} s of {self.grace} s; SIGKILL: {self.killed}"
        )


# What is done to a manifest


def pod_of(manifest):
    (deployment,) = (document for document in manifest if document["kind"] == "Deployment")
    return deployment["spec"]["template"]["spec"]


def shipped(_):
    pass


def naive(manifest):
    """A sidecar that was only put beside TensorFlow Serving."""
    without_hook(manifest)
    pod_of(manifest).pop("shareProcessNamespace")
    pod_of(manifest).pop("terminationGracePeriodSeconds")


def without_hook(manifest):
    for container in pod_of(manifest)["containers"]:
        container.pop("lifecycle", None)


def without_delay(manifest):
    (config,) = (document for document in manifest if document["kind"] == "ConfigMap")
    config["data"] = {name: f"drain_delay: 0s\n{text}" for name, text in config["data"].items()}


def startup_on_readyz(manifest):
    (sidecar,) = pod_of(manifest)["initContainers"]
    sidecar["startupProbe"]["httpGet"]["path"] = "/readyz"


def liveness_of_serving(manifest):
    """TensorFlow Serving is restarted when it hangs. The drain has no delay, to save time."""
    without_delay(manifest)
    probe = {"grpc": {"port": 8500}, "periodSeconds": 2, "failureThreshold": 2}
    pod_of(manifest)["containers"][0]["livenessProbe"] = probe


# What is done with the pods


def rolling_updates(deployment, outcome):
    """Updates all pods some times. Of several, it takes one away in the end."""
    under_load(deployment, outcome, UPDATES, deployment.replicas > 1)


def one_update(deployment, outcome):
    under_load(deployment, outcome, 1, False)


def scale_down(deployment, outcome):
    under_load(deployment, outcome, 0, True)


def under_load(deployment, outcome, updates, scale):
    deployment.start()
    with Traffic(deployment.cluster_ip, deployment.headless, deployment.model) as traffic:
        for _ in range(updates):
            deployment.rolling_update()
        if scale:
            deployment.remove()
        deployment.wait_gone()
    outcome.sent, outcome.wrong, outcome.failures = traffic.sent, traffic.wrong, traffic.failures


def never_starts(deployment, outcome):
    """Waits until the kubelet has given up on the sidecar once."""
    pod = deployment.add()
    until(lambda: pod.sidecar.restarts == 1, "the end of the startup probe", PATIENCE)
    outcome.facts["tf_serving_ran"] = pod.serving.process is not None
    outcome.facts["ready"] = pod.is_ready


def liveness(deployment, outcome):
    """TensorFlow Serving crashes and hangs, then the sidecar hangs."""
    deployment.start()
    (pod,) = deployment.pods
    pod.serving.signal(signal.SIGKILL)
    until(lambda: pod.serving.restarts, "a restart of TensorFlow Serving", PATIENCE)
    deployment.wait_ready([pod])
    outcome.facts["restarts of TensorFlow Serving after a crash"] = pod.serving.restarts

    pod.serving.signal(signal.SIGSTOP)
    until(lambda: not pod.is_ready, "an unready pod", PATIENCE)
    probes = pod.sidecar.probes["liveness"]
    until(lambda: pod.sidecar.probes["liveness"] > probes + 5, "more liveness probes", PATIENCE)
    pod.serving.signal(signal.SIGCONT)
    deployment.wait_ready([pod])
    outcome.facts["restarts of the sidecar"] = pod.sidecar.restarts

    pod.sidecar.signal(signal.SIGSTOP)
    until(pod.sidecar.terminated.is_set, "SIGTERM to the sidecar", PATIENCE)
    # So that the grace period need not be waited for.
    pod.sidecar.signal(signal.SIGCONT)
    until(lambda: pod.sidecar.restarts, "a restart of the sidecar", PATIENCE)
    deployment.wait_ready([pod])
    outcome.facts["restarts of the sidecar after it hung"] = pod.sidecar.restarts


def serving_restarts(deployment, outcome):
    """TensorFlow Serving hangs until the kubelet restarts its container alone, preStop hook included."""
    deployment.start()
    (pod,) = deployment.pods
    pod.serving.signal(signal.SIGSTOP)
    until(pod.serving.terminated.is_set, "SIGTERM to TensorFlow Serving", PATIENCE)
    until(lambda: not pod.is_ready, "an unready pod", PATIENCE)
    # So that the grace period need not be waited for.
    pod.serving.signal(signal.SIGCONT)
    until(lambda: pod.serving.restarts, "a restart of TensorFlow Serving", PATIENCE)
    deployment.wait_ready([pod])
    outcome.facts["restarts"] = {"TensorFlow Serving": pod.serving.restarts, "sidecar": pod.sidecar.restarts}
    outcome.facts["hooks"] = sum("preStop" in event and event.endswith(": 200") for event in pod.events)
    outcome.facts["taken back"] = pod.sidecar.log.read_text().count("TF Serving was restarted")


SCENARIOS = {
    **{overlay: (overlay, shipped, rolling_updates, 2) for overlay in OVERLAYS},
    "one pod": ("native", shipped, rolling_updates, 1),
    "naive native": ("native", naive, scale_down, 2),
    "naive classic": ("classic", naive, scale_down, 2),
    "without preStop": ("native", without_hook, scale_down, 2),
    "without drain_delay": ("native", without_delay, one_update, 1),
    "startup probe of /readyz": ("native", startup_on_readyz, never_starts, 1),
    "liveness": ("native", shipped, liveness, 1),
    "liveness of TensorFlow Serving": ("native", liveness_of_serving, serving_restarts, 1),
}


def play(manifest, change, action, replicas):
    """Runs a scenario in this process."""
    outcome = Outcome()
    threading.excepthook = lambda thrown: outcome.errors.append(f"{thrown.thread}: {thrown.exc_value!r}")
    manifest = copy.deepcopy(manifest)
    change(manifest)
    with tempfile.TemporaryDirectory(prefix="tfs-sidecar-") as folder:
        deployment = Deployment(manifest, Path(folder), replicas)
        try:
            action(deployment, outcome)
        except AssertionError as error:
            outcome.errors.append(str(error))
        finally:
            deployment.close()
        outcome.grace = pod_of(manifest).get("terminationGracePeriodSeconds", 30)
        for pod in deployment.leaving:
            outcome.seconds.append(round(pod.seconds_to_go, 1))
            outcome.killed += ["sidecar"] if pod.sidecar.was_killed else []
            outcome.killed += ["serving"] if pod.serving.was_killed else []
            outcome.codes.append(pod.sidecar.code)
        outcome.evidence = deployment.evidence()
    return outcome


@functools.cache
def rendered(overlay):
    text = run(program("kubectl"), "kustomize", DEPLOY / "kubernetes" / "overlays" / overlay)
    return [document for document in yaml.safe_load_all(text) if document]


@pytest.fixture(scope="module")
def outcomes(request):
    """The outcomes of all scenarios that were selected, as futures."""
    if reason := missing():
        pytest.skip(reason)
    sidecar_binary()
    selected = {item.callspec.params["outcome"] for item in request.session.items if item.module is request.module}
    jobs = {name: (rendered(SCENARIOS[name][0]), *SCENARIOS[name][1:]) for name in SCENARIOS if name in selected}
    with ProcessPoolExecutor(len(jobs), multiprocessing.get_context("spawn")) as pool:
        yield {name: pool.submit(play, *job) for name, job in jobs.items()}


@pytest.fixture
def outcome(request, outcomes):
    result = outcomes[request.param].result(timeout=LIMIT)
    print(f"{request.param}: {result}")
    assert result.errors == [], result.evidence
    return result


def of(*names):
    return pytest.mark.parametrize("outcome", names, indirect=True)


@of(*OVERLAYS, "one pod")
def test_no_rpc_fails_in_rolling_updates_with_the_shipped_manifests(outcome):
    assert outcome.failures == [], outcome.evidence
    assert outcome.wrong == 0
    assert min(outcome.sent.values()) > 20, "every client was busy"
    assert len(outcome.seconds) >= UPDATES
    assert max(outcome.seconds) < outcome.grace / 2, outcome.evidence
    assert (outcome.killed, set(outcome.codes)) == ([], {0}), outcome.evidence


@of("without drain_delay")
def test_without_the_delay_clients_reach_a_pod_that_has_left(outcome):
    assert len(outcome.failures) > 0, outcome.evidence
    assert outcome.wrong == 0


@of("naive native")
def test_without_hook_and_shared_namespace_the_pod_hangs_and_its_end_fails_rpcs(outcome):
    assert len(outcome.failures) > 0, outcome.evidence
    assert min(outcome.seconds) >= outcome.grace
    assert set(outcome.killed) == {"sidecar", "serving"}, outcome.evidence


@of("naive classic")
def test_a_plain_second_container_does_not_keep_the_pod_from_hanging(outcome):
    assert min(outcome.seconds) >= outcome.grace
    assert outcome.killed == ["serving"], outcome.evidence


@of("without preStop")
def test_with_only_a_shared_namespace_rpcs_fail_at_once(outcome):
    assert len(outcome.failures) > 0, outcome.evidence
    assert max(outcome.seconds) < outcome.grace / 2
    assert outcome.wrong == 0


@of("startup probe of /readyz")
def test_a_startup_probe_of_readyz_keeps_the_pod_from_starting(outcome):
    assert outcome.facts == {"tf_serving_ran": False, "ready": False}, outcome.evidence


@of("liveness")
def test_only_a_sidecar_that_hangs_is_restarted(outcome):
    assert outcome.facts == {
        "restarts of TensorFlow Serving after a crash": 1,
        "restarts of the sidecar": 0,
        "restarts of the sidecar after it hung": 1,
    }, outcome.evidence


@of("liveness of TensorFlow Serving")
def test_a_pod_of_which_only_tf_serving_is_restarted_is_ready_again(outcome):
    # On a busy machine, the probe may fail more than once.
    assert outcome.facts["restarts"]["TensorFlow Serving"] >= 1, outcome.evidence
    assert outcome.facts["restarts"]["sidecar"] == 0, outcome.evidence
    assert outcome.facts["hooks"] >= 1, outcome.evidence
    assert outcome.facts["taken back"] >= 1, outcome.evidence
