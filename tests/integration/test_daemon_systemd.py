import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from draftd.daemon.systemd import SystemdNotifier


@pytest.fixture
def heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A supervisor's socket, at ``notify`` in the working directory: the name of a socket may be 107 bytes long."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as opened:
        opened.bind("notify")
        opened.setblocking(False)
        yield opened


def messages(heard: socket.socket) -> list[str]:
    received = []
    while True:
        try:
            received.append(heard.recv(4096).decode())
        except BlockingIOError:
            return received


def test_every_message_is_one_assignment(heard: socket.socket) -> None:
    supervisor = SystemdNotifier(address="notify", watchdog_usec="30000000")
    supervisor.ready()
    supervisor.status("3 in flight")
    supervisor.alive()
    supervisor.stopping()
    assert messages(heard) == ["READY=1", "STATUS=3 in flight", "WATCHDOG=1", "STOPPING=1"]


def test_an_address_with_an_at_sign_is_an_abstract_socket() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind("")  # the kernel chooses a free abstract name
        heard.setblocking(False)
        SystemdNotifier(address="@" + heard.getsockname()[1:].decode()).ready()
        assert messages(heard) == ["READY=1"]


def test_a_status_cannot_smuggle_in_another_assignment(heard: socket.socket) -> None:
    SystemdNotifier(address="notify").status("0 in flight; a model\nSTOPPING=1\r\n on hold")
    assert messages(heard) == ["STATUS=0 in flight; a model STOPPING=1 on hold"]


@pytest.mark.parametrize("watchdog_usec", [None, "", "soon", "-1"])
def test_the_watchdog_is_fed_only_when_it_is_set(heard: socket.socket, watchdog_usec: str | None) -> None:
    supervisor = SystemdNotifier(address="notify", watchdog_usec=watchdog_usec)
    supervisor.alive()
    assert supervisor.watchdog_s is None
    assert messages(heard) == []


def test_the_watchdogs_time_is_read_in_microseconds() -> None:
    assert SystemdNotifier(address=None, watchdog_usec="30000000").watchdog_s == 30.0


@pytest.mark.parametrize("address", [None, "", "/nowhere/notify", "@nobody-listens-here"])
def test_without_a_supervisor_nothing_is_sent_and_nothing_fails(address: str | None) -> None:
    supervisor = SystemdNotifier(address=address)
    supervisor.ready()
    assert supervisor.watchdog_s is None


def test_a_supervisor_that_does_not_read_holds_nothing_up(heard: socket.socket) -> None:
    supervisor = SystemdNotifier(address="notify", watchdog_usec="1000000")
    backlog = int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text())
    for _ in range(backlog + 10):
        supervisor.alive()
    assert 0 < len(messages(heard)) <= backlog + 1
