"""Holds of models that no daemon uses any more."""

import psycopg
import pytest

from draftd import db
from draftd.daemon.hold_cleaner import HoldCleaner
from draftd.providers.holds import UNUSED_S


@pytest.fixture
async def held(link: db.Link) -> None:
    """Three models on hold, which nobody has marked for long."""
    await link.run(
        "INSERT INTO draft_holds (model, code, until, used_at) "
        "SELECT m, 'model_misconfigured', now(), now() - interval '1 day' FROM unnest(ARRAY['a', 'b', 'typo']) AS m"
    )


async def models_on_hold(link: db.Link) -> list[str]:
    return [row["model"] for row in await link.run("SELECT model FROM draft_holds ORDER BY model")]


@pytest.mark.usefixtures("held")
async def test_a_hold_that_no_daemon_uses_goes_away_by_itself(link: db.Link) -> None:
    mine, other = (HoldCleaner(link=link, names=names) for names in (lambda: {"a"}, lambda: {"b"}))
    for cleaner in (mine, other):
        await cleaner.clean(0.0)
    assert await models_on_hold(link) == ["a", "b", "typo"]
    await mine.clean(UNUSED_S)
    assert await models_on_hold(link) == ["a", "b"]


@pytest.mark.usefixtures("held")
async def test_nobody_judges_before_the_others_have_had_the_time_to_mark(link: db.Link) -> None:
    cleaner = HoldCleaner(link=link, names=set)
    await cleaner.clean(1_000.0)
    await cleaner.clean(1_000.0 + UNUSED_S - 1)
    assert await models_on_hold(link) == ["a", "b", "typo"]


@pytest.mark.usefixtures("held")
async def test_after_an_outage_the_others_get_that_time_again(connection: db.Connection, link: db.Link) -> None:
    cleaner = HoldCleaner(link=link, names=set)
    await cleaner.clean(0.0)
    await connection.execute("ALTER TABLE draft_holds RENAME TO away")
    with pytest.raises(psycopg.errors.UndefinedTable):
        await cleaner.clean(UNUSED_S - 1)
    await connection.execute("ALTER TABLE away RENAME TO draft_holds")
    await cleaner.clean(UNUSED_S)
    assert await models_on_hold(link) == ["a", "b", "typo"]


async def test_a_hold_that_was_just_placed_is_not_unused(link: db.Link) -> None:
    await link.run("INSERT INTO draft_holds (model, code) VALUES ('new', 'model_unavailable')")
    cleaner = HoldCleaner(link=link, names=set)
    await cleaner.clean(0.0)
    await cleaner.clean(UNUSED_S)
    assert await models_on_hold(link) == ["new"]


async def test_a_throttle_that_limits_nothing_any_more_goes_too(link: db.Link) -> None:
    await link.run(
        "INSERT INTO draft_throttles (model, changed_at) VALUES ('old', now() - make_interval(secs => %s)), ('new', now())",
        [3601],
    )
    cleaner = HoldCleaner(link=link, names=set)
    await cleaner.clean(0.0)
    await cleaner.clean(UNUSED_S)
    assert [row["model"] for row in await link.run("SELECT model FROM draft_throttles")] == ["new"]
