"""Databases for tests: one server per run and worker, one migrated template, one clone per test (about 15 ms)."""

import os
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.json import Jsonb

from draftd import db, request
from draftd.db import schema_version
from draftd.demo.embedded import EmbeddedPostgres
from draftd.queue.claiming import ClaimTerms, claim
from draftd.queue.leases import BEATS_PER_LEASE, RENEW_AND_BEAT
from draftd.queue.reaping import Reaped, reap
from draftd.request import Claim

TEMPLATE = f"draftd_template_{uuid.uuid4().hex[:8]}"
URL = "https://images.example/shot.png"
LEASE_S = 10.0
ROOM_BYTES = 2 << 30
UNKNOWN_S = 5
"""How long a request for an agent that no daemon knows may be due before the reaper fails it."""


def database_url(server_url: str, name: str) -> str:
    """Return the URL of a database on the same server."""
    scheme, _, rest = server_url.partition("://")
    authority, _, path = rest.partition("/")
    _, question, query = path.partition("?")
    return f"{scheme}://{authority}/{name}{question}{query}"


@contextmanager
def in_memory() -> Iterator[None]:
    """Let temporary folders be made in memory, if there is plenty: copying and deleting databases costs a disk much more."""
    memory = Path("/dev/shm")  # noqa: S108 - only a private directory is made in it
    with pytest.MonkeyPatch.context() as patch:
        if memory.is_dir():
            system = os.statvfs(memory)
            if system.f_bavail * system.f_frsize > ROOM_BYTES and not system.f_flag & os.ST_NOEXEC:
                patch.setattr(tempfile, "tempdir", str(memory))
        yield


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """A PostgreSQL server: ``DRAFTD_TEST_DATABASE_URL``, or an embedded one.

    With several workers each has one of its own: tests end connections, use up all there are, and make roles.
    """
    if url := os.environ.get("DRAFTD_TEST_DATABASE_URL"):
        yield url
        return
    server = EmbeddedPostgres()
    with in_memory():
        server.start()
    try:
        yield server.url
    finally:
        server.stop()


@pytest.fixture(scope="session")
def template(server_url: str) -> Iterator[str]:
    """The name of a migrated, empty database."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{TEMPLATE}"'.encode())
        schema_version.upgrade(database_url(server_url, TEMPLATE))
        yield TEMPLATE
        connection.execute(f'DROP DATABASE "{TEMPLATE}" WITH (FORCE)'.encode())


@contextmanager
def cloned(server_url: str, template: str) -> Iterator[str]:
    """Yield the URL of a database made from a template, and drop it afterwards."""
    name = f"draftd_test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy'.encode())
        try:
            yield database_url(server_url, name)
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


@pytest.fixture
def database(server_url: str, template: str) -> Iterator[str]:
    """The URL of a migrated, empty database of this test's own."""
    with cloned(server_url, template) as url:
        yield url


@pytest.fixture
def empty_database(server_url: str) -> Iterator[str]:
    """The URL of a database without any table."""
    with cloned(server_url, "template0") as url:
        yield url


@pytest.fixture
async def connection(database: str) -> AsyncIterator[db.Connection]:
    """An open connection to this test's database."""
    async with db.connected(database) as opened:
        yield opened


@pytest.fixture
async def link(database: str) -> AsyncIterator[db.Link]:
    """A link to this test's database."""
    opened = db.Link(url=database, name="draftd test")
    yield opened
    await opened.close()


async def make_request(connection: db.Connection, **over: Any) -> UUID:
    """Insert a request; every column can be set, the daemon's by an update after the insert."""
    client = {"image_urls": [URL], **{k: v for k, v in over.items() if k in CLIENT_COLUMNS}}
    columns = ", ".join(client)
    values = ", ".join(f"%({column})s" for column in client)
    statement = f"INSERT INTO draft_requests ({columns}) VALUES ({values}) RETURNING id"
    cursor = await connection.execute(statement.encode(), {k: _adapted(v) for k, v in client.items()})
    row = await cursor.fetchone()
    assert row is not None
    later = {k: v for k, v in over.items() if k not in CLIENT_COLUMNS}
    if later:
        settings = ", ".join(f"{column} = %({column})s" for column in later)
        params = {k: _adapted(v) for k, v in later.items()} | {"id": row["id"]}
        await connection.execute(f"UPDATE draft_requests SET {settings} WHERE id = %(id)s".encode(), params)
    made: UUID = row["id"]
    return made


