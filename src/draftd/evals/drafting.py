"""Drafts cases as a client's requests are drafted: inserted into a real database, claimed and answered by a real daemon.

So an evaluation sees what clients would: the gate and the decoder of pictures, repairs, retries, holds and the daemon's patience
with a provider's rate limits.
"""

import asyncio
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from draftd import db
from draftd.errors import CommandError, ConfigurationError, ModelMisconfigured
from draftd.evals.cases import Case
from draftd.evals.results import Drafted, drafted_of
from draftd.evals.stand_in import traceparent
from draftd.queue import admin

LOOK_INTERVAL_S = 0.2
_CALLS = "SELECT count(*) AS calls FROM draft_usage WHERE request_id = %s"
_LOG_CHARS = 2_000


class Drafting:
    """Drafts through a running daemon.

    Args:
        connection: to its database.
        process: the daemon.
        log: what it logs to.
        say: takes why a model makes everything wait, once for each reason.
    """

    def __init__(
        self, *, connection: db.Connection, process: "subprocess.Popen[bytes]", log: Path, say: Callable[[str], None]
    ) -> None:
        self._connection = connection
        self._process = process
        self._log = log
        self._say = say
        self._said: set[str] = set()

    async def draft(self, case: Case, *, agent: str, without: tuple[str, ...] = ()) -> Drafted:
        """Draft a case and wait for the end.

        Args:
            case: the case.
            agent: which prompt answers.
            without: options that its request and its profile go without, or ``profile``.

        Raises:
            ConfigurationError: the model is misconfigured.
            CommandError: the daemon has died.
        """
        case = case.without(without)
        request = {
            "requester_id": await self._requester(case, without),
            "image_urls": await asyncio.to_thread(case.image_urls),
            "context": case.context,
            "options": case.options,
            "agent": agent,
            "traceparent": traceparent(case),
            "metadata": {"n": case.n},
        }
        began = time.monotonic()
        made = UUID((await admin.enqueue(self._connection, request))["id"])
        while True:
            row = await admin.show(self._connection, made)
            assert row is not None  # noqa: S101  # nothing deletes rows here
            if admin.is_final(row["status"]):
                return drafted_of(row, model_calls=await self._calls(made), elapsed_s=time.monotonic() - began)
            self._check_wait(row)
            if self._process.poll() is not None:
                raise CommandError(f"the daemon exited with {self._process.returncode}:\n{self._last_log()}")
            await asyncio.sleep(LOOK_INTERVAL_S)

    async def _requester(self, case: Case, without: tuple[str, ...]) -> str:
        """Write the case's profile; return its requester, who is nobody without one."""
        if not case.profile:
            return ""
        profile = {"requester_id": " ".join((case.n, *without))} | case.profile
        names, values = ", ".join(profile), ", ".join(f"%({name})s" for name in profile)
        statement = f"INSERT INTO draft_profiles ({names}) VALUES ({values}) ON CONFLICT DO NOTHING"
        await self._connection.execute(statement.encode(), profile)
        return str(profile["requester_id"])

    def _check_wait(self, row: Mapping[str, Any]) -> None:
        """Say why a request waits.

        Raises:
            ConfigurationError: it waits for an operator to configure the model, and there is none.
        """
        code = row["error_code"]
        if code is None or not row["errors"]:
            return
        why = row["errors"][-1]["message"]
        if code == ModelMisconfigured.code:
            raise ConfigurationError(why)
        if code not in self._said:
            self._said.add(code)
            self._say(f"trying again: {code}: {why}")

    async def _calls(self, request_id: UUID) -> int:
        row = await (await self._connection.execute(_CALLS.encode(), [request_id])).fetchone()
        return 0 if row is None else int(row["calls"])

    def _last_log(self) -> str:
        return self._log.read_text(errors="replace")[-_LOG_CHARS:]
