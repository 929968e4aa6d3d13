"""Runs the pods of a rendered manifest as processes, started, probed and stopped as by a kubelet.

What is modelled, with the names of Kubernetes' documentation ("Pod Lifecycle", "Sidecar Containers"):

* Native sidecars start in order, each when the one before has started; then the other containers.
* Startup, readiness and liveness probes with the manifest's periods, timeouts and thresholds.
* A deletion runs all preStop hooks at once. SIGTERM follows each hook, but a native sidecar gets it
  only when the containers and sidecars after it are gone. SIGKILL ends what is left after the grace
  period, of which each container gets at least two seconds. Only readiness is still probed.
* Without shareProcessNamespace, the first process of a container is PID 1 of its own PID namespace.

Each pod has an address of its own in 127.0.0.0/8. It stands for all addresses of the pod, so it
replaces 0.0.0.0 and 127.0.0.1 in arguments, environment and files; folders of volumes are replaced too.
"""

import http.client
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tools import sidecar_binary, until

SERVING = Path(__file__).resolve().parent / "serving.py"
# What tells the two containers apart, in the names of their images.
SIDECAR, TF_SERVING = "tfs-sidecar", "tensorflow/serving"
# Probes run this much more often than the manifest says. Timeouts, thresholds and the grace period are as they are.
PROBE_SPEED = 4
MIN_GRACE = 2
BACKOFF = 10
# Runs the first process of a container as PID 1; an ordinary user needs a user namespace for it.
USER_NAMESPACE = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
UNSHARE = ["unshare", *USER_NAMESPACE, "--pid", "--fork", "--mount-proc", "--kill-child"]


def clock(started=time.monotonic()):
    """The time in all that is said of what happened."""
    return time.monotonic() - started


def missing():
    """Why pods cannot run here, or nothing."""
    if shutil.which("unshare") is None:
        return "unshare is not installed"
    tried = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True)
    if tried.returncode != 0:
        return f"PID namespaces are not permitted here: {tried.stderr.strip()}"
    try:
        free_address(())
    except OSError as error:
        return f"127.0.0.0/8 is not all local here: {error}"
    return None


def free_address(ports):
    """An address of this machine on which all ports are free."""
    for left in reversed(range(20)):
        address = f"127.{random.randint(16, 250)}.{random.randint(0, 255)}.{random.randint(1, 254)}"
        try:
            for port in (*ports, 0):
                with socket.socket() as taken:
                    taken.bind((address, port))
            return address
        except OSError:
            if not left:
                raise
    raise AssertionError("unreachable")


