"""Profiles: what the database refuses, and whose profile a request is read with."""

from typing import Any

import psycopg
import pytest

from draftd import db
from draftd.queue.attempts import read_request
from draftd.request import Profile, SentText
from fix_database import claim_one, make_request


async def unchecked(connection: db.Connection, **profile: Any) -> None:
    """Write a profile that the check does not know: from before it, or by the owner."""
    await connection.execute("ALTER TABLE draft_profiles DISABLE TRIGGER draft_profiles_10_check")
    await keep(connection, **profile)
    await connection.execute("ALTER TABLE draft_profiles ENABLE TRIGGER draft_profiles_10_check")


async def keep(connection: db.Connection, **profile: Any) -> db.Row:
    """Write a profile and return it."""
    given = {"requester_id": "ada"} | profile
    names, places = ", ".join(given), ", ".join(f"%({name})s" for name in given)
    changes = ", ".join(f"{name} = excluded.{name}" for name in given)
    statement = f"""
        INSERT INTO draft_profiles ({names}) VALUES ({places})
        ON CONFLICT (requester_id) DO UPDATE SET {changes} RETURNING *"""
    (row,) = await (await connection.execute(statement.encode(), given)).fetchall()
    return row


MOST: dict[str, Any] = {
    "requester_id": "a" * 256,
    "me": "m" * 200,
    "about": "a" * 2_000,
    "facts": ["f" * 500] * 200,
    "signature": "s" * 500,
    "voice_samples": ["v" * 2_000] * 10,
    "reader_language": "zh-Hant-TW",
}


async def test_a_profile_may_hold_the_most_of_everything(connection: db.Connection) -> None:
    assert await keep(connection, **MOST) == MOST


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"requester_id": ""}, "requester_id has 1 to 256 characters: without one, a profile would be everybody's"),
        ({"requester_id": "a" * 257}, "requester_id has 1 to 256 characters"),
        ({"me": "m" * 201}, "me has at most 200 characters"),
        ({"about": "a" * 2_001}, "about has at most 2,000 characters"),
        ({"signature": "s" * 501}, "signature has at most 500 characters"),
        ({"facts": ["f"] * 201}, "facts takes up to 200 entries, not 201"),
        ({"facts": ["f", "f" * 501]}, "each entry of facts has at most 500 characters"),
        ({"facts": ["f", "  "]}, "facts has an entry without text"),
        ({"facts": ["f", None]}, "facts has an entry without text"),
        ({"facts": [["f"], ["g"]]}, "facts takes a flat list"),
        ({"voice_samples": ["v"] * 11}, "voice_samples takes up to 10 entries, not 11"),
        ({"voice_samples": ["v" * 2_001]}, "each entry of voice_samples has at most 2,000 characters"),
        ({"reader_language": "German, please"}, "reader_language is a language tag"),
        ({"reader_language": "de_CH"}, "reader_language is a language tag"),
    ],
)
async def test_what_is_too_much_is_refused_by_name(
    connection: db.Connection, over: dict[str, Any], message: str
) -> None:
    await keep(connection)
    for requester in ("ada", "eve"):
        with pytest.raises(psycopg.errors.CheckViolation, match=f"^draft_profiles: {message}"):
            await keep(connection, **{"requester_id": requester} | over)


async def test_spaces_alone_are_nothing(connection: db.Connection) -> None:
    row = await keep(connection, me=" \n", about=" Tall. ", signature="", reader_language=" ")
    assert (row["me"], row["about"], row["signature"], row["reader_language"]) == (None, "Tall.", None, None)


async def test_a_profile_from_before_the_check_can_be_changed_elsewhere(connection: db.Connection) -> None:
    await unchecked(connection, facts=["f" * 501])
    assert (await keep(connection, me="Ada"))["me"] == "Ada"


# What a request is read with


async def test_a_request_comes_with_the_profile_of_its_requester_alone(
    connection: db.Connection, link: db.Link
) -> None:
    await keep(connection, me="Ada", about="An engineer.", facts=["I live in Bonn."], signature="Ada L.")
    await keep(connection, requester_id="eve", me="Eve", facts=["I live in Rome."], voice_samples=["CIAO"])
    await make_request(connection, requester_id="ada", image_urls=["https://a.example/1", "https://a.example/2"])
    request = await read_request(link, await claim_one(link))
    assert request.profile == Profile(me="Ada", about="An engineer.", facts=("I live in Bonn.",), signature="Ada L.")
    assert len(request.image_urls) == 2


@pytest.mark.parametrize("requester", ["", "bob"])
async def test_a_request_without_a_profile_has_an_empty_one(
    connection: db.Connection, link: db.Link, requester: str
) -> None:
    await unchecked(connection, requester_id="", me="Somebody", facts=["I live in Rome."])
    await make_request(connection, requester_id=requester)
    assert (await read_request(link, await claim_one(link))).profile == Profile()


async def test_a_profile_that_no_check_has_seen_fails_no_request(connection: db.Connection, link: db.Link) -> None:
    facts = ["f" * 501, None, " ", *(f"fact {number}" for number in range(300))]
    await unchecked(connection, me="m" * 300, facts=facts, voice_samples=["v"] * 99, reader_language="German, please")
    await make_request(connection, requester_id="ada")
    profile = (await read_request(link, await claim_one(link))).profile
    assert (len(profile.me or ""), len(profile.facts[0]), len(profile.facts)) == (200, 500, 198)
    assert (profile.voice_samples, profile.reader_language) == (("v",), None)


