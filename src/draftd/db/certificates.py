"""Certificates of database servers: where this system keeps its authorities, and why a certificate was refused.

libpq checks certificates itself, with two gaps that are filled here: the OpenSSL in psycopg's wheels looks for the system's
authorities in a directory that no system has, and libpq's errors do not tell an expired certificate from an unknown issuer.
"""

import re
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SYSTEM_STORES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Alpine, Arch
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # RHEL, Fedora, CentOS
    "/etc/pki/tls/certs/ca-bundle.crt",  # older releases of these
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # Alpine without ca-certificates
)
HANDSHAKE_TIME_S = 5.0
_SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
"""How a client asks a PostgreSQL server for TLS (protocol 3.0, "SSLRequest")."""
_REFUSED = re.compile(r'server at "([^"]+)"(?: \(\S+\))?, port (\d+) failed: SSL error: certificate verify failed')
_OTHER_HOST = re.compile(r'server certificate for .+ does not match host name "[^"]*"')


def system_store() -> str | None:
    """Return the file of this system's certificate authorities: ``SSL_CERT_FILE``, or where distributions keep it."""
    named = ssl.get_default_verify_paths().cafile
    return next((path for path in (named, *SYSTEM_STORES) if path and Path(path).is_file()), None)


def why_refused(error: str, target: Mapping[str, Any]) -> str | None:
    """Return why a server's certificate was refused, or None if the error has another cause.

    Repeats the TLS handshake, for at most ``HANDSHAKE_TIME_S`` seconds.

    Args:
        error: libpq's message.
        target: the connection's parameters.
    """
    if other := _OTHER_HOST.search(error):
        return other[0]
    if not (refused := _REFUSED.search(error)):
        return None
    return _verify(refused[1], int(refused[2]), target) or "certificate verify failed"


def _verify(host: str, port: int, target: Mapping[str, Any]) -> str | None:
    """Repeat the handshake with Python's ssl module, which reports the reason."""
    try:
        context = ssl.create_default_context(cafile=target.get("sslrootcert"))
        context.check_hostname = False
        with socket.create_connection((host, port), HANDSHAKE_TIME_S) as connection:
            if target.get("sslnegotiation") != "direct":
                connection.sendall(_SSL_REQUEST)
                connection.recv(1)
            name = str(target.get("host") or "")
            with context.wrap_socket(connection, server_hostname=name if name and "," not in name else None):
                return None
    except ssl.SSLCertVerificationError as error:
        return f"{error.verify_message}"
    except (OSError, ValueError):
        return None
