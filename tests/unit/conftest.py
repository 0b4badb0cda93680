"""The guard of this ring: a test that needs a port, a process or litellm belongs into another one."""

import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import httpcore
import pytest


def _refuse(*_arguments: Any, **_options: Any) -> NoReturn:
    pytest.fail("a unit test opens no socket and starts no process; this one belongs into tests/integration")


@pytest.fixture(autouse=True, scope="module")
def no_ports_no_processes_no_litellm() -> Iterator[None]:
    """Refuse what costs a unit test seconds, or lets it depend on the machine."""
    with pytest.MonkeyPatch.context() as patch:
        for method in ("bind", "connect", "connect_ex", "sendto"):
            patch.setattr(socket.socket, method, _refuse)
        patch.setattr(subprocess.Popen, "__init__", _refuse)
        # `None` makes every import of it an ImportError, in a worker too that has imported it for another ring.
        patch.setitem(sys.modules, "litellm", None)
        yield


@pytest.fixture(autouse=True, scope="module")
def no_certificates() -> Iterator[None]:
    """Give fetchers a context that trusts nobody: reading the machine's certificates takes a fifth of a second."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpcore, "default_ssl_context", lambda: context)
        yield
