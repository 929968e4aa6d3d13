"""What is around pods in a cluster: a Deployment, the endpoints of its Service, and how clients find them."""

import random
import socket
import struct
import threading
import time
from collections import deque

from pod import SIDECAR, TF_SERVING, Pod, clock, free_address
from tools import until

# How long a change of the endpoints takes until kube-proxy and the cluster's DNS know of it.
PROPAGATION = 1.5
# How long DNS takes to answer.
DNS_LATENCY = 0.01
PATIENCE = 60


class Endpoints:
    """The addresses of the pods that are ready and not being deleted."""

    def __init__(self):
        self.lock, self.history = threading.Lock(), deque([(0, ())])

    def update(self, pod):
        with self.lock:
            addresses = [address for address in self.history[-1][1] if address != pod.address]
            if pod.is_ready:
                addresses.append(pod.address)
            self.history.append((time.monotonic(), tuple(addresses)))

    def published(self):
        """The addresses as clients see them."""
        known = time.monotonic() - PROPAGATION
        with self.lock:
            while len(self.history) > 1 and self.history[1][0] <= known:
                self.history.popleft()
            return self.history[0][1]


class Service:
    """A Service with a cluster IP: each new connection goes to one of the endpoints, and stays there.

    A cluster does this with packets. Here they are copied, and a reset is passed on as a reset.
    """

    def __init__(self, endpoints, port, target_port):
        self.endpoints, self.target_port = endpoints, target_port
        self.listener = socket.create_server((free_address([port]), port), backlog=128)
        self.address = "{}:{}".format(*self.listener.getsockname())
        self.open, self.lock = set(), threading.Lock()
        self.thread = threading.Thread(target=self.accept, name="service")
        self.thread.start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            known = self.endpoints.published()
            try:
                server = socket.create_connection((random.choice(known), self.target_port), 5) if known else None
            except OSError:
                server = None
            if server is None:
                reset(client)
                continue
            pair = (client, server)
            with self.lock:
                self.open.add(pair)
            for end in pair:
                end.settimeout(None)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # They end with their connection, at the latest in `close`.
            left = [2]
            for source, sink in (pair, pair[::-1]):
                threading.Thread(target=self.copy, args=(source, sink, pair, left), daemon=True).start()

    def copy(self, source, sink, pair, left):
        try:
            while data := source.recv(1 << 16):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            for end in pair:
                reset(end, close=False)
        with self.lock:
            left[0] -= 1
            if left[0]:
                return
            self.open.discard(pair)
        for end in pair:
            end.close()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()
        with self.lock:
            for end in [end for pair in self.open for end in pair]:
                reset(end, close=False)


def reset(end, close=True):
    """Ends a connection with a reset. Without `close`, the thread that reads it closes it."""
    try:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if close:
            end.close()
        else:
            end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


class Dns:
    """Answers for a headless Service: all endpoints, as A records, not to be cached."""

    def __init__(self, endpoints):
        self.endpoints = endpoints
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((free_address(()), 0))
        self.address = "{}:{}".format(*self.socket.getsockname())
        self.closed, self.answers = threading.Event(), []
        self.thread = threading.Thread(target=self.serve, name="dns")
        self.thread.start()

    def serve(self):
        while True:
            query, client = self.socket.recvfrom(1500)
            if self.closed.is_set():
                return
            end = 12
            while query[end]:
                end += query[end] + 1
            end += 5
            self.closed.wait(DNS_LATENCY)
            (kind,) = struct.unpack("!H", query[end - 4 : end - 2])
            if kind == 1:
                self.answers.append(f"{clock():7.3f} DNS {self.endpoints.published()}")
            answers = [
                b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 0, 4) + socket.inet_aton(address)
                for address in (self.endpoints.published() if kind == 1 else ())
            ]
            head = query[:2] + struct.pack("!HHHHH", 0x8580, 1, len(answers), 0, 0)
            self.socket.sendto(head + query[12:end] + b"".join(answers), client)

    def close(self):
        self.closed.set()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", self.socket.getsockname())
        self.thread.join()
        self.socket.close()


class Deployment:
    """The pods of the one Deployment in a manifest, and the Service before it."""

    def __init__(self, manifest, folder, replicas):
        found = {}
        for document in manifest:
            found.setdefault(document["kind"], []).append(document)
        (deployment,) = found["Deployment"]
        self.name, spec = deployment["metadata"]["name"], deployment["spec"]
        self.pod_spec, self.min_ready = spec["template"]["spec"], spec.get("minReadySeconds", 0)
        self.configs = {config["metadata"]["name"]: config.get("data", {}) for config in found.get("ConfigMap", [])}
        self.folder, self.replicas, self.made = folder, replicas, 0
        self.pods, self.leaving = [], []
        self.endpoints = Endpoints()
        containers = [*self.pod_spec.get("initContainers", []), *self.pod_spec["containers"]]
        (sidecar,) = (part for part in containers if SIDECAR in part["image"])
        named = {port["name"]: port["containerPort"] for port in sidecar["ports"]}
        self.target_port = named["grpc"]
        (serving,) = (part for part in containers if TF_SERVING in part["image"])
        flag, arguments = "--model_name=", serving.get("args", [])
        given = [argument.removeprefix(flag) for argument in arguments if argument.startswith(flag)]
        given += [entry["value"] for entry in serving.get("env", []) if entry["name"] == "MODEL_NAME"]
        self.model = given[0]
        (self.port,) = (
            port["port"]
            for service in found["Service"] for port in service["spec"]["ports"]
            if port.get("targetPort") in ("grpc", self.target_port)
        )
        self.service = Service(self.endpoints, self.port, self.target_port)
        self.dns = Dns(self.endpoints)

    @property
    def cluster_ip(self):
        """What a client of the Service connects to."""
        return self.service.address

    @property
    def headless(self):
        """What a client of a headless Service resolves. It has no ports of its own."""
        return f"dns://{self.dns.address}/{self.name}.default.svc.cluster.local:{self.target_port}"

    def add(self):
        self.made += 1
        name, folder = f"{self.name}-{self.made}", self.folder / str(self.made)
        pod = Pod(name, self.pod_spec, self.configs, folder, self.endpoints.update)
        self.pods.append(pod)
        return pod

    def wait_ready(self, pods):
        until(lambda: all(pod.is_ready for pod in pods), "the pods to be ready", PATIENCE)
        self.pods[-1].deleted.wait(self.min_ready)

    def start(self):
        """Starts all pods and waits until clients can find them."""
        pods = [self.add() for _ in range(self.replicas)]
        self.wait_ready(pods)
        until(lambda: len(self.endpoints.published()) == len(pods), "the endpoints", PATIENCE)

    def remove(self):
        """Deletes the oldest pod, without waiting for its end."""
        pod = self.pods.pop(0)
        self.leaving.append(pod)
        pod.delete()
        return pod

    def rolling_update(self):
        """Replaces all pods: one more than the replicas at a time, and never fewer of them ready."""
        for _ in range(self.replicas):
            self.wait_ready([self.add()])
            self.remove()

    def wait_gone(self):
        for pod in self.leaving:
            pod.wait_gone()

    def evidence(self):
        logs = [pod.evidence() for pod in [*self.leaving, *self.pods]]
        return "\n".join([*logs, *self.dns.answers])

    def close(self):
        for pod in [*self.leaving, *self.pods]:
            pod.close()
        self.service.close()
        self.dns.close()
