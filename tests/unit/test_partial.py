import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import from_json

from draftd.reply import links
from draftd.reply.answer import read
from draftd.reply.criteria import Criteria
from draftd.reply.partial import PartialReader
from draftd.reply.reply_format import AnswerRejected
from draftd.request import Options
from tables import per_row

ANSWER: dict[str, Any] = {
    "shown": "message",
    "platform": "slack",
    "language": "en",
    "me": "the signed-in user",
    "author": "Mia",
    "gist": 'asks: "ship {it} on Friday?"',
    "expects": "question",
    "warnings": [],
    "unsent_text": "",
    "quoted": ["Friday"],
    "short_stance": "accept",
    "short_angle": "confirms Friday",
    "short": "Yes, Friday works.",
    "medium_stance": "open",
    "medium_angle": "asks for the list",
    "medium": "Friday is fine with us. Could you send me the list of open tickets first?",
    "detailed_stance": "accept",
    "detailed_angle": "offers a plan",
    "detailed": "We ship as planned. Two tickets are in review; if one slips, I'd rather move it than push the date.",
    "platform_name": "Slack",
    "content_type": "thread",
    "reply_needed": "yes",
    "summary": "Mia asks the team about Friday.",
    "other_targets": [],
    "reading": ["Mia: do we ship on Friday?"],
    "missing": [],
    "confidence": "high",
}


def make_criteria(**options: Any) -> Criteria:
    return Criteria(options=Options(**options), context=None, is_truncated=False)


def stream(text: str, criteria: Criteria | None = None, step: int = 1) -> list[dict[str, Any]]:
    reader = PartialReader(criteria or make_criteria())
    ends = [*range(0, len(text), step), len(text)]
    return [found for end in ends if (found := reader.feed(text[:end])) is not None]


def lengths(found: list[dict[str, Any]]) -> list[list[str]]:
    return [[option["length"] for option in one["options"]] for one in found]


def test_each_option_is_announced_as_soon_as_its_text_is_closed() -> None:
    text = json.dumps(ANSWER)
    reader = PartialReader(make_criteria())
    end_of_short = text.index(ANSWER["short"]) + len(ANSWER["short"])
    assert reader.feed(text[:end_of_short]) is None
    found = reader.feed(text[: end_of_short + 1])
    assert found is not None
    assert found["options"] == [
        {
            "length": "short",
            "angle": "confirms Friday",
            "stance": "accept",
            "text": "Yes, Friday works.",
            "unsupported": [],
        }
    ]


def test_the_options_accumulate_and_unknown_keys_are_left_out() -> None:
    found = stream(json.dumps(ANSWER))
    assert lengths(found) == [["short"], ["short", "medium"], ["short", "medium", "detailed"]]
    assert not {"missing", "confidence", "warnings", "summary"} & found[-1].keys()
    result = read(json.dumps(ANSWER), make_criteria()).result
    assert found[-1] == {key: value for key, value in result.items() if key in found[-1]}


def test_a_key_that_the_model_left_out_is_not_made_up() -> None:
    answer = {key: value for key, value in ANSWER.items() if key not in {"me", "gist"}}
    assert not {"me", "replying_to"} & stream(json.dumps(answer))[0].keys()


def test_one_chunk_with_everything_is_one_announcement() -> None:
    assert lengths(stream(json.dumps(ANSWER), step=10_000)) == [["short", "medium", "detailed"]]


@per_row(
    "before",
    ["\n", "```json\n", "```\n", '<think>{a} "shown" < {</think>\n', '<think>{"shown": "nothing"}</think>```json\n'],
)
def test_reasoning_and_a_fence_before_the_object_are_skipped(before: str) -> None:
    assert lengths(stream(before + json.dumps(ANSWER, indent=2) + "\n```")) == [
        ["short"],
        ["short", "medium"],
        ["short", "medium", "detailed"],
    ]


@per_row("before", ["It says ", "Here is {my} answer:\n", '{"short": "Pay me.", "x": 1}'])
def test_after_prose_nothing_is_announced_since_it_could_not_be_taken_back(before: str) -> None:
    quoted = json.dumps(ANSWER | {"short": "Pay me."})
    assert stream(f"{before}{quoted}.\n{json.dumps(ANSWER)}") == []


def test_long_reasoning_costs_less_than_a_second() -> None:
    used_s = time.process_time()
    assert lengths(stream("<think>" + '"a" <' * 12_000 + "</think>" + json.dumps(ANSWER), step=20))
    assert time.process_time() - used_s < 1


@per_row("late", ["platform", "language", "expects", "warnings", "unsent_text", "quoted"])
def test_options_wait_for_what_they_are_checked_by_when_a_model_writes_in_another_order(late: str) -> None:
    answer = {key: value for key, value in ANSWER.items() if key != late} | {late: ANSWER[late], "note": "the end"}
    text = json.dumps(answer)
    assert stream(text.partition(f'"{late}"')[0]) == []
    assert lengths(stream(text, step=5)) == [["short", "medium", "detailed"]]


def test_an_option_that_fails_a_check_is_held_back() -> None:
    assert lengths(stream(json.dumps(ANSWER | {"medium": "Dear [Name], " + ANSWER["medium"]}), step=5)) == [
        ["short"],
        ["short", "detailed"],
    ]
    assert lengths(stream(json.dumps(ANSWER | {"medium": "Yes."}), step=5)) == [["short"], ["short", "detailed"]]
    assert lengths(stream(json.dumps(ANSWER), make_criteria(max_chars=90), step=5)) == [["short"], ["short", "medium"]]


