"""The doctor: everything a daemon needs, tried once, one finding each.

The model check is a real call with a real picture of a few pixels (some hundred tokens per model): nothing less shows that the
key is right, the model is there, and it sees.
"""

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpcore

from draftd import db, schema_version
from draftd.app import default_choice
from draftd.errors import CommandError, ConfigurationError, ModelError
from draftd.llm import Llm, Target
from draftd.models import LIST, Choice, Models, choice_of
from draftd.prompts import load_prompts, packaged_directory
from draftd.sanitize import redact
from draftd.schema_version import SchemaState
from draftd.settings import Settings, environment_value, load_settings
from draftd.wakeup import proves_session

MODEL_TIME_S = 30.0
LANGFUSE_TIME_S = 5.0
LANGFUSE_CLOUD = "https://cloud.langfuse.com"

RED_PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAEAAAABACAIAAAAlC+aJAAAAT0lEQVR42u3PQQkAAAgEsEty/UMZxgi+hcEKLNO+FgEBAQEBAQEB"
    "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQGBywLPLIEA68ZURwAAAABJRU5ErkJggg=="
)
_SCHEMA = {
    "type": "object",
    "properties": {"colour": {"type": "string"}},
    "required": ["colour"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found."""

    check: str
    ok: bool
    detail: str


async def examine() -> AsyncIterator[Finding]:
    """Check everything, in the order in which one thing needs the other; yield a finding as soon as it is known."""
    try:
        settings, warnings = load_settings()
        url = settings.require_database_url()
    except ConfigurationError as error:
        yield Finding(check="configuration", ok=False, detail=error.message)
        return
    yield Finding(check="configuration", ok=True, detail="; ".join(warnings) or "every setting is understood")
    finding, agents = _prompts(settings)
    yield finding
    choices: dict[str, Choice] = {}
    try:
        async with db.connected(url) as connection:
            yield Finding(check="database", ok=True, detail=await _server(connection))
            finding = _schema(await schema_version.state(connection))
            yield finding
            if finding.ok:
                rows = await (await connection.execute(LIST.encode())).fetchall()
                choices = {row["agent"]: choice_of(row) for row in rows}
        yield await _listen(settings)
    except CommandError as error:
        yield Finding(check="database", ok=False, detail=error.message)
    async for finding in _models(settings, url, agents, choices):
        yield finding
    yield await asyncio.to_thread(_langfuse)


def _prompts(settings: Settings) -> tuple[Finding, list[str]]:
    try:
        prompts = load_prompts(settings.prompts_dir or packaged_directory())
    except ConfigurationError as error:
        return Finding(check="prompts", ok=False, detail=error.message), []
    detail = ", ".join(f"{agent} {prompt.version}" for agent, prompt in sorted(prompts.items()))
    return Finding(check="prompts", ok=bool(prompts), detail=detail or "there is none"), sorted(prompts)


async def _server(connection: db.Connection) -> str:
    row = await (await connection.execute("SELECT current_setting('server_version') AS version")).fetchone()
    return f"PostgreSQL {row['version']}" if row else "PostgreSQL"


def _schema(state: SchemaState) -> Finding:
    hints = {SchemaState.BEHIND: "; run `draftd migrate`", SchemaState.AHEAD: "; this draftd is the older one"}
    return Finding(check="schema", ok=state is not SchemaState.BEHIND, detail=f"{state}{hints.get(state, '')}")


async def _listen(settings: Settings) -> Finding:
    if settings.listen == "off":
        return Finding(check="listen", ok=True, detail="off: polling every second")
    heard = await proves_session(settings.listen_url)
    detail = (
        "a notification arrives"
        if heard
        else "no notification arrives (a transaction-mode pooler?): polling every second"
    )
    return Finding(check="listen", ok=True, detail=detail)


async def _models(
    settings: Settings, url: str, agents: list[str], choices: dict[str, Choice]
) -> AsyncIterator[Finding]:
    link = db.Link(url=url, name="draftd doctor")
    models = Models(link=link, agents=agents, default=default_choice(settings), variable=environment_value)
    models.choose(choices)
    llm = await asyncio.to_thread(Llm.load)
    seen: set[tuple[str, str | None]] = set()
    for agent in agents:
        try:
            targets = models.configured(agent)
        except ModelError as error:
            yield Finding(check="model", ok=False, detail=f"{agent}: {error.message}")
            continue
        if not targets:
            yield Finding(
                check="model", ok=False, detail=f"{agent}: set DRAFTD_MODEL, or use `draftd models set {agent} MODEL`"
            )
        for target in targets:
            if (target.model, target.api_base) not in seen:
                seen.add((target.model, target.api_base))
                yield await _model(llm, target)
    await llm.aclose()


async def _model(llm: Llm, target: Target) -> Finding:
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{RED_PNG}"}}
    question = 'What colour is the picture? Answer with JSON: {"colour": "…"}'
    messages = [{"role": "user", "content": [picture, {"type": "text", "text": question}]}]
    try:
        completion = await llm.complete(target, messages, schema=_SCHEMA, time_s=MODEL_TIME_S)
    except ModelError as error:
        return Finding(check="model", ok=False, detail=f"{target.model}: {error.code}: {error.message}")
    detail = f"{target.model} answers in {completion.elapsed_s:.1f} s ({completion.mode})"
    return Finding(check="model", ok=True, detail=detail)


def _langfuse() -> Finding:
    public, secret = environment_value("LANGFUSE_PUBLIC_KEY"), environment_value("LANGFUSE_SECRET_KEY")
    if not public or not secret:
        return Finding(check="langfuse", ok=True, detail="off: no keys")
    host = environment_value("LANGFUSE_BASE_URL") or environment_value("LANGFUSE_HOST") or LANGFUSE_CLOUD
    credentials = base64.b64encode(f"{public}:{secret}".encode()).decode()
    limits = {"connect": LANGFUSE_TIME_S, "read": LANGFUSE_TIME_S, "write": LANGFUSE_TIME_S, "pool": LANGFUSE_TIME_S}
    try:
        response = httpcore.request(
            "GET",
            f"{host.rstrip('/')}/api/public/projects",
            headers={"Authorization": f"Basic {credentials}"},
            extensions={"timeout": limits},
        )
    except (
        httpcore.NetworkError,
        httpcore.TimeoutException,
        httpcore.ProtocolError,
        httpcore.UnsupportedProtocol,
    ) as error:
        return Finding(
            check="langfuse", ok=False, detail=f"cannot be reached: {redact(str(error) or type(error).__name__)}"
        )
    ok = response.status == 200  # noqa: PLR2004  # HTTP's own word for yes
    return Finding(check="langfuse", ok=ok, detail="the keys are accepted" if ok else f"answered {response.status}")