class Pod:
    """One pod. `on_change` is called when its readiness may have changed, and when it is deleted."""

    def __init__(self, name, spec, configs, folder, on_change=lambda pod: None):
        self.name, self.spec, self.configs, self.folder, self.on_change = name, spec, configs, folder, on_change
        self.events, self.lock = [], threading.Lock()
        self.deleted, self.deleted_at, self.gone_at = threading.Event(), None, None
        self.grace = spec.get("terminationGracePeriodSeconds", 30)
        self.shares_processes = spec.get("shareProcessNamespace", False)
        folder.mkdir()
        self.sidecars = [Container(self, part, True) for part in spec.get("initContainers", [])]
        self.main = [Container(self, part, False) for part in spec["containers"]]
        self.containers = [*self.sidecars, *self.main]
        ports = [port["containerPort"] for container in self.containers for port in container.spec.get("ports", [])]
        self.address = free_address(ports)
        self.volumes = {volume["name"]: self.volume(volume) for volume in spec.get("volumes", [])}
        self.threads = [threading.Thread(target=self.start, name=name)]
        self.threads[0].start()

    def note(self, text):
        """Keeps what happened, for the message of a failed test."""
        with self.lock:
            self.events.append(f"{clock():7.3f} {self.name} {text}")

    def volume(self, volume):
        """The folder of a volume, with the files of a ConfigMap."""
        folder = self.folder / volume["name"]
        folder.mkdir()
        if "configMap" in volume:
            for name, text in self.configs[volume["configMap"]["name"]].items():
                (folder / name).write_text(self.local(text))
        return folder

    def local(self, text):
        """The text with the pod's own address."""
        return text.replace("0.0.0.0", self.address).replace("127.0.0.1", self.address)

    def start(self):
        for sidecar in self.sidecars:
            assert sidecar.spec.get("restartPolicy") == "Always", "init containers that end are not modelled"
            sidecar.start()
            sidecar.started.wait()
            if self.deleted.is_set():
                return
        for container in self.main:
            container.start()

    @property
    def is_ready(self):
        return not self.deleted.is_set() and all(container.ready for container in self.containers)

    @property
    def sidecar(self):
        return next(container for container in self.containers if SIDECAR in container.spec["image"])

    @property
    def serving(self):
        return next(container for container in self.containers if TF_SERVING in container.spec["image"])

    def delete(self):
        """Begins the deletion. `wait_gone` waits for its end."""
        self.deleted_at = time.monotonic()
        self.note("deleted")
        self.deleted.set()
        for container in self.containers:
            container.started.set()
        self.on_change(self)
        self.threads += [threading.Thread(target=container.stop, name=self.name) for container in self.containers]
        for thread in self.threads[1:]:
            thread.start()

    def wait_gone(self):
        """Waits for the end of a deletion."""
        for container in self.containers:
            assert container.gone.wait(self.grace + 20), f"{container.name} does not end"
        for thread in self.threads:
            thread.join()

    @property
    def seconds_to_go(self):
        """The time from the deletion until no process was left."""
        return max(container.gone_at for container in self.containers) - self.deleted_at

    def before(self, sidecar):
        """The containers that end before this sidecar."""
        return [*self.main, *self.sidecars[self.sidecars.index(sidecar) + 1 :]]

    def close(self):
        """Kills what is left."""
        self.deleted.set()
        for container in self.containers:
            container.close()
        for thread in self.threads:
            thread.join()

    def evidence(self):
        """What happened, and what the sidecars logged."""
        logs = [container.log.read_text()[-4000:] for container in self.containers if container.log.exists()]
        return "\n".join([*self.events, *logs])


