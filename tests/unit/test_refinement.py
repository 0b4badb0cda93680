"""What a refinement changes of the earlier drafts."""

from typing import Any

import pytest

from draftd.errors import InvalidRequest
from draftd.reply import refinement
from draftd.request import Options, Parent, Request

TARGETS = [{"key": "t1", "author": "Ana", "gist": "asks about prices"}, {"key": "t2", "gist": "who brings the cake?"}]


def make_request(result: Any = None, *, reading: list[str] | None = None, context: str | None = None) -> Request:
    reading = ["Ana: how much is it?"] if reading is None else reading
    parent = Parent(result={"other_targets": TARGETS} if result is None else result, reading=reading)
    return Request(image_urls=(), context=context, options={}, parent=parent)


def make_first() -> Request:
    return Request(image_urls=("https://example.com/a.png",), context=None, options={}, parent=None)


@pytest.mark.parametrize(
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


@pytest.mark.parametrize(
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


@pytest.mark.parametrize(
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


@pytest.mark.parametrize(
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
