"""draftd, with everything but the drafting: the daemon that ``draftd run`` serves, around a drafter that is finished at once.

Claims, worker, settler, heartbeat, reaper, listener and logging are the real ones with their default settings. Only the attempt
itself, which is ``Drafter.draft``, is missing: reading the row and its pictures, the model, and what is written on the way.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import Any
from unittest.mock import patch
from uuid import UUID

import psycopg
from pydantic import SecretStr

from benchmarks.queue.contender import Client, Job
from benchmarks.queue.payload import RESULT
from draftd.daemon import composition
from draftd.db import schema_version
from draftd.logs import configure_logging
from draftd.providers.llm import Llm
from draftd.queue.outcome import Done, Draft
from draftd.queue.settlements import Trail
from draftd.reply.drafter import AttemptResult
from draftd.reply.result import Result
from draftd.request import Claim
from draftd.settings import Settings

INSERT = "INSERT INTO draft_requests (id, image_urls) SELECT id, ARRAY[%s] FROM unnest(%s::uuid[]) AS id"
IMAGE_URL = "https://images.example/shot.png"
MODEL = "benchmark"


class InstantDrafter:
    """A drafter whose draft is finished when the benchmark's handler is.

    Args:
        job: what the handler does.
    """

    def __init__(self, *, job: Job) -> None:
        self._job = job
        self._result = Result.model_validate(RESULT)

    async def draft(self, claim: Claim) -> AttemptResult:
        """Return the benchmark's result."""
        await self._job.handle(claim.id)
        draft = Draft(result=self._result.as_json(), reading=[])
        return AttemptResult(Done(draft=draft, model=MODEL, prompt_version="1"), Trail())


class NoModels:
    """Stands for litellm where nobody asks a model."""

    def has_known_price(self, _: object) -> bool:
        """Say that the price of each model is known."""
        return True

    async def aclose(self) -> None:
        """Close nothing."""


class DraftClient:
    """Inserts into the table, as any client does.

    Args:
        connection: in autocommit.
    """

    def __init__(self, *, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection

    async def enqueue(self, keys: Sequence[UUID]) -> None:
        """Insert these requests in one commit."""
        await self._connection.execute(INSERT, [IMAGE_URL, list(keys)])


class DraftTable:
    """What draftd and the floor have in common: the table, its triggers and indexes, and its client."""

    packages: tuple[str, ...] = ("psycopg",)
    is_queue = True
    _migrating = asyncio.Lock()
    """Alembic keeps the migration that is under way in globals."""
    drain_concurrency = 200
    unfinished = """SELECT EXISTS (SELECT FROM draft_requests WHERE status = 'pending')
                        OR EXISTS (SELECT FROM draft_requests WHERE status = 'processing')"""
    stored = "SELECT count(*)::int FROM draft_requests WHERE status = 'completed' AND result IS NOT NULL"
    stored_twice = "SELECT count(*)::int FROM (SELECT FROM acceptances GROUP BY id HAVING count(*) > 1) AS twice"
    audit = """
        CREATE TABLE acceptances (id uuid NOT NULL);
        CREATE FUNCTION note_acceptance() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN INSERT INTO acceptances VALUES (NEW.id); RETURN NULL; END $$;
        CREATE TRIGGER note_acceptance AFTER UPDATE OF result ON draft_requests
            FOR EACH ROW WHEN (NEW.result IS NOT NULL) EXECUTE FUNCTION note_acceptance()"""

    async def set_up(self, url: str) -> None:
        """Migrate the empty database."""
        async with self._migrating:
            await asyncio.to_thread(schema_version.upgrade, url)

    @asynccontextmanager
    async def client(self, url: str) -> AsyncIterator[Client]:
        """Open the client's side."""
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            yield DraftClient(connection=connection)


class Draftd(DraftTable):
    """The daemon."""

    name = "draftd"
    terms = "default settings; logs at its default level (info)"

    def work(self, job: Job) -> None:
        """Run the daemon until SIGTERM."""
        configure_logging(level="info", style="auto")
        settings = Settings(database_url=SecretStr(job.url), model=MODEL)
        with ExitStack() as patches:
            patches.enter_context(patch.object(composition, "_drafter", lambda *_: InstantDrafter(job=job)))
            if not job.whole:
                patches.enter_context(patch.object(Llm, "load", NoModels))
            sys.exit(asyncio.run(composition.serve(settings, concurrency=job.concurrency, drain=False)))


CONTENDER = Draftd()
