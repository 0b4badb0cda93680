"""The daemon's word to systemd: READY, STATUS, WATCHDOG and STOPPING over ``$NOTIFY_SOCKET``.

See sd_notify(3). Without the variable nothing is sent; a supervisor that cannot be reached is no reason to fail.
"""

import socket
from contextlib import suppress


class SystemdNotifier:
    """Talks to the supervisor that started this process, if one did.

    Args:
        address: ``$NOTIFY_SOCKET``; ``@…`` is an abstract one, None or empty is nobody.
        watchdog_usec: ``$WATCHDOG_USEC``: within how many microseconds a sign of life is wanted.
    """

    def __init__(self, *, address: str | None, watchdog_usec: str | None = None) -> None:
        self._address = address or ""
        self.watchdog_s = int(watchdog_usec) / 1e6 if watchdog_usec and watchdog_usec.isdigit() else None

    def ready(self) -> None:
        """Say that work can begin."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """Set the one-line status that ``systemctl status`` shows."""
        # A line end would begin another assignment.
        self._send(f"STATUS={' '.join(text.split())}")

    def alive(self) -> None:
        """Feed the watchdog."""
        if self.watchdog_s is not None:
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the drain has begun."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.setblocking(False)
            channel.sendto(message.encode(), address)
