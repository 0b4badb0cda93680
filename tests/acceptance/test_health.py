"""``draftd health`` beside other users and other containers: only this user's own daemons count, by the kernel's word."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from draftd.daemon import liveness
from fix_daemon import Call, environment

NOBODY = 65_534
IN_FLIGHT = 999
TIME_S = 60.0
NEIGHBOUR = """
import contextlib, os, socket, sys
os.setgroups([])
os.setgid({nobody})
os.setuid({nobody})
sockets = []
for number, backlog in enumerate((100, 100, 0)):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(chr(0) + sys.argv[1] + f"0000000{{number}}")
    listener.listen(backlog)
    sockets.append(listener)
silent, lying, full = sockets
while True:  # nobody else gets into its queue any more
    filler = socket.socket(socket.AF_UNIX)
    filler.setblocking(False)
    sockets.append(filler)
    try:
        filler.connect(full.getsockname())
    except BlockingIOError:
        break
print("ready", flush=True)
while True:
    with lying.accept()[0] as peer, contextlib.suppress(ConnectionError):  # whoever knows better hangs up
        peer.sendall(b'{{"in_flight": {in_flight}}}')
"""
STRANGER = """
import os, socket, sys
os.setgroups([])
os.setgid({nobody})
os.setuid({nobody})
asking = socket.socket(socket.AF_UNIX)
asking.connect(chr(0) + sys.argv[1])
print(asking.makefile().read(), end="")
"""


def as_nobody(program: str, name: str) -> list[str]:
    """Return a command that runs a program as another user, with a socket's name."""
    if os.geteuid():
        pytest.skip("only root can be two users")
    return [sys.executable, "-I", "-c", program.format(nobody=NOBODY, in_flight=IN_FLIGHT), name]


@contextmanager
def neighbours(pid: int) -> Iterator[None]:
    """Run sockets of another user under this process's names: one silent, one that lies, one whose queue is full."""
    command = as_nobody(NEIGHBOUR, f"{liveness._prefix()}{pid}.")
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            process.kill()


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    # Whoever waited for a stranger would meet the test's time limit.
    monkeypatch.setattr(liveness.ask, "__kwdefaults__", {"time_s": 3600.0})


@pytest.fixture
def daemon() -> Iterator[str]:
    """A process of this user that answers as a daemon does; yields the name of its socket."""
    program = """
import asyncio
from draftd.daemon import liveness
async def main():
    await liveness.Liveness(facts=lambda: {"in_flight": 3}).listen()
    print("ready", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            (name,) = (name for name in liveness.daemons() if name.startswith(f"{process.pid}."))
            yield name
        finally:
            process.kill()


def test_a_silent_or_lying_neighbour_changes_nothing(call: Call, daemon: str) -> None:
    pid = daemon.partition(".")[0]
    with neighbours(int(pid)):
        ended = call("health", "--pid", pid, env=environment(""))
        assert (ended.returncode, ended.stdout) == (0, "1 daemon, 3 in flight\n")


def test_a_neighbour_is_no_daemon_of_ours_and_is_told_as_one_of_another_user(call: Call) -> None:
    with neighbours(os.getpid()):
        ended = call("health", "--pid", str(os.getpid()), "--json", env=environment(""))
    assert ended.returncode == 1
    assert json.loads(ended.stdout) == {
        "ok": False,
        "detail": f"no daemon with pid {os.getpid()} of root is running on this host; "
        "for one of nobody, run this as that user",
    }


def test_a_daemon_tells_another_user_nothing(daemon: str) -> None:
    command = as_nobody(STRANGER, f"{liveness._prefix()}{daemon}")
    asked = subprocess.run(command, capture_output=True, text=True, timeout=TIME_S, check=True)
    assert asked.stdout == ""


def test_a_container_that_shares_the_network_has_daemons_of_its_own(daemon: str) -> None:
    unshare = [shutil.which("unshare") or "", "--pid", "--fork", "--mount-proc"]
    if not unshare[0] or subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no pid namespace to be another container in")
    command = [*unshare, sys.executable, "-m", "draftd", "health"]
    asked = subprocess.run(command, env=environment(""), capture_output=True, text=True, timeout=TIME_S, check=False)
    assert daemon in liveness.daemons()
    assert (asked.returncode, asked.stdout) == (1, "no daemon is running on this host\n")
