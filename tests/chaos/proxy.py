"""A proxy before PostgreSQL whose connections can become half open: both ends believe in them, and no byte arrives."""

import socket
import threading
from contextlib import suppress
from typing import Any, Self

from fix_database import server_parts

_CHUNK_BYTES = 65_536


class Proxy:
    """Passes on what comes over TCP to a server, and swallows it when told.

    Args:
        url: of the database behind it, by TCP or by a Unix socket.
    """

    def __init__(self, url: str) -> None:
        self._parts = server_parts(url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._mute: set[int] = set()
        self._accepted = 0

    @property
    def url(self) -> str:
        """The same database, through the proxy."""
        user, password = self._parts.get("user", ""), self._parts.get("password", "")
        authority = f"{user}:{password}@" if password else f"{user}@" if user else ""
        return f"postgresql://{authority}127.0.0.1:{self._listener.getsockname()[1]}/{self._parts['dbname']}"

    @property
    def accepted(self) -> int:
        """How many connections there have been."""
        return self._accepted

    def swallow(self) -> None:
        """Let no byte through any more on the connections that there are; new ones are well."""
        self._mute = set(range(self._accepted))

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self._listener, *self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                upstream = self._connect()
                number, self._accepted = self._accepted, self._accepted + 1
                self._sockets += [client, upstream]
                self._run(self._pump, client, upstream, number)
                self._run(self._pump, upstream, client, number)

    def _connect(self) -> socket.socket:
        host, port = str(self._parts.get("host", "127.0.0.1")), int(self._parts.get("port", 5432))
        if not host.startswith("/"):
            return socket.create_connection((host, port))
        upstream = socket.socket(socket.AF_UNIX)
        upstream.connect(f"{host}/.s.PGSQL.{port}")
        return upstream

    def _pump(self, source: socket.socket, sink: socket.socket, number: int) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK_BYTES):
                if number not in self._mute:
                    sink.sendall(data)
            # The end of a mute connection is swallowed too.
            if number not in self._mute:
                sink.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _run(target: Any, *arguments: Any) -> None:
        threading.Thread(target=target, args=arguments, name="proxy", daemon=True).start()