CLIENT_COLUMNS = [column.name for column in request.CLIENT_COLUMNS]


async def overwrite(connection: db.Connection, request_id: UUID, **columns: Any) -> None:
    """Set columns of a request past every trigger: rows that older checks let in, or a restore brought back."""
    settings = ", ".join(f"{column} = %({column})s" for column in columns)
    params = {column: _adapted(value) for column, value in columns.items()} | {"request_id": request_id}
    async with connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(f"UPDATE draft_requests SET {settings} WHERE id = %(request_id)s".encode(), params)


def _adapted(value: Any) -> Any:
    return Jsonb(value) if isinstance(value, dict | list) and not _is_text_array(value) else value


def _is_text_array(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(one is None or isinstance(one, str) for one in value)


async def read_row(connection: db.Connection, request_id: UUID) -> dict[str, Any]:
    """Return a request as it stands, all columns."""
    row = await (await connection.execute("SELECT * FROM draft_requests WHERE id = %s", [request_id])).fetchone()
    assert row is not None
    return row


def make_terms(**over: Any) -> ClaimTerms:
    """Return the terms of a claim, with the product's defaults."""
    defaults: dict[str, Any] = {
        "worker_id": uuid.uuid4(),
        "lease_s": 10.0,
        "attempt_s": 120.0,
    }
    return ClaimTerms(**defaults | over)


async def claim_all(
    link: db.Link, terms: ClaimTerms | None = None, *, agents: Sequence[str] = ("comment_generator",), limit: int = 50
) -> list[Claim]:
    """Claim what is due."""
    return await claim(link, terms=terms or make_terms(), agents=list(agents), limit=limit)


async def claim_one(link: db.Link, terms: ClaimTerms | None = None) -> Claim:
    """Claim the one row that is due."""
    (claimed,) = await claim_all(link, terms, limit=1)
    return claimed


def beat(*claims: Claim, **over: Any) -> dict[str, Any]:
    """Return the parameters of one beat of a worker that holds these claims."""
    lease_s = over.pop("lease_s", LEASE_S)
    return {
        "ids": [one.id for one in claims],
        "tokens": [one.lease_token for one in claims],
        "lease_s": lease_s,
        "worker_id": uuid.uuid4(),
        "hostname": "h",
        "pid": 1,
        "version": "0",
        "state": "running",
        "agents": ["comment_generator"],
        "concurrency": 1,
        "beat_s": lease_s / BEATS_PER_LEASE,
        "attempt_s": 120.0,
        "models": Jsonb({}),
        "in_flight": len(claims),
    } | over


async def renew(connection: db.Connection, *claims: Claim, **over: Any) -> dict[str, Any]:
    """Carry out one beat of a worker that holds these claims, and return what it says."""
    row = await (await connection.execute(RENEW_AND_BEAT.encode(), beat(*claims, **over))).fetchone()
    assert row is not None
    return row


async def reap_now(link: db.Link, **over: Any) -> list[Reaped]:
    """Reap as a judge does who has been connected for long enough: however young it is, it is older than this lease."""
    return await reap(link, **{"lease_s": 0.001} | over)


async def shift(connection: db.Connection, request_id: UUID, **seconds: float) -> None:
    """Move time columns of a request by so many seconds: ``shift(c, i, lease_until=-60)``."""
    for column, by_s in seconds.items():
        statement = f"UPDATE draft_requests SET {column} = {column} + make_interval(secs => %s) WHERE id = %s"
        await connection.execute(statement.encode(), [by_s, request_id])


async def lose(connection: db.Connection, claim: Claim, by_s: float = 60.0) -> None:
    """Let a lease have run out."""
    await shift(connection, claim.id, lease_until=-by_s - LEASE_S)


def server_parts(url: str) -> dict[str, Any]:
    """Return host, port and the like of a database URL."""
    return dict(conninfo_to_dict(url))