class Container:
    def __init__(self, pod, spec, is_sidecar):
        self.pod, self.spec, self.name, self.is_sidecar = pod, spec, spec["name"], is_sidecar
        self.log = pod.folder / f"{self.name}.log"
        self.started, self.gone, self.terminated = threading.Event(), threading.Event(), threading.Event()
        self.ready, self.restarts, self.was_killed, self.code = False, 0, False, None
        self.process, self.lock = None, threading.Lock()
        self.thread, self.gone_at = None, 0
        # How many probes of each kind were made.
        self.probes = Counter()

    def start(self):
        self.thread = threading.Thread(target=self.run, name=f"{self.pod.name} {self.name}")
        self.thread.start()

    def run(self):
        """Starts the process, and again when it ends, until the pod is deleted."""
        while True:
            with self.lock:
                if self.pod.deleted.is_set():
                    break
                self.terminated.clear()
                with self.log.open("ab") as log:
                    process = subprocess.Popen(
                        self.command(), env=self.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                        start_new_session=True,
                    )
                self.process = process
            self.pod.note(f"{self.name} runs")
            ended = threading.Event()
            prober = threading.Thread(target=self.probe, args=(ended,), name=f"probes of {self.pod.name} {self.name}")
            prober.start()
            self.code = process.wait()
            self.pod.note(f"{self.name} ended with {self.code}")
            ended.set()
            self.kill(process)
            self.set_ready(False)
            prober.join()
            if not self.pod.deleted.is_set():
                self.restarts += 1
                self.pod.deleted.wait(BACKOFF if self.restarts > 1 else 0)
        self.gone_at = time.monotonic()
        self.gone.set()

    def command(self):
        """The process of the container, in the place of the program in its image."""
        image, command, arguments = self.spec["image"], self.spec.get("command", []), self.spec.get("args", [])
        given = [self.local(argument) for argument in [*command[1:], *arguments]]
        if TF_SERVING in image:
            program = [sys.executable, str(SERVING)]
            if not command:
                # The image's own entrypoint is a script that runs the server as its child.
                script = '"$0" "$1" --port=8500 --model_name="${MODEL_NAME:-model}" "${@:2}"; exit $?'
                program = ["bash", "-c", script, *program]
        else:
            assert SIDECAR in image, f"no program for the image `{image}`"
            program = [sidecar_binary(), *(given or ["run"])]
            given = []
        namespace = [] if self.pod.shares_processes else UNSHARE
        return [*namespace, *program, *given]

    def environment(self):
        pod, values = self.pod, {"PATH": os.environ["PATH"], "HOSTNAME": self.pod.name, "POD_ADDRESS": self.pod.address}
        fields = {"metadata.name": pod.name, "metadata.namespace": "default", "status.podIP": pod.address}
        # What a killed process leaves behind is removed with the folder.
        values["TMPDIR"] = str(pod.folder)
        for entry in self.spec.get("env", []):
            if "value" in entry:
                values[entry["name"]] = self.local(entry["value"])
            else:
                values[entry["name"]] = fields[entry["valueFrom"]["fieldRef"]["fieldPath"]]
        # What the sidecar would take by default has the pod's address too.
        files = "".join(text for config in pod.configs.values() for text in config.values())
        for key, port in {"listen": 8600, "admin_listen": 8602, "upstream": 8500}.items():
            flag, variable = "--" + key.replace("_", "-"), f"TFS_SIDECAR_{key.upper()}"
            given = any(argument.split("=")[0] == flag for argument in self.spec.get("args", []))
            if not (given or variable in values or re.search(rf"^{key}:", files, re.MULTILINE)):
                values[variable] = f"{pod.address}:{port}"
        return values

    def local(self, text):
        """The text with the folders and the address that stand for those of the container."""
        text = self.pod.local(text)
        for mount in sorted(self.spec.get("volumeMounts", []), key=lambda mount: -len(mount["mountPath"])):
            folder = self.pod.volumes[mount["name"]] / mount.get("subPath", "")
            text = re.sub(rf"(?<![\w.-]){re.escape(mount['mountPath'])}(?![\w.-])", str(folder), text)
        return text

    def main_pid(self):
        """The first process of the container, as this machine sees it."""
        if self.pod.shares_processes:
            return self.process.pid
        task = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")

        def child():
            try:
                return task.read_text().split()
            except (FileNotFoundError, ProcessLookupError):
                return ["0"]

        return int(until(child, f"PID 1 of {self.name}")[0])

    def signal(self, number):
        """Sends a signal to the first process. It may be gone."""
        with self.lock:
            if self.process is None or self.process.poll() is not None:
                return
            try:
                if pid := self.main_pid():
                    os.kill(pid, number)
            except ProcessLookupError:
                pass

    @staticmethod
    def kill(process):
        """Kills all processes of the container."""
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    # Probes

    def probe(self, ended):
        """Probes the process until it has ended."""
        if startup := self.spec.get("startupProbe"):
            self.started.clear()
            if not self.passes(startup, ended):
                if not ended.is_set() and not self.pod.deleted.is_set():
                    self.pod.note(f"{self.name} does not start in time")
                    self.terminate(time.monotonic() + self.pod.grace, ended.wait)
                return
        self.started.set()
        kinds = {kind: self.spec[f"{kind}Probe"] for kind in ("readiness", "liveness") if f"{kind}Probe" in self.spec}
        if "readiness" not in kinds:
            self.set_ready(True)
        running = [threading.Thread(target=getattr(self, kind), args=(probe, ended)) for kind, probe in kinds.items()]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()

    def results(self, kind, probe, ended):
        """The results of a probe, one a period, until the process has ended."""
        wait = probe.get("initialDelaySeconds", 0)
        while not ended.wait(wait / PROBE_SPEED):
            begun = time.monotonic()
            result = self.check(probe)
            self.probes[kind] += 1
            if ended.is_set():
                return
            yield result
            wait = max(0, probe.get("periodSeconds", 10) - (time.monotonic() - begun) * PROBE_SPEED)

    def passes(self, probe, ended):
        """Whether a startup probe passes before its threshold."""
        failed = 0
        for passed in self.results("startup", probe, ended):
            if passed or self.pod.deleted.is_set():
                return passed
            failed += 1
            if failed >= probe.get("failureThreshold", 3):
                return False
        return False

    def readiness(self, probe, ended):
        same, before = 0, None
        for passed in self.results("readiness", probe, ended):
            same, before = same + 1 if passed == before else 1, passed
            if same >= (probe.get("successThreshold", 1) if passed else probe.get("failureThreshold", 3)):
                self.set_ready(passed)

    def liveness(self, probe, ended):
        failed = 0
        for passed in self.results("liveness", probe, ended):
            if self.pod.deleted.is_set():
                return
            failed = 0 if passed else failed + 1
            if failed >= probe.get("failureThreshold", 3):
                self.pod.note(f"{self.name} is not alive")
                self.terminate(time.monotonic() + self.pod.grace, ended.wait)
                return

    def set_ready(self, ready):
        if ready != self.ready:
            self.ready = ready
            self.pod.note(f"{self.name} is {'ready' if ready else 'not ready'}")
            self.pod.on_change(self.pod)

    def check(self, probe):
        """Makes one probe."""
        timeout = probe.get("timeoutSeconds", 1)
        try:
            if "httpGet" in probe:
                return 200 <= self.get(probe["httpGet"], timeout) < 400
            if "grpc" in probe:
                target = f"{self.pod.address}:{probe['grpc']['port']}"
                with grpc.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
                    wanted = health_pb2.HealthCheckRequest(service=probe["grpc"].get("service", ""))
                    answer = health_pb2_grpc.HealthStub(channel).Check(wanted, timeout=timeout)
                return answer.status == health_pb2.HealthCheckResponse.SERVING
            if "tcpSocket" in probe:
                socket.create_connection((self.pod.address, self.port(probe["tcpSocket"]["port"])), timeout).close()
                return True
        except (OSError, http.client.HTTPException, grpc.RpcError):
            return False
        raise AssertionError(f"no model of the probe {probe}")

    def get(self, action, timeout):
        """The status of a GET that a probe or a hook describes. The kubelet sends it to the pod's address."""
        connection = http.client.HTTPConnection(self.pod.address, self.port(action["port"]), timeout=timeout)
        try:
            connection.request("GET", action.get("path", "/"))
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()

    def port(self, port):
        """The number of a port, which may be given by its name in this container."""
        if isinstance(port, int):
            return port
        return next(part["containerPort"] for part in self.spec["ports"] if part["name"] == port)

    # The end

    def stop(self):
        """Ends the container of a deleted pod."""
        deadline = self.pod.deleted_at + self.pod.grace
        with self.lock:
            if self.process is None:
                self.gone.set()
                return
        self.hook(deadline)
        if self.is_sidecar:
            for container in self.pod.before(self):
                container.gone.wait(max(0, deadline - time.monotonic()))
        self.terminate(deadline, self.gone.wait, hook=False)

    def hook(self, deadline):
        """Runs the preStop hook."""
        action = self.spec.get("lifecycle", {}).get("preStop")
        if not action:
            return
        left, result = max(0.001, deadline - time.monotonic()), ""
        if "sleep" in action:
            self.gone.wait(min(left, action["sleep"]["seconds"]))
        elif "httpGet" in action:
            try:
                result = self.get(action["httpGet"], left)
            except (OSError, http.client.HTTPException) as error:
                result = error
        else:
            raise AssertionError(f"no model of the hook {action}")
        self.pod.note(f"preStop of {self.name} ended: {result}")

    def terminate(self, deadline, wait, hook=True):
        """SIGTERM, and SIGKILL at the deadline. `wait(seconds)` is whether the process has ended."""
        if hook:
            self.hook(deadline)
        self.pod.note(f"SIGTERM to {self.name}")
        self.signal(signal.SIGTERM)
        self.terminated.set()
        if not wait(max(MIN_GRACE, deadline - time.monotonic())):
            self.pod.note(f"SIGKILL to {self.name}")
            self.was_killed = True
            self.signal(signal.SIGKILL)

    def close(self):
        self.started.set()
        with self.lock:
            process = self.process
        if process:
            self.signal(signal.SIGKILL)
            self.kill(process)
        if self.thread:
            self.thread.join()
