"""The matrix of the providers: each is asked on its own wire, and what is seen stands in ``docs/providers.md``.

``test_provider_matrix`` fails when the page says something else; ``make docs`` writes it.
"""

import asyncio
import base64
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from draftd.demo.samples import LINKEDIN_POST
from draftd.errors import Kind, ModelError
from draftd.providers.known_providers import PROVIDERS, provider_of
from draftd.providers.llm import Completion, Llm
from draftd.providers.target import Target
from draftd.stand_in.behaviour import Behaviour
from draftd.stand_in.server import StandIn
from draftd.stand_in.wires.dialects import DIALECTS, LOGGING_IN, Dialect

PAGE = Path(__file__).parents[1] / "docs/providers.md"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"short": {"type": "string"}, "medium": {"type": "string"}, "detailed": {"type": "string"}},
    "required": ["short", "medium", "detailed"],
    "additionalProperties": False,
}
PICTURE = base64.b64encode(LINKEDIN_POST.path.read_bytes()).decode()
MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": f"You draft replies. Answer with JSON:\n{json.dumps(SCHEMA)}"},
    {
        "role": "user",
        "content": [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}},
            {"type": "text", "text": "What would you answer to this?"},
        ],
    },
]
CACHED_TOKENS, COST_USD = 1_000, 0.0123
TIME_S = 60.0
ALL = (*DIALECTS, *LOGGING_IN)
BEGIN, END = "<!-- matrix -->", "<!-- /matrix -->"
IN_THE_PROMPT = "in the prompt alone"
WORDS = {Kind.HOLD: "hold", Kind.RETRY: "retry", Kind.FINAL: "fail"}

