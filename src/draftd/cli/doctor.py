"""The doctor: checks everything a daemon needs.

The model check is a real draft of a small picture (``model_check``). Nothing less shows that the key is right, that the model
exists, and that it can see.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from draftd import db
from draftd.cli.model_check import ModelCheck
from draftd.daemon import liveness
from draftd.daemon.parts import default_choice, image_headers, probe_s, tracing_of
from draftd.db import access, dsn, schema_version
from draftd.db.grants import TABLES, TRUSTED_TYPE, WORKER_TYPE
from draftd.db.schema_version import SchemaState
from draftd.errors import CommandError, ConfigurationError, ModelMisconfigured
from draftd.images.gate import AllowList
from draftd.providers.catalog import READ, Catalog
from draftd.providers.holds import LIST_HOLDS, Holds
from draftd.providers.llm import Llm
from draftd.providers.models import Models
from draftd.providers.permits import Permits
from draftd.providers.reservations import READ_BUDGETS, Budgets, unpriced_advice
from draftd.providers.throttles import Throttles
from draftd.queue.wakeup import proves_session
from draftd.reply.agents import Agent, load_agents, packaged_directory
from draftd.sanitize import redact
from draftd.settings import Settings, environment_value, export_foreign_variables, load_settings

LANGFUSE_TIME_S = 5.0

_TRIAL = """
INSERT INTO draft_workers (id, hostname, pid, version, state, agents, concurrency, in_flight)
VALUES (%s, 'doctor', 1, '0', 'stopped', '{}', 1, 0)
"""
# A trigger runs with the rights of the role that changes the row: the daemon's, or the owner's.
_FOREIGN_CODE = """
WITH tables AS (
    SELECT c.oid, c.relowner, c.relacl, format('%%I.%%I', n.nspname, c.relname) AS name
      FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
     WHERE n.oid = (SELECT relnamespace FROM pg_class WHERE oid = to_regclass('draft_requests'))
       AND c.relkind = 'r' AND c.relname = ANY (%s)
)
SELECT format('%%1$s may attach code that runs with the daemon''s rights: REVOKE TRIGGER ON %%2$s FROM %%1$s',
              r.role, string_agg(t.name, ', ' ORDER BY t.name)) AS found
  FROM tables AS t CROSS JOIN aclexplode(t.relacl) AS g CROSS JOIN LATERAL (
    SELECT CASE g.grantee WHEN 0 THEN 'public' ELSE quote_ident(pg_get_userbyid(g.grantee)) END) AS r(role)
 WHERE g.privilege_type = 'TRIGGER' AND g.grantee <> t.relowner
   AND NOT EXISTS (SELECT FROM pg_roles AS s WHERE s.oid = g.grantee AND s.rolsuper)
 GROUP BY r.role
UNION ALL
SELECT format('%%1$s''s code runs with the daemon''s rights: DROP TRIGGER %%2$I ON %%3$s',
              quote_ident(r.rolname), g.tgname, t.name)
  FROM tables AS t JOIN pg_trigger AS g ON g.tgrelid = t.oid AND NOT g.tgisinternal
  JOIN pg_proc AS p ON p.oid = g.tgfoid JOIN pg_roles AS r ON r.oid = p.proowner
 WHERE p.proowner <> t.relowner AND NOT r.rolsuper
 ORDER BY found
"""
# The owner's grants give these to some roles; by default, and so after a restore without privileges, everybody has them.
_OPEN_TO_ALL = """
SELECT t.name FROM unnest(%s::text[]) AS t(name) WHERE has_type_privilege('public', t.name, 'USAGE') ORDER BY t.name
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """The result of one check."""

    check: str
    ok: bool
    detail: str


async def examine() -> AsyncIterator[CheckResult]:
    """Run the checks in order of dependency; yield each result as soon as it is known."""
    try:
        settings, warnings = load_settings()
        export_foreign_variables()
    except ConfigurationError as error:
        yield CheckResult(check="configuration", ok=False, detail=error.message)
        return
    yield _configuration(settings, warnings)
    result, prompts = _prompts(settings)
    yield result
    database = _Database()
    if settings.database_url is not None:
        async for result in database.examine(settings):
            yield result
    yield await _daemons(settings)
    async for result in _models(settings, prompts, database):
        yield result
    yield await asyncio.to_thread(_langfuse, settings)


