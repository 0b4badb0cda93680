from types import SimpleNamespace
from typing import Any

from draftd.providers.response import TOKENS_PER_PICTURE, RawAnswer, tokens
from tables import per_row


@per_row(
    ("prompt", "completion", "counted"),
    [
        (120, 30, (120, 30)),
        (120, None, (120, 0)),
        (0, 30, None),
        (None, None, None),
        (-1, -1, None),
        (120, -1, None),
        (120, 2**31, None),
    ],
)
def test_tokens_are_counted_when_they_can_have_been_used(
    prompt: int | None, completion: int | None, counted: tuple[int, int] | None
) -> None:
    usage = SimpleNamespace(prompt_tokens=prompt, completion_tokens=completion)
    assert tokens(RawAnswer(text="yes", usage=usage), []) == counted


def test_without_a_usage_no_tokens_are_counted() -> None:
    assert tokens(RawAnswer(text="yes"), []) is None


def test_what_broke_off_is_estimated_where_it_was_not_counted() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:,"}}
    asked: list[dict[str, Any]] = [
        {"role": "system", "content": "x" * 400},
        {"role": "user", "content": [text_part("y" * 40), picture]},
    ]
    usage = SimpleNamespace(prompt_tokens=25, completion_tokens=1)
    assert tokens(RawAnswer(text="z" * 80, usage=usage, broke_off=True), asked) == (25, 20)
    assert tokens(RawAnswer(text="z" * 80, broke_off=True), asked) == (110 + TOKENS_PER_PICTURE, 20)
    assert tokens(RawAnswer(broke_off=True), asked) is None


def text_part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


@per_row(
    ("received", "noted", "text", "finish_reason", "broke_off"),
    [
        ("stop", "stop", '{"a": "b', "stop", False),
        (None, "stop", '{"a": "b', "", True),
        (None, "stop", '{"a": "b"}\n', "", False),
        (None, "stop", "```json\n{}\n```", "", False),
        (None, "stop", "", "", False),
        (None, "content_filter", '{"a": "b', "content_filter", False),
        (None, "length", '{"a": "b', "length", False),
    ],
)
def test_a_stream_ends_for_the_providers_reason_and_not_for_one_of_litellms(
    received: str | None, noted: str, text: str, finish_reason: str, *, broke_off: bool
) -> None:
    answer = RawAnswer(text=text, finish_reason=noted)
    answer.end(SimpleNamespace(received_finish_reason=received))
    assert (answer.finish_reason, answer.broke_off) == (finish_reason, broke_off)
