"""Holds as one process knows them, with a database that answers what the test says."""

import time
from collections.abc import Callable, Sequence
from typing import Any, cast

from draftd import db
from draftd.providers.catalog import AgentModels
from draftd.providers.holds import TAKE_PROBE, Holds
from draftd.providers.models import Models
from draftd.providers.permits import Permits
from draftd.providers.throttles import Throttles

FIRST, SECOND = "openai/first", "anthropic/second"


class Database:
    """A link on which every probe is lost to another process, after something else has happened."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        self._meanwhile = meanwhile
        self.probed: list[str] = []

    async def run(self, statement: str, params: dict[str, Any]) -> Sequence[Any]:
        assert statement == TAKE_PROBE
        self.probed.append(params["model"])
        self._meanwhile()
        return []


async def test_a_hold_that_ends_while_another_model_is_probed_leaves_nothing_to_probe() -> None:
    def end_all_holds() -> None:
        holds.update([], as_of=time.monotonic())

    link = Database(end_all_holds)
    throttles = Throttles(link=cast("db.Link", link))
    holds = Holds(link=cast("db.Link", link), throttles=throttles, probe_s=15)
    models = Models(
        holds=holds,
        throttles=throttles,
        agents=["helper"],
        default=AgentModels(models=(FIRST, SECOND)),
        permits=Permits(),
        getenv=lambda _name: None,
    )
    rows = [{"model": model, "code": "model_unavailable", "until_s": 0} for model in (FIRST, SECOND)]
    holds.update(rows, as_of=time.monotonic())
    assert await models.take_probe(cast("db.Link", link)) is None
    assert link.probed == [FIRST]