def _configuration(settings: Settings, warnings: list[str]) -> CheckResult:
    try:
        settings.require_database_url()
        AllowList.parse(settings.allow_private_image_hosts)
        image_headers(settings)
        Permits.of(settings, environment_value)
    except ConfigurationError as error:
        return CheckResult(check="configuration", ok=False, detail=error.message)
    return CheckResult(check="configuration", ok=True, detail="; ".join(warnings) or "all settings are valid")


class _Database:
    """The database checks, and the models configured there."""

    def __init__(self) -> None:
        self.catalog = Catalog()
        self.has_budget = False

    async def examine(self, settings: Settings) -> AsyncIterator[CheckResult]:
        """Check connection, schema and LISTEN; skip the checks that depend on a failed one."""
        check, url = "database", settings.require_database_url()
        try:
            async with db.connected(url, migrated=False, reads=schema_version.TABLES) as connection:
                yield CheckResult(check=check, ok=True, detail=await _server(connection))
                check = "schema"
                result = await _schema(connection)
                if result.ok:
                    (row,) = await (await connection.execute(READ.encode())).fetchall()
                    self.catalog = Catalog.read(row["agents"], row["models"])
                    (row,) = await (await connection.execute(READ_BUDGETS.encode())).fetchall()
                    self.has_budget = Budgets.of(row["budgets"]).are_any
                yield result
                if result.ok:
                    yield await _rights(connection)
                    yield await _triggers(connection)
                    check = "write"
                    yield await _write(connection, url)
                    check = "holds"
                    yield _holds(await (await connection.execute(LIST_HOLDS.encode())).fetchall())
            check = "listen"
            yield await _listen(settings)
        except CommandError as error:
            yield CheckResult(check=check, ok=False, detail=error.message)


async def _daemons(settings: Settings) -> CheckResult:
    """Ask the daemons on this host; they may have started with older settings."""
    own, ok, lines = None, True, []
    with suppress(ConfigurationError):  # reported by the configuration check
        own = dsn.address(settings.require_database_url())
    for name, answer in (await liveness.ask_all()).items():
        pid = name.partition(".")[0]
        if answer is None:
            ok = False
            lines.append(f"pid {pid} does not answer")
            continue
        if (database := answer.get("database")) is None:
            continue
        if own in {None, database["address"]}:
            ok = ok and database["ok"]
            lines.append(f"pid {pid}: {database['detail']}")
        else:
            lines.append(f"pid {pid} uses another database, {database['address']}")
    return CheckResult(check="daemon", ok=ok, detail="; ".join(lines) or "none running on this host")


def _prompts(settings: Settings) -> tuple[CheckResult, dict[str, Agent]]:
    try:
        prompts = load_agents(settings.prompts_dir or packaged_directory())
    except ConfigurationError as error:
        return CheckResult(check="prompts", ok=False, detail=error.message), {}
    detail = ", ".join(f"{agent} {prompt.version}" for agent, prompt in sorted(prompts.items()))
    return CheckResult(check="prompts", ok=bool(prompts), detail=detail or "no prompts found"), prompts


async def _server(connection: db.Connection) -> str:
    row = await (await connection.execute("SELECT current_setting('server_version') AS version")).fetchone()
    return f"PostgreSQL {row['version']}" if row else "PostgreSQL"


async def _schema(connection: db.Connection) -> CheckResult:
    state, elsewhere = await schema_version.state(connection), await schema_version.elsewhere(connection)
    hints = {
        SchemaState.BEHIND: f"; {elsewhere or 'run `draftd migrate`'}",
        SchemaState.AHEAD: "; this draftd is older than the schema",
    }
    return CheckResult(check="schema", ok=state is not SchemaState.BEHIND, detail=f"{state}{hints.get(state, '')}")


async def _rights(connection: db.Connection) -> CheckResult:
    """Report rights of daemons and trusted servers that every role has."""
    rows = await (await connection.execute(_OPEN_TO_ALL.encode(), [[WORKER_TYPE, TRUSTED_TYPE]])).fetchall()
    if not rows:
        return CheckResult(check="rights", ok=True, detail="no role has a daemon's rights that was not granted them")
    types = ", ".join(row["name"] for row in rows)
    detail = (
        "every role may change requests and forget requesters, as after a restore without privileges: "
        f"REVOKE ALL ON TYPE {types} FROM PUBLIC, and apply `draftd grants` again"
    )
    return CheckResult(check="rights", ok=False, detail=detail)


