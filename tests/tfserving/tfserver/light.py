"""Makes TensorFlow's messages importable without the 2 s of `import tensorflow`, and says where its libraries are."""

import importlib.util
import sys
import types
from pathlib import Path


def package_directory():
    """Where the wheel is installed; the package itself is not imported."""
    return Path(importlib.util.find_spec("tensorflow").origin).parent


def install():
    """Puts an empty package in TensorFlow's place, through which only its generated messages are reached."""
    if "tensorflow" not in sys.modules:
        directory = package_directory()
        package = types.ModuleType("tensorflow")
        package.__path__ = [str(directory)]
        package.__file__ = str(directory / "__init__.py")
        sys.modules["tensorflow"] = package
