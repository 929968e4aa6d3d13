"""The story of `make demo-tf` on TensorFlow: every claim of it holds, and docs/tour.md shows what it prints."""

import os
import re
import shutil
import subprocess
import sys

from harness import ROOT
from sidecar import VARIABLE, binary
from test_profiles import Trained

PAGE = ROOT / "docs" / "tour.md"
BLOCK = re.compile(r"(?<=<!-- tour -->\n```text\n).*?(?=```\n<!-- end -->)", re.DOTALL)
PROFILE = re.compile(r"(?<=```text\n)model any, signature any.*?(?=```)", re.DOTALL)
MAX_LINES = 60


def masked(text):
    """The words, with every number replaced: shares, counts and ports differ from run to run."""
    words = re.sub(r"\d[\d.,:]*", "N", text).split()
    return words if shutil.which("prometheus") else words[: words.index("Prometheus")]


def test_the_story_holds_and_is_the_one_of_the_documentation():
    environment = os.environ | {"ONCE": "1", VARIABLE: binary()}
    command = [sys.executable, str(ROOT / "tests" / "demo" / "tour.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) < MAX_LINES
    if os.environ.get("UPDATE") == "1":
        PAGE.write_text(BLOCK.sub(lambda _: done.stdout, PAGE.read_text()))
    assert masked(done.stdout) == masked(BLOCK.search(PAGE.read_text())[0]), "UPDATE=1 rewrites docs/tour.md"


def test_the_profile_is_the_one_of_the_documentation(tmp_path):
    command = [binary(), "profile", "show", str(Trained(tmp_path).profile)]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    if os.environ.get("UPDATE") == "1":
        PAGE.write_text(PROFILE.sub(lambda _: shown, PAGE.read_text()))
    page = PROFILE.search(PAGE.read_text())[0]
    # What rounding leaves of a mean of 0 differs from machine to machine.
    rounding = re.compile(r"-?\d[\d.]*e-\d+")
    assert rounding.sub("0", shown).split() == rounding.sub("0", page).split(), "UPDATE=1 rewrites docs/tour.md"
