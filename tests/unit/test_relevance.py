"""Which of many facts a text touches; the figures that docs/drafts.md names."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from draftd.reply.relevance import chosen, touched
from draftd.reply.requester import MAX_TOLD_CHARS
from draftd.reply.review import MAX_FURTHER_CHARS
from tables import per_row

DATA: dict[str, Any] = json.loads((Path(__file__).parents[1] / "data" / "relevance.json").read_text("utf-8"))
FACTS: list[str] = DATA["facts"]
ORDERS = 3
"""A profile's facts stand in any order."""


def needed(conversation: dict[str, Any]) -> set[str]:
    return {fact for part in conversation["needs"] for fact in FACTS if part in fact}


def asked(conversation: dict[str, Any]) -> str:
    return "\n".join([conversation["gist"], *conversation["missing"]])


def percent(found: list[bool]) -> int:
    return round(100 * sum(found) / len(found))


def orders() -> list[list[str]]:
    return [random.Random(seed).sample(FACTS, len(FACTS)) for seed in range(ORDERS)]  # noqa: S311  # a fixed shuffle


def test_every_conversation_needs_facts_of_the_list() -> None:
    assert (len(FACTS), len(DATA["conversations"]), len(DATA["others"])) == (120, 40, 20)
    assert all(len(needed(one)) == len(one["needs"]) for one in DATA["conversations"])


@pytest.mark.long
def test_of_what_a_conversation_needs_most_is_told_once_the_conversation_is_known() -> None:
    """With a bound of three quarters of the list, and of three eighths."""
    shares = {}
    for max_chars in (MAX_TOLD_CHARS, MAX_TOLD_CHARS // 2):
        told = [
            needed(one) <= {*chosen(facts, text, max_chars=max_chars)}
            for facts in orders()
            for one in DATA["conversations"]
            for text in ("", one["message"])
        ]
        shares[max_chars] = percent(told[::2]), percent(told[1::2])
    assert shares == {4_000: (72, 91), 2_000: (38, 75)}


def test_a_repair_brings_most_of_what_was_not_told_and_is_seldom_needless() -> None:
    answered, needless = [], []
    for facts in orders():
        told = {*chosen(facts, "", max_chars=MAX_TOLD_CHARS)}
        left = [fact for fact in facts if fact not in told]
        answered += [
            needed(one) <= told | {*touched(left, asked(one), max_chars=MAX_FURTHER_CHARS)}
            for one in DATA["conversations"]
        ]
        needless += [bool(touched(left, asked(one), max_chars=MAX_FURTHER_CHARS)) for one in DATA["others"]]
    assert (percent(answered), percent(needless)) == (90, 18)


def test_a_list_that_fits_is_told_whole_and_in_order() -> None:
    assert chosen(["b", "a", "c"], "a", max_chars=3) == ["b", "a", "c"]


def test_what_is_touched_comes_before_what_stands_first() -> None:
    facts = ["I like tea.", "I play the viola.", "I live in Bonn."]
    assert chosen(facts, "do you still play the viola?", max_chars=28) == ["I like tea.", "I play the viola."]
    assert chosen(facts, "do you still play the viola?", max_chars=17) == ["I play the viola."]
    assert chosen(facts, "", max_chars=15) == ["I like tea."]


@per_row(
    ("fact", "text"),
    [
        ("I studied in Weimar.", "Where do you STUDY?"),
        ("J'habite à Évry.", "tu habites encore evry ?"),
        ("猫を飼っています。", "猫を飼っていますか"),
        ("Ich wohne in Köln.", "wohnst du in koln"),
    ],
)
def test_words_are_compared_by_their_beginning_in_any_script(fact: str, text: str) -> None:
    others = [f"Number {number} has nothing of it." for number in range(60)]
    assert touched([*others, fact], text, max_chars=100) == [fact]


def test_what_many_facts_have_touches_none() -> None:
    facts = [f"My cousin {name} lives far away." for name in ("Ada", "Bea", "Cleo", "Dora")]
    assert touched(facts, "does your cousin live far away?", max_chars=1_000) == []
    assert touched([], "anything", max_chars=1_000) == []


def test_what_is_touched_is_bounded() -> None:
    facts = [f"viola{letter} " + "x" * 400 for letter in "abc"] + [f"other {n}" for n in range(60)]
    assert len(touched(facts, "viola", max_chars=1_000)) <= 2
