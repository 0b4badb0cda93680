"""What a refinement changes of the earlier drafts."""

from typing import Any

import pytest

from draftd.errors import InvalidRequest
from draftd.reply import refinement
from draftd.request import Options, Parent, Request, Wish
from tables import per_row

TARGETS = [{"key": "t1", "author": "Ana", "gist": "asks about prices"}, {"key": "t2", "gist": "who brings the cake?"}]


def make_request(result: Any = None, *, reading: list[str] | None = None, context: str | None = None) -> Request:
    reading = ["Ana: how much is it?"] if reading is None else reading
    parent = Parent(result={"other_targets": TARGETS} if result is None else result, reading=reading)
    return Request(image_urls=(), context=context, options={}, parent=parent)


def make_first() -> Request:
    return Request(image_urls=("https://example.com/a.png",), context=None, options={}, parent=None)


@per_row(
    ("context", "options", "others"),
    [
        (None, {}, True),
        (None, {"tone": "warm", "max_chars": 200}, True),
        ("shorter", {}, False),
        (None, {"stance": "accept"}, False),
        (None, {"answer_to": "t1"}, False),
    ],
)
def test_without_a_word_on_what_to_change_other_drafts_are_wanted(
    context: str | None, options: dict[str, Any], *, others: bool
) -> None:
    assert refinement.wants_others(make_request(context=context), Options(**options)) is others


def test_a_first_request_wants_no_other_drafts() -> None:
    assert not refinement.wants_others(make_first(), Options())


@per_row(
    ("named", "target"),
    [
        ("t1", "Ana: asks about prices"),
        ("t2", "who brings the cake?"),
        ("Ana's comment", "Ana's comment"),
        (None, None),
    ],
)
def test_a_target_is_found_by_its_key_or_named_in_words(named: str | None, target: str | None) -> None:
    assert refinement.target(make_request(), Options(answer_to=named)) == target


def test_a_first_request_names_its_target_in_words() -> None:
    assert refinement.target(make_first(), Options(answer_to="Ana's comment")) == "Ana's comment"


@per_row(
    ("result", "reading", "named"),
    [
        (None, None, "t3"),
        (None, [], "Ana's comment"),
        ({}, None, "t1"),
        ({"other_targets": "x"}, None, "t1"),
        ({"other_targets": [3, {"key": 1}]}, None, "t1"),
    ],
)
def test_a_target_that_was_not_read_needs_the_screenshot_again(
    result: Any, reading: list[str] | None, named: str
) -> None:
    with pytest.raises(InvalidRequest, match="send the screenshot again"):
        refinement.target(make_request(result, reading=reading), Options(answer_to=named))


@per_row(
    ("stances", "decided"),
    [
        (["accept", "decline", "open"], False),
        (["choice", "choice", "open"], False),
        (["accept", "accept", "accept"], True),
        (["open", "open", "decline"], True),
        ([None, None, None], True),
    ],
)
def test_a_parent_that_leaves_no_decision_open_has_made_it(stances: list[str | None], *, decided: bool) -> None:
    result = {"options": [{"stance": stance} if stance else {} for stance in stances]}
    assert refinement.is_decided(Parent(result=result, reading=[])) is decided


def chained(*asked: dict[str, Any], context: str | None = None, **options: Any) -> Options:
    """Return the options of a request that refines a chain, whose options are given from the latest on."""
    wishes = tuple(Wish(context="", options=one) for one in asked)
    parent = Parent(result={}, reading=[], wishes=wishes)
    return refinement.options_of(Request(image_urls=(), context=context, options=options, parent=parent))


def test_an_option_is_inherited_from_the_nearest_request_that_gave_it() -> None:
    options = chained({"tone": "warm"}, {"tone": "cold", "max_chars": 90}, {"me": "Ann", "lengths": ["short"]})
    assert (options.tone, options.max_chars, options.me, options.lengths) == ("warm", 90, "Ann", ("short",))


def test_an_option_of_its_own_replaces_an_inherited_one_and_null_removes_it() -> None:
    options = chained({"tone": "warm", "max_chars": 90, "voice_samples": ["hi"]}, tone="cold", max_chars=None)
    assert (options.tone, options.max_chars, options.voice_samples) == ("cold", None, ("hi",))
    assert chained({"tone": None}, {"tone": "warm"}).tone is None


def test_facts_add_up_along_a_chain() -> None:
    options = chained({"facts": ["b", "a"]}, {"facts": ["c", "a"]}, facts=["a"])
    assert options.facts == ("a", "b", "c")
    many = chained({"facts": [f"old {number}" for number in range(20)]}, facts=["new"])
    assert (many.facts[0], len(many.facts)) == ("new", 20)


def test_a_decision_and_a_target_are_not_inherited_because_the_drafts_follow_them() -> None:
    options = chained({"stance": "accept", "answer_to": "t1"})
    assert (options.stance, options.answer_to) == (None, None)


def test_words_may_ask_for_another_language_than_an_inherited_one() -> None:
    assert chained({"language": "fr"}).language == "fr"
    assert chained({"language": "fr"}, context="auf Deutsch").language is None
    assert chained({"language": "fr"}, context="shorter", language="de").language == "de"


def test_invalid_options_of_an_earlier_request_are_passed_over() -> None:
    assert chained({"tone": 3}, {"tone": "warm"}).tone == "warm"
    with pytest.raises(InvalidRequest):
        chained(tone=3)
