"""The move of ``model_configs`` to ``draft_agents`` and ``draft_models``, with data, and back."""

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.script import ScriptDirectory

from draftd import db
from draftd.db import schema_version
from draftd.providers.catalog import Catalog, Choice, Meaning
from draftd.queue.leases import AGENTS, MODELS

SHARED = {"api_base": "http://gateway", "api_key_env": "GATEWAY_KEY", "price_in": 1, "price_out": 2}
ROWS: dict[str, dict[str, Any]] = {
    "plain": {"model": "openai/a", "fallback_models": ["openai/b"], "params": '{"temperature": 0.5}'},
    "first": {"model": "openai/a", "fallback_models": ["openai/b", "openai/a"], "params": '{"seed": 1}', **SHARED},
    "second": {"model": "openai/b", **SHARED},
    "elsewhere": {"model": "openai/a", "api_base": "http://other"},
    "priced": {"model": "openai/a", "price_in": 0, "price_out": 0.5},
    "half": {"model": "openai/a", "price_in": 1},
    "odd": {"model": "openai/a", "price_in": "NaN", "price_out": -1, "params": "[1]"},
}


@pytest.fixture
def migrate(empty_database: str) -> Callable[[str], None]:
    """Migrate the database ``up`` to the revision that moves the rows, or ``down`` below it; it stands below it now."""
    config = schema_version._config(empty_database)
    (path,) = schema_version.migrations_directory().glob("versions/*_agents_and_models.py")
    revision = ScriptDirectory.from_config(config).get_revision(path.name.partition("_")[0])
    below = str(revision.down_revision)
    command.upgrade(config, below)

    def migrate(way: str) -> None:
        if way == "up":
            command.upgrade(config, revision.revision)
        else:
            command.downgrade(config, below)

    return migrate


async def insert(connection: db.Connection) -> None:
    for agent, row in ROWS.items():
        columns, values = ", ".join(["agent", *row]), ", ".join(["%s"] * (len(row) + 1))
        statement = f"INSERT INTO model_configs ({columns}) VALUES ({values})"
        await connection.execute(statement.encode(), [agent, *row.values()])


async def all_rows(connection: db.Connection) -> dict[str, dict[str, Any]]:
    rows = await (await connection.execute("SELECT * FROM model_configs")).fetchall()
    return {row["agent"]: row for row in rows}


def meanings(catalog: Catalog, agent: str) -> list[Meaning]:
    choice = catalog.choice(agent)
    assert isinstance(choice, Choice)
    return [catalog.meaning(name) for name in choice.models]


async def test_every_row_keeps_its_meaning_up_and_down(empty_database: str, migrate: Callable[[str], None]) -> None:
    async with db.connected(empty_database) as connection:
        await insert(connection)
        before = await all_rows(connection)
        await asyncio.to_thread(migrate, "up")
        (row,) = await (await connection.execute(f"SELECT {AGENTS} AS agents, {MODELS} AS models".encode())).fetchall()
        catalog = Catalog.read(row["agents"], row["models"])
        shared: dict[str, Any] = {"input_usd_per_mtok": Decimal(1), "output_usd_per_mtok": Decimal(2)} | {
            name: SHARED[name] for name in ("api_base", "api_key_env")
        }
        a, b = Meaning(model="openai/a", **shared), Meaning(model="openai/b", **shared)
        assert meanings(catalog, "plain") == [Meaning(model="openai/a"), Meaning(model="openai/b")]
        assert meanings(catalog, "first") == [a, b, a]
        assert meanings(catalog, "second") == [b]
        assert meanings(catalog, "elsewhere") == [Meaning(model="openai/a", api_base="http://other")]
        (priced,) = meanings(catalog, "priced")
        assert (priced.input_usd_per_mtok, priced.output_usd_per_mtok) == (Decimal(0), Decimal("0.5"))
        assert meanings(catalog, "half") == meanings(catalog, "odd") == [Meaning(model="openai/a")]
        names = {agent: catalog.choice(agent) for agent in ROWS}
        assert names["first"] == Choice(
            models=("openai/a@first", "openai/b@first", "openai/a@first"), params={"seed": 1}
        )
        assert names["second"] == Choice(models=("openai/b@first",)), "the same meaning is one name"
        assert catalog.meaning("openai/a") == Meaning(model="openai/a"), "DRAFTD_MODEL goes on to mean the provider"

        await asyncio.to_thread(migrate, "down")
        after = await all_rows(connection)
        for agent in set(ROWS) - {"half", "odd"}:
            assert after[agent] == before[agent]
        for agent in ("half", "odd"):
            assert (after[agent]["price_in"], after[agent]["price_out"]) == (None, None), "they never counted"


async def test_the_new_tables_are_private(connection: db.Connection) -> None:
    rows = await (
        await connection.execute(
            "SELECT relname, relrowsecurity, has_table_privilege('public', oid, 'SELECT') AS readable FROM pg_class "
            "WHERE relname IN ('draft_agents', 'draft_models') ORDER BY 1"
        )
    ).fetchall()
    assert rows == [
        {"relname": name, "relrowsecurity": True, "readable": False} for name in ("draft_agents", "draft_models")
    ]


@pytest.mark.parametrize("prices", ["-1, 1", "1, NULL", "'NaN', 1", "1, 10001", "'Infinity', 1"])
async def test_a_price_that_is_none_is_refused(connection: db.Connection, prices: str) -> None:
    statement = f"INSERT INTO draft_models (name, input_usd_per_mtok, output_usd_per_mtok) VALUES ('m', {prices})"
    with pytest.raises(psycopg.errors.CheckViolation):
        await connection.execute(statement.encode())
