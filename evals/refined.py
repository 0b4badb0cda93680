"""Draft cases and refine the drafts, through a real daemon: what do refinements change, and what do they keep?

python -m evals.refined run OUT [--model openai/played] [--only 003]   OUT/results.json, and OUT/sheets for a judge
python -m evals.refined score OUT VERDICTS.json                        counts a judge's verdicts

``refinements.toml`` says what is asked. A sheet holds what was read, what was asked, the drafts before and after, and neither
names nor figures; a verdict is ``{"sheet": "01", "asked": true, "kept": true, "ready": 0-3, "why": ""}``.
"""

import argparse
import asyncio
import json
import os
import random
import tomllib
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from draftd import db
from draftd.db import schema_version
from draftd.demo import daemon
from draftd.demo.embedded import EmbeddedPostgres
from draftd.evals.cases import Case, load
from draftd.queue import admin
from evals.cases import FOLDER

FILE = Path(__file__).parent / "refinements.toml"
LOOK_S = 0.3
PATIENCE_S = "7200"
"""For a model that a person plays."""
_USAGE = """SELECT count(*) AS calls, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens
              FROM draft_usage WHERE request_id = %s"""
_DRAFT = ("length", "stance", "angle", "text", "unsupported")

Entry = dict[str, Any]


def refinements() -> list[Entry]:
    """Return what is asked of the drafts, each after what it refines."""
    entries: list[Entry] = tomllib.loads(FILE.read_text())["refinement"]
    return entries


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Draft cases and refine the drafts.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("out", type=Path)
    run.add_argument("--model", default="openai/played")
    run.add_argument("--only", default="", help="begin of the numbers of the cases")
    score = commands.add_parser("score")
    score.add_argument("out", type=Path)
    score.add_argument("verdicts", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "score":
        print(json.dumps(scored(json.loads(arguments.verdicts.read_text()))))
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = asyncio.run(_run(arguments.out, arguments.model, arguments.only))
    print(
        json.dumps(Counter(one["status"] for one in results)), f"repaired: {sum(one['calls'] > 1 for one in results)}"
    )


async def _run(out: Path, model: str, only: str) -> list[Entry]:
    wanted = defaultdict[str, list[Entry]](list)
    for entry in refinements():
        wanted[entry["of"]].append(entry)
    chosen = [case for case in load(FOLDER) if case.n in wanted and case.n.startswith(only)]
    with EmbeddedPostgres() as postgres:
        schema_version.upgrade(postgres.url)
        own = {"DRAFTD_DATABASE_URL": postgres.url, "DRAFTD_MODEL": model, "DRAFTD_MODEL_TIMEOUT_S": PATIENCE_S,
               "DRAFTD_ATTEMPT_TIMEOUT_S": PATIENCE_S, "DRAFTD_SHUTDOWN_GRACE_S": "0"}  # fmt: skip
        variables = daemon.environment(os.environ, own)
        with daemon.running(variables, (out / "draftd.log").resolve(), "--concurrency", "64"):
            async with db.connected(postgres.url) as connection, asyncio.TaskGroup() as group:
                played = Play(connection=connection, wanted=wanted, out=out)
                for case in chosen:
                    group.create_task(played.first(case))
    write_sheets(played.results, out)
    return played.results


class Play:
    """Drafts cases and refines each draft as soon as it is there.

    Args:
        connection: to the daemon's database.
        wanted: the refinements by what they refine.
        out: the folder of ``results.json``.
    """

    def __init__(self, *, connection: db.Connection, wanted: Mapping[str, list[Entry]], out: Path) -> None:
        self.results: list[Entry] = []
        self._connection = connection
        self._wanted = wanted
        self._out = out

    async def first(self, case: Case) -> None:
        """Draft a case and all that refines it."""
        asked = {"context": case.context, "options": case.options, "image_urls": case.image_urls()}
        await self._draft({"name": case.n, "good": case.good}, asked, parent_id=None)

    async def _draft(self, entry: Entry, asked: Entry, *, parent_id: str | None) -> None:
        made = await admin.enqueue(self._connection, {**asked, "parent_id": parent_id})
        row = await self._final(made["id"])
        cursor = await self._connection.execute(_USAGE, [made["id"]])
        usage = await cursor.fetchone() or {}
        read = await self._connection.execute("SELECT reading FROM draft_requests WHERE id = %s", [made["id"]])
        reading = (await read.fetchone() or {}).get("reading")
        known = {key: row[key] for key in ("status", "error_code", "context", "options", "result")}
        self.results.append({**entry, **known, **usage, "reading": reading})
        text = json.dumps(self.results, ensure_ascii=False, indent=1, default=str)
        (self._out / "results.json").write_text(text)
        if row["status"] == "completed":
            async with asyncio.TaskGroup() as group:
                for each in self._wanted.get(entry["name"], ()):
                    next_asked = {"context": each.get("context"), "options": each.get("options", {}), "image_urls": []}
                    group.create_task(self._draft(each, next_asked, parent_id=made["id"]))

    async def _final(self, request_id: str) -> Entry:
        while True:
            row = await admin.show(self._connection, UUID(request_id))
            assert row is not None  # noqa: S101 - nothing deletes rows here
            if admin.is_final(row["status"]):
                return row
            await asyncio.sleep(LOOK_S)


def write_sheets(results: list[Entry], out: Path) -> None:
    """Write a numbered sheet for each refinement, in an order that says nothing, and beside them which is which."""
    by_name = {one["name"]: one for one in results}
    refined = [one for one in results if "of" in one and one["status"] == "completed"]
    random.shuffle(refined)
    folder, key = out / "sheets", dict[str, str]()
    folder.mkdir(exist_ok=True)
    for number, one in enumerate(refined, start=1):
        name = f"{number:02d}"
        key[name] = one["name"]
        (folder / f"{name}.json").write_text(json.dumps(sheet(one, by_name), ensure_ascii=False, indent=1))
    (out / "sheets-key.json").write_text(json.dumps(key, indent=1))


def sheet(one: Entry, by_name: Mapping[str, Entry]) -> Entry:
    """Return what a judge sees of a refinement."""
    chain, parent = list[Entry](), by_name[one["of"]]
    earlier = parent
    while True:
        chain.insert(0, {"context": earlier["context"], "options": earlier["options"]})
        if "of" not in earlier:
            break
        earlier = by_name[earlier["of"]]
    return {
        "reading": parent["reading"],
        "answering": parent["result"]["replying_to"],
        "asked_before": chain,
        "before": _drafts(parent),
        "asked": {"context": one["context"], "options": one["options"]},
        "good": one["good"],
        "after": _drafts(one),
    }


def _drafts(one: Entry) -> list[Entry]:
    return [{key: draft[key] for key in _DRAFT} for draft in one["result"]["options"]]


def scored(verdicts: list[Entry]) -> dict[str, int]:
    """Count a judge's verdicts."""
    return {
        "sheets": len(verdicts),
        "asked": sum(one["asked"] for one in verdicts),
        "kept": sum(one["kept"] for one in verdicts),
        "ready": sum(one["ready"] for one in verdicts),
        "of": 3 * len(verdicts),
    }


if __name__ == "__main__":
    main()
