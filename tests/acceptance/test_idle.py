"""What an idle daemon costs the database."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest

from draftd.db import schema_version
from draftd.demo.embedded import EmbeddedPostgres
from draftd.stand_in.threaded import ThreadedStandIn
from fix_daemon import Fleet, environment, wait_until
from fix_database import database_url

PERIODS_S = {"draftd claim": 3.0, "draftd maintenance": 2.0, "draftd heartbeat": 10 / 3}
"""Seconds between two statements of each connection that an idle daemon uses: together 68 a minute."""
SETTLED = 2
"""Statements of each connection until whatever a start brings with it is over."""
LOOKED_AT = 5
"""Statements of each connection that are judged, at least."""
EARLY_S = 0.05
"""The log has milliseconds, and a timer may ring early by the clock's resolution."""
LOOK_S = 0.5
"""Looking reads the whole log."""
TIME_S = 120.0


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement as the server's log has it."""

    at: float
    """When the server began with it, in seconds: before its answer, which starts the daemon's next pause."""
    database: str
    connection: str
    """The name that draftd gave it."""
    text: str


ENTRY = re.compile(r"^([\d.]+)\|(\w+)\|([\w ]+)\|LOG:  (?:statement|execute [^:]*): (.*(?:\n\t.*)*)", re.MULTILINE)


Sent = dict[str, list[Statement]]
"""Statements by connection."""


def statements(log: Path, since_byte: int) -> dict[str, Sent]:
    """Return by database every statement in the log from this byte on."""
    found: dict[str, Sent] = defaultdict(lambda: defaultdict(list))
    for at, *others in ENTRY.findall(log.read_bytes()[since_byte:].decode()):
        one = Statement(float(at), *others)
        found[one.database][one.connection].append(one)
    return found


def wait_for_more(log: Path, databases: Iterable[str], *, count: int) -> dict[str, Sent]:
    """Wait until each connection to each database has sent so many more statements; return all that are new."""
    since_byte = log.stat().st_size

    def new() -> dict[str, Sent]:
        return statements(log, since_byte)

    def came() -> bool:
        now = new()
        return all(len(now[database][name]) >= count for database in databases for name in PERIODS_S)

    wait_until(came, TIME_S, what=new, look_s=LOOK_S)
    return new()


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    """A server that logs every statement, with its moment."""
    settings = {"log_statement": "all", "log_line_prefix": "%n|%d|%a|"}
    with EmbeddedPostgres(settings=settings) as started:
        yield started


@pytest.mark.timeout(600)
def test_an_idle_daemon_sends_as_little_with_200_loops_as_with_one(
    server: EmbeddedPostgres, stand_in: ThreadedStandIn, fleet: Fleet
) -> None:
    # Pauses are judged and not counts: a machine that stands still lengthens some pauses, and shortens none.
    log, databases = server.directory / "log", {1: "one_loop", 200: "many_loops"}
    daemons = []
    for loops, name in databases.items():
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        url = database_url(server.url, name)
        schema_version.upgrade(url)
        daemons.append(fleet.start(environment(url, stand_in), "--concurrency", str(loops)))
    wait_for_more(log, databases.values(), count=SETTLED)
    sent = wait_for_more(log, databases.values(), count=LOOKED_AT)
    for connections in (sent[name] for name in databases.values()):
        assert connections.keys() == PERIODS_S.keys()
        for name, period_s in PERIODS_S.items():
            pauses_s = [later.at - earlier.at for earlier, later in pairwise(connections[name])]
            assert min(pauses_s) >= period_s - EARLY_S, connections[name]
    few, many = ({one.text for those in sent[name].values() for one in those} for name in databases.values())
    assert few == many
    assert len(few) == len(PERIODS_S)
    for daemon in daemons:
        assert daemon.stop() == 0
