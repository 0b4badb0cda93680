"""The demo: from nothing to printed drafts and a page of them, with the real PostgreSQL, daemon and queue, and a model server.

Owns the processes it starts and leaves none behind, even on Ctrl-C and SIGTERM. Without a provider's key a stand-in answers, and
the demo says so. Invariant: a developer's own settings of draftd never reach the demo's daemon; a provider's key does, even from
``.env``.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from draftd import db
from draftd.cli.console import check_output, colour_wanted, say
from draftd.cli.enqueue import DraftPrinter, image_url
from draftd.db import schema_version
from draftd.demo import daemon, page
from draftd.demo.embedded import EmbeddedPostgres
from draftd.demo.samples import SAMPLES, Sample
from draftd.errors import CommandError, ConfigurationError, ModelMisconfigured
from draftd.logs import configure_logging
from draftd.queue import admin
from draftd.settings import DIRECTLY, export_foreign_variables
from draftd.signals import interrupt_on_sigterm
from draftd.stand_in.threaded import run_in_thread

REAL_MODELS = {
    "ANTHROPIC_API_KEY": "anthropic/claude-sonnet-4-5",
    "OPENAI_API_KEY": "openai/gpt-5-mini",
    "GEMINI_API_KEY": "gemini/gemini-2.5-flash",
    "MISTRAL_API_KEY": "mistral/mistral-medium-latest",
}
"""The first key that is set selects the model, unless one is named."""
LOOK_INTERVAL_S = 0.1
TIME_S = 180.0
STAND_IN_LATENCY_S = 0.3
STAND_IN_TOKENS_PER_S = 250.0
"""As fast as a model, so that the drafts are seen to grow."""

STAND_IN_NOTICE = """\
No provider's key is set: a stand-in answers with scripted replies, no model sees the screenshots.
For real drafts: ANTHROPIC_API_KEY=… make demo, or MODEL=… with the key it needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    name: str
    variables: Mapping[str, str]


def run_demo(*, model: str | None, output: Path | None) -> int:
    """Run the demo; return its exit code, 0 if every sample was drafted.

    Args:
        model: what to draft with; None for the one whose key is set, or the stand-in.
        output: where the page is written; None for a temporary file that stays.

    Raises:
        UsageError: the output cannot be a file.
    """
    if output is not None:
        check_output(output)
    configure_logging(level="warning", style="auto", colours=colour_wanted(sys.stderr))
    interrupt_on_sigterm()
    export_foreign_variables()
    began = time.monotonic()
    with _model(model) as chosen, EmbeddedPostgres() as postgres, tempfile.TemporaryDirectory() as directory:
        say(f"[{_since(began)}] started PostgreSQL (embedded, temporary)")
        schema_version.upgrade(postgres.url)
        say(f"[{_since(began)}] created the schema; starting `draftd run` with {chosen.name}")
        log = Path(directory, "draftd.log")
        with daemon.running(_environment(os.environ, chosen, postgres.url), log) as process:
            drafted = asyncio.run(_draft_samples(postgres.url, process, began))
            if process.poll() is not None:
                raise CommandError(f"the daemon exited with {process.returncode}:\n{log.read_text()}")
    completed = sum(one.row["status"] == "completed" for one in drafted)
    say("")
    say(f"[{_since(began)}] {3 * completed} drafts; everything the demo started has been stopped")
    if chosen.variables:
        say("These drafts came from the stand-in, not from a model.")
    say("The screenshots beside their drafts, to open in a browser:")
    print(_write(page.render(drafted, is_stand_in=bool(chosen.variables)), output))
    return 0 if completed == len(SAMPLES) else 1


def _write(text: str, output: Path | None) -> Path:
    """Write the page, and return where it is.

    Raises:
        CommandError: it cannot be written.
    """
    try:
        if output is None:
            number, name = tempfile.mkstemp(prefix="draftd-demo-", suffix=".html")
            os.close(number)
            output = Path(name)
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"cannot write the page {output or ''}: {error.strerror}") from error
    return output.absolute()


def _since(began: float) -> str:
    return f"{time.monotonic() - began:4.1f} s"


@contextmanager
def _model(named: str | None) -> Iterator[_Model]:
    """Yield the model to use: the named one, the one whose key is set, or the stand-in."""
    by_key = next((model for key, model in REAL_MODELS.items() if os.environ.get(key)), None)
    if real := named or by_key:
        yield _Model(name=real, variables={})
        return
    say(STAND_IN_NOTICE)
    with run_in_thread(latency_s=STAND_IN_LATENCY_S, tokens_per_s=STAND_IN_TOKENS_PER_S) as server:
        yield _Model(name="openai/stand-in", variables={"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "stand-in"})


def _environment(inherited: Mapping[str, str], model: _Model, database_url: str) -> dict[str, str]:
    own = {**model.variables, "DRAFTD_DATABASE_URL": database_url, "DRAFTD_MODEL": model.name}
    return daemon.environment(inherited, (DIRECTLY if model.variables else {}) | own)


async def _draft_samples(url: str, process: "subprocess.Popen[bytes]", began: float) -> list[page.Drafted]:
    """Insert the samples, print their drafts, and return those that were finished before the daemon ended.

    Raises:
        ConfigurationError: the model is misconfigured.
        CommandError: the time is up.
    """
    async with db.connected(url) as connection:
        samples = {await _insert(connection, sample): sample for sample in SAMPLES}
        printers = {which: DraftPrinter(label=sample.title) for which, sample in samples.items()}
        say(f"[{_since(began)}] queued {len(printers)} screenshots; drafts appear as they are written")
        final: dict[UUID, Mapping[str, Any]] = {}
        while len(final) < len(printers) and process.poll() is None:
            if time.monotonic() - began > TIME_S:
                raise CommandError(f"no answer within {TIME_S:.0f} s")
            for which in printers.keys() - final.keys():
                row = await admin.show(connection, which)
                assert row is not None  # noqa: S101  # nothing deletes rows here
                if row["error_code"] == ModelMisconfigured.code:
                    # The daemon would retry until an operator fixes it; the demo has none.
                    raise ConfigurationError(row["errors"][-1]["message"])
                printers[which].update(row)
                if admin.is_final(row["status"]):
                    final[which] = row
            await asyncio.sleep(LOOK_INTERVAL_S)
    return [page.Drafted(sample=sample, row=final[which]) for which, sample in samples.items() if which in final]


async def _insert(connection: db.Connection, sample: Sample) -> UUID:
    request: dict[str, Any] = {
        "image_urls": [image_url(str(sample.path))],
        "context": sample.context,
        "requester_id": "demo",
    }
    made = await admin.enqueue(connection, request)
    return UUID(made["id"])
