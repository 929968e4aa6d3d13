"""Makes TensorFlow's messages importable without `import tensorflow`, which takes 2 s."""

import importlib.util
import sys
import types
from pathlib import Path


def package_directory():
    """The directory of the installed wheel. Does not import the package."""
    return Path(importlib.util.find_spec("tensorflow").origin).parent


def install():
    """Replaces TensorFlow with an empty package that gives access only to its generated
    messages."""
    if "tensorflow" not in sys.modules:
        directory = package_directory()
        package = types.ModuleType("tensorflow")
        package.__path__ = [str(directory)]
        package.__file__ = str(directory / "__init__.py")
        sys.modules["tensorflow"] = package
