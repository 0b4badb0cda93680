"""A daemon and its connections: too few of them, lost ones, and a password that is rotated while it runs."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from draftd.db.grants import backend
from draftd.demo.embedded import EmbeddedPostgres
from draftd.stand_in.threaded import ThreadedStandIn
from fix_daemon import Client, Fleet, draftd, environment, sample_url, wait_until
from fix_database import database_url, server_parts

UNAVAILABLE = 69
NEEDED = 5


class Role:
    """A worker's role, with a limit or a password of its own."""

    def __init__(self, client: Client, url: str, *, password: str = "") -> None:
        self.name, self._client, self._url, self.password = f"worker_{uuid.uuid4().hex[:8]}", client, url, password
        client.query(f"CREATE ROLE {self.name} LOGIN PASSWORD '{password}'")
        client.query(backend(schema="public", client=None, worker=self.name, trusted=False))

    @property
    def url(self) -> str:
        """The database as this role."""
        parts = server_parts(self._url)
        secret = f":{quote(self.password)}" if self.password else ""
        port = f"&port={parts['port']}" if "port" in parts else ""
        return f"postgresql://{self.name}{secret}@/{parts['dbname']}?host={quote(parts['host'])}{port}"

    def limit(self, connections: int) -> None:
        """Allow so many connections at once; -1 for any number."""
        self._client.query(f"ALTER ROLE {self.name} CONNECTION LIMIT {connections}")

    def end(self, application: str = "draftd%") -> None:
        """End this role's connections of that name."""
        self._client.query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s AND application_name LIKE %s",
            self.name,
            application,
        )

    def drop(self) -> None:
        """Give everything back."""
        self.limit(-1)
        self.end("%")
        self._client.query(f"REASSIGN OWNED BY {self.name} TO CURRENT_USER")
        self._client.query(f"DROP OWNED BY {self.name}")
        self._client.query(f"DROP ROLE {self.name}")


@pytest.fixture
def role(client: Client, database: str) -> Iterator[Role]:
    """A worker's role, without a password."""
    made = Role(client, database)
    yield made
    made.drop()


def insert(client: Client, stand_in: ThreadedStandIn) -> str:
    return client.insert(sample_url(stand_in))


def test_a_daemon_that_cannot_have_its_connections_does_not_start(
    client: Client, role: Role, stand_in: ThreadedStandIn
) -> None:
    request_id = insert(client, stand_in)
    role.limit(NEEDED - 1)
    ended = draftd("run", env=environment(role.url, stand_in))
    assert ended.returncode == UNAVAILABLE
    assert ended.stderr.count("\n") == 1
    said = f"draftd: a daemon needs {NEEDED} connections to the database but could open only {NEEDED - 1}: cannot use"
    assert ended.stderr.startswith(said)
    assert "too many connections" in ended.stderr
    assert client.row(request_id)["status"] == "pending"
    assert stand_in.log == []


def test_the_listeners_connection_is_counted(client: Client, role: Role, stand_in: ThreadedStandIn) -> None:
    role.limit(NEEDED)
    ended = draftd("run", env=environment(role.url, stand_in, DRAFTD_LISTEN_DATABASE_URL=role.url))
    assert ended.returncode == UNAVAILABLE
    assert f"needs {NEEDED + 1} connections to the database but could open only {NEEDED}:" in ended.stderr
    assert client.query("SELECT FROM draft_workers") == []


def test_as_many_as_it_needs_are_enough(client: Client, role: Role, fleet: Fleet, stand_in: ThreadedStandIn) -> None:
    role.limit(NEEDED)
    request_id = insert(client, stand_in)
    daemon = fleet.start(environment(role.url, stand_in))
    assert client.wait_for(request_id, "completed")["attempt"] == 1
    assert daemon.stop() == 0


@pytest.mark.timeout(240)
def test_nothing_is_claimed_while_a_connection_is_missing(
    client: Client, role: Role, fleet: Fleet, stand_in: ThreadedStandIn
) -> None:
    daemon = fleet.start(environment(role.url, stand_in, DRAFTD_LEASE_S="3"))
    assert client.wait_for(insert(client, stand_in), "completed")["attempt"] == 1
    ready = ("health", "--ready", "--pid", str(daemon.pid), "--json")
    for calls, lost in enumerate(["settle", "read", "maintenance", "heartbeat"], start=1):
        role.limit(NEEDED - 1)
        role.end(f"draftd {lost}")
        wait_until(lambda: "too many connections" in draftd(*ready, env={}).stdout, 60)
        request_id = insert(client, stand_in)
        # The notification is heard at once: by the time that a command has run, it would have been claimed.
        missing = json.loads(draftd(*ready, env={}).stdout)
        assert missing["ok"] is False
        assert f" for {lost}: " in missing["detail"]
        (moment,) = client.query("SELECT now() AS now")
        role.limit(-1)
        row = client.wait_for(request_id, "completed")
        assert row["claimed_at"] > moment["now"]
        assert (row["attempt"], len(stand_in.log)) == (1, calls + 1)
        wait_until(lambda: draftd(*ready, env={}).returncode == 0, 60)
    assert daemon.stop() == 0


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """A server that asks everybody but its superuser for a password."""
    with EmbeddedPostgres() as server:
        rules = server.directory / "data" / "pg_hba.conf"
        rules.write_text("local all postgres trust\nlocal all all scram-sha-256\n")
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute("SELECT pg_reload_conf()")
        yield server.url


@pytest.mark.parametrize("place", ["secrets", ".env"])
def test_a_rotated_password_is_taken_from_its_file_at_the_next_connection(
    guarded: str,
    fleet: Fleet,
    stand_in: ThreadedStandIn,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    name = f"rotated_{place.strip('.')}"
    with psycopg.connect(guarded, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    url = database_url(guarded, name)
    assert draftd("migrate", env=environment(url)).returncode == 0
    client = Client(url)
    role = Role(client, url, password="first")
    file = tmp_path / ("DRAFTD_DATABASE_URL" if place == "secrets" else ".env")
    prefix = "" if place == "secrets" else "DRAFTD_DATABASE_URL="

    def write() -> None:
        new = tmp_path / "new"
        new.write_text(f"{prefix}{role.url}\n")
        new.rename(file)

    write()
    monkeypatch.chdir(tmp_path)
    env = environment("", stand_in, CREDENTIALS_DIRECTORY=str(tmp_path) if place == "secrets" else "")
    del env["DRAFTD_DATABASE_URL"]
    daemon = fleet.start(env)
    assert client.wait_for(insert(client, stand_in), "completed")["attempt"] == 1

    role.password = "second"
    client.query(f"ALTER ROLE {role.name} PASSWORD 'second'")
    role.end()
    wait_until(lambda: "password authentication failed" in daemon.log, 60)
    ready = ("health", "--ready", "--pid", str(daemon.pid))
    wait_until(lambda: "password authentication failed" in draftd(*ready, env=env).stdout, 60)
    write()
    assert client.wait_for(insert(client, stand_in), "completed")["attempt"] == 1
    wait_until(lambda: draftd(*ready, env=env).returncode == 0, 60)
    assert "second" not in daemon.log
    assert "a daemon task died" not in daemon.log
    assert daemon.stop() == 0
    role.drop()
    client.connection.close()
