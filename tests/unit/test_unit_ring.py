"""The guard of this ring holds: see ``conftest.py``."""

import importlib
import socket
import subprocess
import sys

import pytest

from tables import per_row


@per_row("method", ["bind", "connect", "connect_ex"])
def test_a_unit_test_that_opens_a_socket_fails(method: str) -> None:
    with socket.socket() as opened, pytest.raises(pytest.fail.Exception, match="tests/integration"):
        getattr(opened, method)(("127.0.0.1", 9))


def test_a_unit_test_that_starts_a_process_fails() -> None:
    with pytest.raises(pytest.fail.Exception, match="tests/integration"):
        subprocess.run([sys.executable, "-V"], check=False)


def test_a_unit_test_that_imports_litellm_fails() -> None:
    with pytest.raises(ImportError, match="litellm"):
        importlib.import_module("litellm")
