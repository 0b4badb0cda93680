"""A PostgreSQL server that can be shut down in the middle of everything, and started again on the same data."""

import signal
import subprocess
from typing import cast

from draftd.demo import embedded
from draftd.demo.embedded import EmbeddedPostgres

STOP_TIME_S = 20.0


class Server(EmbeddedPostgres):
    """An embedded server that can die and come back.

    Durable, because what it had acknowledged before it was stopped must still be there.
    """

    def __init__(self) -> None:
        super().__init__(durable=True)

    @property
    def is_up(self) -> bool:
        """Whether it runs."""
        return self._running().poll() is None

    def crash(self) -> None:
        """Stop it as ``pg_ctl stop -m immediate`` does: no checkpoint, no goodbye."""
        server = self._running()
        server.send_signal(signal.SIGQUIT)
        server.wait(STOP_TIME_S)

    def revive(self) -> None:
        """Start it again; it recovers from its log."""
        command = cast("list[str]", self._running().args)
        (self.directory / "data" / "postmaster.pid").unlink(missing_ok=True)
        self._server = embedded._spawn(command, self.directory, embedded._account())
        embedded._await_ready(self._server, self.directory)

    def _running(self) -> "subprocess.Popen[bytes]":
        assert self._server is not None
        return self._server
