from types import SimpleNamespace

import pytest

from draftd.providers.response import tokens


@pytest.mark.parametrize(
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
    assert tokens(SimpleNamespace(prompt_tokens=prompt, completion_tokens=completion)) == counted


def test_without_a_usage_no_tokens_are_counted() -> None:
    assert tokens(None) is None
