"""The systemd unit: known directives, hardened, arguments that the program accepts, and limits that agree with it."""

import re
import subprocess

import pytest
from tools import DEPLOY, program, run, sidecar_binary

FOLDER = DEPLOY / "systemd"
UNIT = FOLDER / "tfs-sidecar.service"
# From 0 (closed) to 10 (open); less than half of the best that a service that listens on all addresses gets.
MOST_EXPOSED = 1.5


def directives():
    """All settings; one that occurs several times has all of its values."""
    found = {}
    for line in UNIT.read_text().splitlines():
        if match := re.match(r"(\w+)=(.*)", line):
            found.setdefault(match[1], []).append(match[2])
    return found


def seconds(text):
    return int(re.fullmatch(r"(\d+)s", text)[1])


def installed(folder):
    """The unit with the program under test at the place where it expects it."""
    copy = folder / UNIT.name
    copy.write_text(UNIT.read_text().replace("/usr/local/bin/tfs-sidecar", sidecar_binary()))
    return copy


def test_systemd_knows_every_directive(tmp_path):
    """`verify` exits with 0 for a key that it does not know, but names it."""
    done = subprocess.run(
        [program("systemd-analyze"), "verify", "--man=no", str(installed(tmp_path))],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done


def test_the_unit_is_hardened(tmp_path):
    # A threshold fails the command; it counts in tenths of a point from 0 to 100.
    report = run(
        *(program("systemd-analyze"), "security", "--offline=true", "--no-pager"),
        *(f"--threshold={round(MOST_EXPOSED * 10)}", installed(tmp_path)),
    )
    level = float(re.search(r"exposure level for tfs-sidecar.service: ([\d.]+)", report)[1])
    assert level <= MOST_EXPOSED


def test_the_program_accepts_the_command_and_the_configuration():
    command = directives()["ExecStart"][0].split()
    assert command[1:] == ["run", "--config", "/etc/tfs-sidecar/sidecar.yaml"]
    checked = run(sidecar_binary(), "check", "--config", FOLDER / "sidecar.yaml")
    assert checked == "" or "no problems" in checked
    # `run` has the same flags, and fails for the file alone.
    absent = subprocess.run([sidecar_binary(), *command[1:-1], "/absent.yaml"], capture_output=True, text=True, timeout=30)
    assert absent.returncode == 2 and "/absent.yaml" in absent.stderr, absent


def test_the_shipped_configuration_observes():
    text = (FOLDER / "sidecar.yaml").read_text()
    assert re.search(r"^  mode: observe$", text, re.MULTILINE)


def test_times_and_limits_agree_with_the_defaults_of_the_program():
    unit = directives()
    reference = (DEPLOY.parent / "docs" / "config.md").read_text()

    def default(key):
        return re.search(rf"^\| `{key}` \| \w+ \| `([^`]+)`", reference, re.MULTILINE)[1]

    drain = seconds(default("drain_delay")) + seconds(default("drain_timeout"))
    assert seconds(unit["TimeoutStopSec"][0]) > drain
    assert int(unit["LimitNOFILE"][0]) > 2 * int(default("max_connections"))
    messages = int(re.fullmatch(r"(\d+)MiB", default("max_inflight_bytes"))[1])
    assert int(re.fullmatch(r"(\d+)G", unit["MemoryHigh"][0])[1]) * 1024 > messages
    # The worst answer of /livez takes 2 s, and systemd is told twice in this time.
    assert seconds(unit["WatchdogSec"][0]) / 2 > 2


@pytest.mark.parametrize("call", ["setuid", "mount", "ptrace", "setrlimit", "reboot"])
def test_system_calls_that_it_does_not_need_are_refused(call):
    """What the filter allows is what its groups have, without those behind `~`."""
    def calls(group):
        names = set()
        for line in run(program("systemd-analyze"), "syscall-filter", group).splitlines()[1:]:
            if word := line.split("#")[0].strip():
                names |= calls(word) if word.startswith("@") else {word}
        return names

    allowed = set()
    for value in directives()["SystemCallFilter"]:
        names = set().union(*(calls(group) for group in value.lstrip("~").split()))
        allowed = allowed - names if value.startswith("~") else allowed | names
    assert {"epoll_wait", "accept4", "sendmsg", "clone3", "futex", "madvise"} <= allowed
    assert call not in allowed
