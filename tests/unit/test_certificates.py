"""Where the authorities of each system are found."""

import ssl
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from draftd.db import certificates, dsn

HOLDS = {
    "Debian": {"/etc/ssl/certs/ca-certificates.crt"},
    "Alpine": {"/etc/ssl/cert.pem", "/etc/ssl/certs/ca-certificates.crt"},
    "Alpine without ca-certificates": {"/etc/ssl/cert.pem"},
    "RHEL": {"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/pki/tls/certs/ca-bundle.crt"},
    "RHEL, the new place alone": {"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"},
    "RHEL, the old place alone": {"/etc/pki/tls/certs/ca-bundle.crt"},
    "openSUSE": {"/etc/ssl/ca-bundle.pem"},
}
"""The files with all authorities that a system has."""


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[[set[str]], None]:
    """Let these be all the files of the system."""

    def install(files: set[str]) -> None:
        monkeypatch.setattr(certificates, "Path", lambda path: SimpleNamespace(is_file=lambda: path in files))

    # Of an OpenSSL that looks where no system keeps them, as the one in psycopg's wheels does.
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: SimpleNamespace(cafile=None))
    return install


@pytest.mark.parametrize("system", HOLDS)
def test_the_systems_store_is_found_on(on: Callable[[set[str]], None], system: str) -> None:
    on(HOLDS[system])
    target = dsn.parameters("postgresql://h/d?sslrootcert=system", name="test")
    assert target["sslrootcert"] in HOLDS[system]
    assert target["sslmode"] == "verify-full"
