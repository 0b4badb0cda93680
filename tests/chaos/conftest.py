"""The fixtures of the chaos suite.

``DRAFTD_TEST_CHAOS_SEEDS=N`` (``make chaos``) plays the long form: N seeds of the scenarios marked with ``chaos(seeds=…)``, at
most three of the others. Without it the short form is played: one seed each, short leases, short disturbances.
"""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from chaos.scene import Crew, Form, Scene, staged
from chaos.server import Server
from draftd.db import schema_version
from draftd.stand_in.threaded import ThreadedStandIn
from fix_database import database_url

SEEDS = int(os.environ.get("DRAFTD_TEST_CHAOS_SEEDS", "0"))
SEEDS_OF_ALL = 3
WORKER_ROLE = "draftd_chaos"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("chaos")
        most = (marker.kwargs if marker else {}).get("seeds", SEEDS_OF_ALL)
        metafunc.parametrize("seed", range(max(1, min(SEEDS, most))))


@pytest.fixture
def form() -> Form:
    """Long or short."""
    return Form(is_long=SEEDS > 0)


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[Crew]:
    """A starter of daemons that ends them with the test, also those that were stopped."""
    started = Crew(tmp_path)
    yield started
    started.end()


@pytest.fixture
def scene(
    request: pytest.FixtureRequest, seed: int, form: Form, database: str, stand_in: ThreadedStandIn, crew: Crew
) -> Iterator[Scene]:
    """A scene on the server that all tests share."""
    with staged(
        name=_name(request), seed=seed, form=form, url=database, owner_url=database, stand_in=stand_in, crew=crew
    ) as set_up:
        yield set_up


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A server that may be harmed."""
    with Server() as started:
        yield started


@pytest.fixture
def frail_scene(
    request: pytest.FixtureRequest, seed: int, form: Form, server: Server, stand_in: ThreadedStandIn, crew: Crew
) -> Iterator[Scene]:
    """A scene on the server that may be harmed; its tables are the daemons' own, who are no superusers."""
    name = f"frail_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        if not connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [WORKER_ROLE]).fetchall():
            connection.execute(f"CREATE ROLE {WORKER_ROLE} LOGIN".encode())
        connection.execute(f'CREATE DATABASE "{name}" OWNER {WORKER_ROLE}'.encode())
    owner_url = database_url(server.url, name)
    url = owner_url.replace("//postgres@", f"//{WORKER_ROLE}@")
    schema_version.upgrade(url)
    with staged(
        name=_name(request), seed=seed, form=form, url=url, owner_url=owner_url, stand_in=stand_in, crew=crew
    ) as set_up:
        yield set_up
    if not server.is_up:  # the test failed before it could start the server again
        server.revive()
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def _name(request: pytest.FixtureRequest) -> str:
    original = getattr(request.node, "originalname", request.node.name)
    return str(original).removeprefix("test_").replace("_", " ")