FAILURES: dict[str, Behaviour] = {
    "401, wrong key": Behaviour(status=401),
    "404, unknown model": Behaviour(status=404),
    "429, rate limit": Behaviour(status=429),
    "429, the quota is used up": Behaviour(error="insufficient_quota"),
    "400, content refused": Behaviour(error="content_filter"),
    "the answer ends for the provider's filter": Behaviour(filtered=True),
    "400, prompt too long": Behaviour(error="context_length_exceeded"),
    "400 without a reason": Behaviour(status=400),
    "500": Behaviour(status=500),
    "503": Behaviour(status=503),
    "200 with a web page": Behaviour(html=True),
    "200 with an empty answer": Behaviour(empty=True),
    "connection reset before the answer": Behaviour(reset=True),
    "connection lost in the answer": Behaviour(disconnect=True),
    "an error in the middle of the stream": Behaviour(breaks=True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What was seen of one provider."""

    dialect: Dialect
    picture: str
    asked: str
    early: bool
    counts: bool
    cost: str
    cache: str
    failures: dict[str, str]
    """Of ``FAILURES``: code and kind."""


@asynccontextmanager
async def speaking(dialect: Dialect, *script: Behaviour) -> AsyncIterator[StandIn]:
    """Run a server that speaks a provider's wire, and is silent on every other path."""
    server = StandIn(dialect=dialect, keep_requests=True, silent_elsewhere=True)
    await server.start()
    server.script(script)
    try:
        async with logged_in() if dialect.logs_in else nullcontext():
            yield server
    finally:
        server.release()
        await server.stop()


@asynccontextmanager
async def logged_in() -> AsyncIterator[None]:
    """Set Google's variables to an account whose login is a server of our own."""
    with TemporaryDirectory() as folder:
        account = Path(folder) / "account.json"
        login = StandIn()
        await login.start()
        account.write_text(json.dumps(service_account(token_uri=f"{login.root_url}/token")))
        variables = {"VERTEXAI_PROJECT": "made-up", "VERTEXAI_LOCATION": "us-central1"}
        with patch.dict(os.environ, {"GOOGLE_APPLICATION_CREDENTIALS": str(account), **variables}):
            yield
        await login.stop()


def service_account(**over: str) -> dict[str, str]:
    """Return an account in Google's form, with a key that was made for it."""
    pem = rsa.generate_private_key(public_exponent=65_537, key_size=2_048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {"type": "service_account", "project_id": "made-up", "client_email": "made-up@example.com"}
    return {**account, "private_key": pem.decode(), **over}


def target(dialect: Dialect, server: StandIn, **over: Any) -> Target:
    """Return the provider's model at a server."""
    return Target(**{"name": "mine", "model": dialect.model, "api_base": server.url, "api_key": "made-up", **over})


async def ask(llm: Llm, to: Target, *, streamed: bool = True) -> tuple[Completion, list[str]]:
    """Ask as the daemon does; return also the texts that were seen on the way."""
    seen: list[str] = []

    async def on_text(text: str) -> None:
        seen.append(text)

    on = on_text if streamed else None
    return await llm.complete(to, MESSAGES, schema=SCHEMA, time_s=TIME_S, on_text=on), seen


async def look(llm: Llm, dialect: Dialect) -> Row:
    """Ask a provider for everything that its row says."""
    async with speaking(dialect, Behaviour(cached_tokens=CACHED_TOKENS)) as server:
        done, seen = await ask(llm, target(dialect, server))
        (call,) = server.log
    assert done.text.startswith('{"short": "Stand-in reply'), done.text
    assert call["first_role"] == "system"
    return Row(
        dialect=dialect,
        picture=call["pictures_as"] or "not sent",
        asked=call["schema_as"] or IN_THE_PROMPT,
        early=any('"short"' in text and '"detailed"' not in text for text in seen),
        counts=done.spent.input_tokens is not None and done.spent.output_tokens is not None,
        cost=await _cost(llm, dialect, done),
        cache="marked" if call["cached"] else "",
        failures={name: await fail(llm, dialect, behaviour) for name, behaviour in FAILURES.items()},
    )


async def _cost(llm: Llm, dialect: Dialect, done: Completion) -> str:
    if done.spent.cost_usd is not None:
        return "known"
    async with speaking(dialect, Behaviour(cost_usd=COST_USD)) as server:
        said, _ = await ask(llm, target(dialect, server))
    return "said by the provider" if said.spent.cost_usd is not None else "only with your prices"


async def fail(llm: Llm, dialect: Dialect, behaviour: Behaviour) -> str:
    """Return the code and the kind of a failure."""
    async with speaking(dialect, behaviour) as server:
        try:
            await ask(llm, target(dialect, server))
        except ModelError as error:
            return f"`{error.code}` ({WORDS[error.kind]})"
    return "an answer"


def rendered(rows: Sequence[Row]) -> str:
    """Return the generated part of the page."""
    return "\n\n".join(["## What works", _works(rows), "## What a failure becomes", _failures(rows)])


def _works(rows: Iterable[Row]) -> str:
    head = (
        "provider", "model, for example", "key", "extra", "picture sent as", "format asked as", "first option early",
        "tokens", "cost", "cache mark",
    )  # fmt: skip
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(line(row) for row in rows)])


def line(row: Row) -> str:
    """Return a provider's line of the first table."""
    keys = PROVIDERS[provider_of(row.dialect.model) or ""].keys
    cells = [
        row.dialect.title,
        f"`{row.dialect.model}`",
        f"`{keys[0]}`" if keys else "its own login",
        f"`{row.dialect.extra}`" if row.dialect.extra else "",
        f"`{row.picture}`",
        f"`{row.asked}`" if row.asked != IN_THE_PROMPT else row.asked,
        "yes" if row.early else "**no**",
        "yes" if row.counts else "**no**",
        row.cost,
        row.cache,
    ]
    return f"| {' | '.join(cells)} |"


def _failures(rows: Sequence[Row]) -> str:
    lines = ["| the provider answers | becomes | except |", "|---|---|---|"]
    for failure in FAILURES:
        found = {row.dialect.title: row.failures[failure] for row in rows}
        ((usual, _),) = Counter(found.values()).most_common(1)
        others = "; ".join(f"{title}: {what}" for title, what in found.items() if what != usual)
        lines.append(f"| {failure} | {usual} | {others} |")
    return "\n".join(lines)


def failures_on(page: str, title: str) -> dict[str, str]:
    """Return what a page says of a provider's failures."""
    found = {}
    for cells in ([cell.strip() for cell in one.split("|")] for one in page.splitlines() if one.startswith("|")):
        if cells[1] in FAILURES:
            others = dict(other.split(": ", 1) for other in cells[3].split("; ") if other)
            found[cells[1]] = others.get(title, cells[2])
    return found


async def measured(llm: Llm) -> str:
    """Ask every provider; return the generated part of the page."""
    return rendered([await look(llm, dialect) for dialect in ALL])


def written(page: str) -> str:
    """Return the generated part of a page."""
    return page.partition(f"{BEGIN}\n")[2].partition(f"\n{END}")[0]


def main() -> None:
    """Write the page."""

    async def measure() -> str:
        llm = await asyncio.to_thread(Llm.load)
        found = await measured(llm)
        await llm.aclose()
        return found

    head, _, rest = PAGE.read_text().partition(BEGIN)
    tail = rest.partition(END)[2]
    PAGE.write_text(f"{head}{BEGIN}\n{asyncio.run(measure())}\n{END}{tail}")


if __name__ == "__main__":
    main()
