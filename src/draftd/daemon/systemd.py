"""Notifies systemd: READY, STATUS, WATCHDOG and STOPPING over ``$NOTIFY_SOCKET``; see sd_notify(3).

Sends nothing without the variable, and ignores a supervisor that cannot be reached.
"""

import socket
from contextlib import suppress


class SystemdNotifier:
    """Notifies the supervisor that started this process, if one did.

    Args:
        address: ``$NOTIFY_SOCKET``; ``@…`` is an abstract socket, None or empty means no supervisor.
        watchdog_usec: ``$WATCHDOG_USEC``, the watchdog's interval in microseconds.
    """

    def __init__(self, *, address: str | None, watchdog_usec: str | None = None) -> None:
        self._address = address or ""
        self.watchdog_s = int(watchdog_usec) / 1e6 if watchdog_usec and watchdog_usec.isdigit() else None

    def ready(self) -> None:
        """Report that the daemon is ready."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """Set the one-line status that ``systemctl status`` shows."""
        # A newline would start another assignment.
        self._send(f"STATUS={' '.join(text.split())}")

    def alive(self) -> None:
        """Pet the watchdog."""
        if self.watchdog_s is not None:
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Report that the daemon is draining."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.setblocking(False)
            channel.sendto(message.encode(), address)