def test_a_link_waits_until_the_reading_shows_it() -> None:
    answer = ANSWER | {"short": "https://example.com/a", "reading": ["nothing", "Mia: example.com/a"]}
    assert lengths(stream(json.dumps(answer))) == [["medium"], ["medium", "detailed"], ["short", "medium", "detailed"]]


def test_a_made_up_link_is_never_announced() -> None:
    assert lengths(stream(json.dumps(ANSWER | {"short": "See https://example.com/a now"}))) == [
        ["medium"],
        ["medium", "detailed"],
    ]


def test_the_links_of_an_option_are_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_in: list[str] = []

    def unseen(text: str, _sources: object) -> list[str]:
        looked_in.append(text)
        return []

    monkeypatch.setattr(links, "unseen", unseen)
    assert lengths(stream(json.dumps(ANSWER), step=10_000)) == [["short", "medium", "detailed"]]
    assert len(looked_in) == 3


def test_an_option_with_more_links_than_are_looked_for_is_held_back() -> None:
    shown = [f"https://example.com/{number}" for number in range(21)]
    answer = ANSWER | {"short": " ".join(shown), "reading": shown}
    assert lengths(stream(json.dumps(answer), step=20)) == [["medium"], ["medium", "detailed"]]


def test_an_option_waits_for_its_translation() -> None:
    answer: dict[str, Any] = {}
    for key, value in ANSWER.items():
        answer[key] = value
        if key in {"short", "medium", "detailed"}:
            answer[f"{key}_translation"] = "Übersetzt: " + value
    text = json.dumps(answer)
    found = PartialReader(make_criteria(reader_language="de")).feed(text[: text.index('"medium_stance"')])
    assert found is not None
    assert found["options"][0]["translation"] == "Übersetzt: Yes, Friday works."
    assert PartialReader(make_criteria(reader_language="de")).feed(text[: text.index('"short_translation"')]) is None


def test_without_a_message_there_is_nothing_to_announce() -> None:
    assert stream(json.dumps(ANSWER | {"shown": "nothing"})) == []


def test_a_text_is_not_parsed_again_when_no_string_was_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = 0
    original = from_json

    def counting(*args: Any, **kwargs: Any) -> Any:
        nonlocal parsed
        parsed += 1
        return original(*args, **kwargs)

    monkeypatch.setattr("draftd.reply.partial.from_json", counting)
    text = json.dumps(ANSWER | {"detailed": "word " * 3_000})
    assert len(text) > 15_000
    assert lengths(stream(text, step=20))[-1] == ["short", "medium", "detailed"]
    assert parsed <= 2 * text.count('"')
    assert parsed < 100


def test_of_a_text_that_is_too_long_nothing_more_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps(ANSWER)
    monkeypatch.setattr("draftd.reply.partial.MAX_CHARS", text.index('"detailed"'))
    assert lengths(stream(text)) == [["short"], ["short", "medium"]]


replies = st.one_of(st.text(max_size=40), st.sampled_from([" https://example.com/a", " see www.example.com/b."]))


@st.composite
def answers(draw: st.DrawFn) -> dict[str, Any]:
    seen = {key: draw(st.one_of(st.just(ANSWER[key]), replies)) for key in ("me", "author", "gist", "language")}
    return ANSWER | {
        **seen,
        "platform": draw(st.sampled_from(["slack", "x", "github", "Mastodon", "email"])),
        "short": draw(st.sampled_from(["Yes, ", ""])) + draw(replies),
        "medium": ANSWER["medium"] + draw(replies),
        "detailed": ANSWER["detailed"] + draw(replies),
        "reading": draw(st.lists(replies, max_size=3)),
    }


@given(
    answer=answers(),
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 1]),
    before=st.sampled_from(["", "```json\n", "<think>{a}</think>"]),
)
def test_every_prefix_is_safe_and_what_was_announced_is_what_the_result_holds(
    answer: dict[str, Any],
    ascii_only: bool,  # noqa: FBT001 - drawn
    indent: int | None,
    before: str,
) -> None:
    text = before + json.dumps(answer, ensure_ascii=ascii_only, indent=indent)
    found = stream(text)
    counts = [len(one["options"]) for one in found]
    assert counts == sorted(set(counts))
    try:
        result = read(text, make_criteria()).result
    except AnswerRejected:
        return
    # The marks of an early option may change: the complete reading may have what it states.
    final = [option | {"unsupported": []} for option in result["options"]]
    for one in found:
        assert all(option | {"unsupported": []} in final for option in one["options"])


@given(
    st.lists(
        st.one_of(st.text(), st.sampled_from(['{"shown":', '"message"', ',"short":"', '"', "\\", "\ud800", "{", "}"]))
    )
)
def test_no_stream_makes_it_raise(chunks: list[str]) -> None:
    reader, text = PartialReader(make_criteria()), ""
    announced = []
    for chunk in chunks:
        text += chunk
        announced.append(reader.feed(text))
    assert all(one is None or one["options"] for one in announced)


def test_a_reply_that_is_held_back_is_not_checked_again_until_something_else_is_complete(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_in: list[str] = []

    def unseen(text: str, _sources: object) -> list[str]:
        looked_in.append(text)
        return ["https://made-up.example"]

    monkeypatch.setattr(links, "unseen", unseen)
    keys = {key: value for key, value in ANSWER.items() if not key.startswith(("medium", "detailed"))}
    answer = keys | {"summary": '"' * 120, "reading": ['"'] * 120}
    stream(json.dumps(answer), step=3)
    assert len(looked_in) < 100