# What is learnt from what was sent


async def learn(connection: db.Connection, *, on: bool = True) -> None:
    await connection.execute("UPDATE draft_settings SET voice_learning = %s", [on])


async def send(connection: db.Connection, text: str, **over: Any) -> None:
    """Keep what a requester sent, past the trigger that fills in the rest; a later one is newer."""
    row: dict[str, Any] = {
        "requester_id": "ada", "sent_text": text, "similarity": 0.3, "platform": "whatsapp", "author": "Mia",
    } | over  # fmt: skip
    await connection.execute("SET session_replication_role = replica")
    await connection.execute(
        f"INSERT INTO draft_feedback ({', '.join(row)}, created_at) "
        f"VALUES ({', '.join(f'%({name})s' for name in row)}, clock_timestamp())",
        row,
    )
    await connection.execute("SET session_replication_role = origin")


async def learnt(connection: db.Connection, link: db.Link, **over: Any) -> list[str]:
    await make_request(connection, **{"requester_id": "ada"} | over)
    return [one.text for one in (await read_request(link, await claim_one(link))).sent]


async def test_what_was_sent_is_learnt_from_newest_first(connection: db.Connection, link: db.Link) -> None:
    await learn(connection)
    for text in ("one", "two", "three"):
        await send(connection, text)
    await make_request(connection, requester_id="ada")
    request = await read_request(link, await claim_one(link))
    assert request.sent == tuple(
        SentText(text=text, platform="whatsapp", author="Mia") for text in ("three", "two", "one")
    )


async def test_nothing_is_learnt_unless_it_is_switched_on(connection: db.Connection, link: db.Link) -> None:
    await send(connection, "mine")
    assert await learnt(connection, link) == []
    await learn(connection)
    assert await learnt(connection, link) == ["mine"]
    await learn(connection, on=False)
    assert await learnt(connection, link) == []


async def test_a_text_of_another_requester_is_never_learnt(connection: db.Connection, link: db.Link) -> None:
    await learn(connection)
    for requester in ("eve", "", "Ada", "ada "):
        await send(connection, f"canary of {requester!r}", requester_id=requester)
    assert await learnt(connection, link) == []
    assert await learnt(connection, link, requester_id="") == []
    assert await learnt(connection, link, requester_id="eve") == ["canary of 'eve'"]


@pytest.mark.parametrize(
    "over",
    [
        {"similarity": 1.0},
        {"similarity": 0.81},
        {"similarity": None},
        {"sent_text": " \n"},
        {"sent_text": "x" * 2_001},
    ],
)
async def test_what_is_not_the_requesters_own_work_is_not_learnt(
    connection: db.Connection, link: db.Link, over: dict[str, Any]
) -> None:
    await learn(connection)
    await send(connection, "drafted", **over)
    await send(connection, "my own", similarity=0.8)
    assert await learnt(connection, link) == ["my own"]


@pytest.mark.parametrize("given", ["request", "profile"])
async def test_nothing_is_learnt_where_samples_are_given(connection: db.Connection, link: db.Link, given: str) -> None:
    await learn(connection)
    await send(connection, "mine")
    if given == "profile":
        await keep(connection, voice_samples=["ja passt"])
    samples = {"voice_samples": ["ja passt"]} if given == "request" else {"voice_samples": None}
    assert await learnt(connection, link, options=samples) == []


async def test_options_without_a_sample_are_as_if_none_were_given(connection: db.Connection, link: db.Link) -> None:
    await learn(connection)
    await send(connection, "mine")
    assert await learnt(connection, link, options={"voice_samples": []}) == ["mine"]
    assert await learnt(connection, link, options={"voice_samples": None}) == ["mine"]


async def test_a_request_reads_neither_all_feedback_nor_all_profiles(connection: db.Connection, database: str) -> None:
    """Planned while the tables are empty, as a daemon does that was started first."""
    link = db.Link(url=database, name="planned early")
    await learn(connection)
    for _ in range(7):
        await make_request(connection, requester_id="ada")
        await read_request(link, await claim_one(link))
    async with connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(
            "INSERT INTO draft_feedback (requester_id, sent_text, similarity, created_at) "
            "SELECT 'crowd ' || n % 100, 'text ' || n, 0.1, now() FROM generate_series(1, 20000) AS n"
        )
        await connection.execute("INSERT INTO draft_profiles SELECT 'crowd ' || n FROM generate_series(1, 5000) AS n")
    before = await rows_read(connection)
    await make_request(connection, requester_id="crowd 7")
    assert len((await read_request(link, await claim_one(link))).sent) == 100
    await link.run("SELECT pg_stat_force_next_flush()")
    await link.close()
    assert await rows_read(connection) - before < 1_000


async def rows_read(connection: db.Connection) -> int:
    """Return how many rows of the two tables were read."""
    await connection.execute("SELECT pg_stat_force_next_flush()")
    row = await (
        await connection.execute(
            "SELECT sum(seq_tup_read + idx_tup_fetch) AS reads FROM pg_stat_user_tables "
            "WHERE relname IN ('draft_feedback', 'draft_profiles')"
        )
    ).fetchone()
    assert row is not None
    return int(row["reads"])
