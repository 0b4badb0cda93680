"""The signals that stop a daemon, at any moment of its life, also as process 1 of a container."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from draftd.stand_in.threaded import ThreadedStandIn
from fix_daemon import Client, Fleet, environment, in_flight, sample_url, wait_until

TIME_S = 100.0
CHECKOUT = Path(__file__).parents[2]
IMAGE = ["env", "--block-signal=TERM,INT,HUP"]
"""What the image puts before ``draftd``; docs/adr/0011-container.md says why."""


@contextmanager
def process_one(*command: str, env: dict[str, str]) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """Start a command as process 1 of a namespace; yield ``unshare``, which exits as it does, and its id out here."""
    unshare = [shutil.which("unshare") or "", "--pid", "--fork", "--mount-proc"]
    if not unshare[0] or subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no pid namespace to be process 1 of")
    outside = subprocess.Popen(
        [*unshare, "--kill-child", *command], env=env, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    children = Path(f"/proc/{outside.pid}/task/{outside.pid}/children")
    try:
        wait_until(lambda: bool(children.read_text()), TIME_S)
        yield outside, int(children.read_text())
    finally:
        outside.kill()
        outside.communicate()


def mask(pid: int, which: str) -> set[int]:
    """Return a set of signals of a process: ``SigCgt``, those it has handlers for, or ``SigBlk``, those it has blocked."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    bits = next(int(line.split()[1], 16) for line in lines if line.startswith(which))
    return {number for number in range(1, 65) if bits >> number - 1 & 1}


def has_loaded(library: str) -> Callable[[int], bool]:
    return lambda pid: library in Path(f"/proc/{pid}/maps").read_text()


GATE = ["sh", "-c", 'read -r _ && exec "$@"', "sh"]
"""Holds Python back until a line arrives: the moment before it would be over before anybody had looked."""

BEFORE_PYTHON = "before Python"
MOMENTS: dict[str, Callable[[int], bool]] = {
    # Until it has started the command, unshare blocks the two others itself.
    BEFORE_PYTHON: lambda pid: signal.SIGHUP in mask(pid, "SigBlk"),
    "in the first line": lambda pid: signal.SIGTERM in mask(pid, "SigCgt"),
    "amid the imports": has_loaded("_pydantic_core"),
    "while litellm loads": has_loaded("tiktoken"),
}


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        *((moment, signal.SIGTERM) for moment in MOMENTS),
        *(pytest.param(early, signal.SIGHUP, marks=pytest.mark.long) for early in list(MOMENTS)[:3]),
    ],
)
def test_process_one_hears_a_signal_at_any_moment_of_its_start(
    database: str, stand_in: ThreadedStandIn, moment: str, number: signal.Signals
) -> None:
    command = [*IMAGE, *GATE, sys.executable, "-m", "draftd", "run"]
    with process_one(*command, env=environment(database, stand_in)) as (outside, pid):
        if moment != BEFORE_PYTHON:
            open_gate(outside)
        wait_until(lambda: outside.poll() is not None or MOMENTS[moment](pid), TIME_S)
        assert outside.poll() is None
        os.kill(pid, number)
        if moment == BEFORE_PYTHON:
            open_gate(outside)
        assert outside.wait(TIME_S) == 0


def open_gate(outside: "subprocess.Popen[bytes]") -> None:
    assert outside.stdin
    outside.stdin.write(b"\n")
    outside.stdin.flush()


def test_another_command_as_process_one_ends_like_one_that_is_not(
    database: str, client: Client, stand_in: ThreadedStandIn
) -> None:
    command = [*IMAGE, sys.executable, "-m", "draftd", "enqueue", sample_url(stand_in), "--wait"]
    with process_one(*command, env=environment(database, stand_in)) as (outside, pid):
        wait_until(lambda: bool(client.query("SELECT id FROM draft_requests")), TIME_S)
        os.kill(pid, signal.SIGTERM)
        assert outside.wait(TIME_S) == 128 + signal.SIGTERM


def test_a_terminal_that_closes_drains(database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet) -> None:
    daemon, request_id = in_flight(fleet, client, stand_in, environment(database, stand_in))
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for("waiting for attempts")
    # The shell sends one, the kernel another.
    daemon.process.send_signal(signal.SIGHUP)
    stand_in.release()
    assert daemon.wait() == 0
    assert client.row(request_id)["status"] == "completed"


def test_nohup_keeps_its_promise(database: str, client: Client, stand_in: ThreadedStandIn, fleet: Fleet) -> None:
    fleet.before = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    daemon = fleet.start(environment(database, stand_in))
    daemon.process.send_signal(signal.SIGHUP)
    client.wait_for(client.insert(sample_url(stand_in)), "completed")
    assert daemon.stop() == 0
    assert "SIGHUP" not in daemon.log


def test_the_image_starts_as_these_tests_do() -> None:
    entry = next(line for line in (CHECKOUT / "Dockerfile").read_text().splitlines() if line.startswith("ENTRYPOINT"))
    assert json.loads(entry.removeprefix("ENTRYPOINT")) == [*IMAGE, "draftd"]
