"""The served models: versions, states and labels. A separate thread loads and unloads them."""

import threading
from pathlib import Path

from tensorflow_serving.apis import get_model_status_pb2

from .errors import StatusError, invalid, not_found
from .saved_model import SavedModel

State = get_model_status_pb2.ModelVersionStatus


class Servable:
    """One loaded version, as a request sees it."""

    def __init__(self, name, version, model):
        self.name, self.version, self.model = name, version, model

    def describe(self, spec, signature_name):
        spec.name = self.name
        spec.version.value = self.version
        spec.signature_name = signature_name


class Version:
    """A version that was seen at some time, and its current state."""

    def __init__(self):
        self.state, self.error, self.model = State.START, None, None

    @property
    def settled(self):
        return self.state in (State.AVAILABLE, State.END)

    @property
    def unloaded(self):
        """Unloaded, not failed: it is loaded again when it is wanted again."""
        return self.state == State.END and self.error is None


def versions_on_disk(config):
    """{number: directory} of the versions that the version policy selects in the base path."""
    found = {}
    for child in Path(config.base_path).iterdir():
        if child.is_dir() and child.name.isascii() and child.name.isdecimal():
            found[int(child.name)] = child
    policy = config.model_version_policy
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        wanted = list(found)
    elif kind == "specific":
        wanted = [number for number in policy.specific.versions if number in found]
    else:
        wanted = sorted(found)[-(policy.latest.num_versions or 1) :]
    return {number: found[number] for number in wanted}


class Models:
    """All models. `changed` guards all attributes set after it."""

    def __init__(self, poll_seconds=1.0):
        self.poll_seconds = poll_seconds
        self.changed = threading.Condition()
        self.configs = {}
        self.labels = {}
        self.versions = {}
        self.dirty = self.stopped = False
        self.thread = threading.Thread(target=self._work, name="loader", daemon=True)
        self.thread.start()

    def stop(self):
        with self.changed:
            self.stopped = True
            self.changed.notify_all()
        self.thread.join()

    def configure(self, configs, give_up=lambda: False):
        """Serves exactly these ModelConfigs; waits until the versions of each new name are loaded
        or failed."""
        with self.changed:
            new = [config.name for config in configs if config.name not in self.configs]
            self.configs = {config.name: config for config in configs}
            self.labels = {config.name: dict(config.version_labels) for config in configs}
            self.dirty = True
            self.changed.notify_all()
            self.changed.wait_for(lambda: give_up() or all(self._settled(name) for name in new))
            broken = [
                f"{{{{name: {name} version: {number}}} due to error: {error_text(version.error)}}}, "
                for name in new
                for number, version in self.versions.get(name, {}).items()
                if version.error
            ]
        if broken:
            raise StatusError(2, f"{len(broken)} model(s) did not become available: {{{''.join(broken)}}}")

    def _settled(self, name):
        versions = self.versions.get(name, {}).values()
        return bool(versions) and all(version.settled for version in versions)

    def lookup(self, spec):
        """The Servable that a ModelSpec selects."""
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        choice = spec.WhichOneof("version_choice")
        with self.changed:
            number = spec.version.value if choice == "version" else None
            if choice == "version_label":
                number = self.labels.get(spec.name, {}).get(spec.version_label)
                if number is None:
                    raise invalid(f"Unrecognized servable version label: {spec.version_label}")
            loaded = {n: v for n, v in self.versions.get(spec.name, {}).items() if v.state == State.AVAILABLE}
            if number is None:
                if not loaded:
                    raise not_found(f"Servable not found for request: Latest({spec.name})")
                number = max(loaded)
            elif number not in loaded:
                raise not_found(f"Servable not found for request: Specific({spec.name}, {number})")
            return Servable(spec.name, number, loaded[number].model)

    def status(self, name, number=None):
        """[(number, state, error)], highest version first."""
        with self.changed:
            versions = self.versions.get(name, {})
            if number is not None:
                if number not in versions:
                    raise not_found(f"Could not find version {number} of model {name}")
                versions = {number: versions[number]}
            if not versions:
                raise not_found(f"Could not find any versions of model {name}")
            return [(n, v.state, v.error) for n, v in sorted(versions.items(), reverse=True)]

    def _work(self):
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.dirty or self.stopped, timeout=self.poll_seconds)
                if self.stopped:
                    return
                self.dirty = False
                configs = dict(self.configs)
            try:
                wanted = {name: versions_on_disk(config) for name, config in configs.items()}
            except OSError:
                wanted = None  # As in TensorFlow Serving, one missing base path skips the whole round.
            if wanted is not None:
                self._reconcile(wanted)
            with self.changed:
                self.changed.notify_all()  # Waiters check whether to give up.

    def _reconcile(self, wanted):
        """Loads new versions first, then unloads those no longer wanted."""
        for name, directories in wanted.items():
            with self.changed:
                known = self.versions.setdefault(name, {})
                fresh = [n for n in sorted(directories) if n not in known or known[n].unloaded]
                for number in fresh:
                    known[number] = Version()
                self.changed.notify_all()
            for number in fresh:
                self._load(known[number], directories[number])
        with self.changed:
            for name, versions in self.versions.items():
                keep = wanted.get(name, {})
                # An old version stays until one of its successors is available.
                replaced = not keep or any(versions[number].state == State.AVAILABLE for number in keep)
                for number, version in versions.items():
                    if number in keep:
                        continue
                    if version.state == State.AVAILABLE and replaced:
                        version.state, version.model = State.END, None
                    version.error = None  # A failed version is retried if it disappears and returns.
            self.changed.notify_all()

    def _load(self, version, directory):
        with self.changed:
            version.state = State.LOADING
            self.changed.notify_all()
        model = error = None
        try:
            model = SavedModel(directory)
        except StatusError as caught:
            error = caught
        with self.changed:
            version.state = State.END if error else State.AVAILABLE
            version.model, version.error = model, error
            self.changed.notify_all()


def error_text(error):
    return f"{error.grpc()[0].name}: {error.message}"
