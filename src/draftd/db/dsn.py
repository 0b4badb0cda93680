"""The database URL: how libpq reads it, what draftd adds, and how much of it may be shown.

Owns the connection's parameters and the time limit for connecting; opens no connection. A URL may be a function, which is called
before every connection, so that a rotated password needs no restart. Invariant: no message contains more of a URL than host,
port, database and the name of a parameter.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from draftd.db import certificates
from draftd.errors import ConfigurationError

Url = str | Callable[[], str]

CONNECT_TIMEOUT_S = 10
HOST_TIMEOUT_S = 3
"""For each of several hosts: a silent one must not use up a lease before the next one is tried."""
MIN_TIMEOUT_S = 2
"""libpq's minimum."""
_NO_TIMEOUT_S = 130
"""psycopg's meaning of ``connect_timeout=0``."""

_CREDENTIALS = frozenset({"user", "password", "passfile", "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl"})
_MALFORMED = (
    "the database URL is invalid; expected postgresql://user:password@host:5432/name, with special characters "
    "percent-encoded (@ is %40)"
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,40}")
_HINTS = {
    "schema": "; for a schema write options=-csearch_path%3DNAME",
    "currentschema": "; for a schema write options=-csearch_path%3DNAME",
    "search_path": "; for a schema write options=-csearch_path%3DNAME",
    "pgbouncer": "; draftd detects a pooler by itself",
}


def read(url: Url) -> str:
    """Return the current URL."""
    return url() if callable(url) else url


def parameters(url: str, *, name: str) -> dict[str, Any]:
    """Return the connection parameters for a URL.

    Dead peers are detected within about 30 s: by keepalives on idle connections, by ``tcp_user_timeout`` on those that wait for
    an acknowledgement. Parameters in the URL take precedence, except for the encoding: any text must get through.

    Raises:
        ConfigurationError: libpq cannot parse the URL. The message is draftd's: libpq's could contain the password.
    """
    parts = _parsed(url)
    own = {
        "connect_timeout": CONNECT_TIMEOUT_S if _hosts(parts) == 1 else HOST_TIMEOUT_S,
        "application_name": name,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
    }
    return own | parts | _system_store(parts) | {"client_encoding": "UTF8"}


def time_to_connect_s(target: Mapping[str, Any], *, margin_s: float) -> float:
    """Return the time limit for connecting, in seconds: psycopg applies ``connect_timeout`` to each host.

    Args:
        target: the connection's parameters.
        margin_s: extra time per host, to resolve its name and set up the session.
    """
    configured_s = int(target["connect_timeout"])
    each_s = max(configured_s, MIN_TIMEOUT_S) if configured_s > 0 else _NO_TIMEOUT_S
    # With prefer-standby every host is tried twice.
    rounds = 2 if _setting(target, "target_session_attrs") == "prefer-standby" else 1
    return rounds * _hosts(target) * (each_s + margin_s)


def address(url: Url) -> str:
    """Return host, port and database of a URL, for messages, without user and password."""
    parts = _parsed(read(url))
    hosts = str(parts.get("host") or parts.get("hostaddr") or "localhost").split(",")
    ports = str(parts.get("port") or "").split(",")
    ports += ports[-1:] * (len(hosts) - len(ports))
    where = ",".join(f"{host}:{port or 5432}" for host, port in zip(hosts, ports, strict=False))
    return f"{where}/{parts.get('dbname', '')}"


def is_same_place(one: str, other: str) -> bool:
    """Return whether two URLs lead to the same tables: whether they differ only in credentials and certificates."""
    places = [{name: value for name, value in _parsed(url).items() if name not in _CREDENTIALS} for url in (one, other)]
    return places[0] == places[1]


def _parsed(url: str) -> dict[str, Any]:
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        raise ConfigurationError(_unknown_parameter(url) or _MALFORMED) from None
    if not _has_ports(parts):
        raise ConfigurationError(_MALFORMED)
    if not re.fullmatch(r"-?\d{1,6}", str(parts.get("connect_timeout", "0"))):
        raise ConfigurationError("the database URL: connect_timeout must be a number of seconds")
    return parts


def _has_ports(parts: Mapping[str, Any]) -> bool:
    return all(port.isdecimal() or not port for port in str(parts.get("port", "")).split(","))


def _unknown_parameter(url: str) -> str | None:
    """Return the message about a parameter that libpq does not know; None if there is none, or it may be part of a password."""
    before, _, query = url.partition("?")
    try:
        if "@" in query or not _has_ports(conninfo_to_dict(before)):
            return None
    except psycopg.ProgrammingError:
        return None
    known = {option.keyword.decode() for option in Conninfo.get_defaults()} | {"ssl"}
    for pair in query.split("&"):
        name = unquote(pair.partition("=")[0])
        if _NAME.fullmatch(name) and name not in known:
            hint = _HINTS.get(name.lower(), "")
            return f"the database URL has a parameter unknown to PostgreSQL: {name}; remove it{hint}"
    return None


def _hosts(parts: Mapping[str, Any]) -> int:
    named = _setting(parts, "host") or _setting(parts, "hostaddr") or ""
    return named.count(",") + 1


def _setting(parts: Mapping[str, Any], keyword: str) -> str | None:
    """Return a parameter as libpq sees it: from the URL, its environment variable, or its default."""
    if keyword in parts:
        return str(parts[keyword])
    values = {option.keyword.decode(): option.val for option in Conninfo.get_defaults()}
    value = values.get(keyword)
    return value.decode() if value is not None else None


def _system_store(parts: Mapping[str, Any]) -> dict[str, str]:
    """Replace ``sslrootcert=system`` by the system's file, and be as strict as libpq is.

    Raises:
        ConfigurationError: this system has no such file.
    """
    # libpq itself refuses modes weaker than verify-full.
    if _setting(parts, "sslrootcert") != "system" or _setting(parts, "sslmode") not in {"prefer", "verify-full"}:
        return {}
    if (file := certificates.system_store()) is None:
        raise ConfigurationError(
            "sslrootcert=system: this system has no file of certificate authorities; install ca-certificates, or name a file"
        )
    return {"sslrootcert": file, "sslmode": "verify-full"}