async def _triggers(connection: db.Connection) -> CheckResult:
    """Report roles whose code a daemon would run."""
    rows = await (await connection.execute(_FOREIGN_CODE.encode(), [list(TABLES)])).fetchall()
    detail = "; ".join(row["found"] for row in rows) or "no other role can attach code to the tables"
    return CheckResult(check="triggers", ok=not rows, detail=detail)


async def _write(connection: db.Connection, url: str) -> CheckResult:
    """Insert a row as a daemon does, and roll back.

    Raises:
        CommandError: the database refuses the row.
    """
    with db.translate_errors(url):
        row = await (await connection.execute(access.ACCESS_QUERY.encode())).fetchone()
        access.check(row or {}, where=dsn.address(url), works=True)
        async with connection.transaction(force_rollback=True):
            await connection.execute(_TRIAL.encode(), [uuid.uuid4()])
    return CheckResult(check="write", ok=True, detail="a test row was inserted and rolled back")


def _holds(rows: Sequence[Mapping[str, Any]]) -> CheckResult:
    held = [
        f"{row['model']}: {row['code']} since {row['since'].astimezone(UTC):%Y-%m-%d %H:%M} UTC: "
        + row["reason"].removeprefix(f"{row['model']}: ")
        for row in rows
    ]
    return CheckResult(check="holds", ok=not held, detail="; ".join(held) or "no model is on hold")


async def _listen(settings: Settings) -> CheckResult:
    if settings.listen == "off":
        return CheckResult(check="listen", ok=True, detail="off: polling every second")
    received = await proves_session(settings.listen_url)
    detail = (
        "notifications arrive"
        if received
        else "no notifications arrive (a transaction-mode pooler?): polling every second"
    )
    return CheckResult(check="listen", ok=True, detail=detail)


async def _models(settings: Settings, prompts: Mapping[str, Agent], database: _Database) -> AsyncIterator[CheckResult]:
    try:
        permits = Permits.of(settings, environment_value)
    except ConfigurationError:
        return  # reported by the configuration check
    # The link is never opened: the doctor places no holds.
    link = db.Link(url="", name="draftd doctor")
    throttles = Throttles(link=link)
    models = Models(
        holds=Holds(link=link, throttles=throttles, probe_s=probe_s(settings)),
        throttles=throttles,
        agents=sorted(prompts),
        default=default_choice(settings),
        permits=permits,
        getenv=environment_value,
    )
    models.apply(database.catalog)
    llm = await asyncio.to_thread(Llm.load)
    check = ModelCheck(llm=llm, settings=settings)
    seen: set[str] = set()
    for agent in sorted(prompts):
        resolved = models.resolved(agent)
        if not resolved.models:
            detail = f"{agent}: set DRAFTD_MODEL, or use `draftd agents set {agent} NAME`"
            yield CheckResult(check="model", ok=False, detail=detail)
        for refused in resolved.unusable:
            if refused.name not in seen:
                detail = f"{refused.name}: {ModelMisconfigured.code}: {refused.reason}"
                yield CheckResult(check="model", ok=False, detail=redact(detail))
        for target in resolved.targets:
            if target.name not in seen:
                answered = await check.ask(prompts[agent], target)
                yield CheckResult(check="model", ok=answered.ok, detail=answered.detail)
                if database.has_budget and not llm.has_known_price(target):
                    detail = f"{target.name}: {unpriced_advice(target.name)}"
                    yield CheckResult(check="budget", ok=False, detail=detail)
        seen.update(resolved.models)
    await llm.aclose()


def _langfuse(settings: Settings) -> CheckResult:
    tracing = tracing_of(settings)
    try:
        ok, detail = tracing.examine()
    finally:
        tracing.shutdown(time_s=LANGFUSE_TIME_S)
    if detail.startswith("is invalid"):
        detail = f"{'LANGFUSE_BASE_URL' if environment_value('LANGFUSE_BASE_URL') else 'LANGFUSE_HOST'} {detail}"
    return CheckResult(check="langfuse", ok=ok, detail=detail)
