"""A provider's own sentence, out of whatever it came in."""

import json

from hypothesis import given
from hypothesis import strategies as st

from draftd.providers import provider_text
from tables import per_row

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["error", "message", "code", "details", "loc", "x"]), inner)
    ),
)
SAID = {"type": "error", "error": {"type": "invalid_request_error", "message": "Could not process image"}}


@per_row(
    "text",
    [
        json.dumps(SAID),
        str(SAID),
        str(json.dumps(SAID).encode()),
        f"litellm.BadRequestError: AnthropicException - {json.dumps(SAID)}",
        f"AnthropicException - {json.dumps(SAID).encode()!r}. Handle with `litellm.InternalServerError`.",
        json.dumps({"error": {"message": json.dumps(SAID), "code": 400}}),
        json.dumps(
            [{"error": {"message": f"litellm.BadRequestError: x - {json.dumps(SAID)}. Received Model Group=m"}}]
        ),
        "litellm.APIConnectionError: OpenAIException - Could not process image\nTraceback (most recent call last):\n  File",
    ],
)
def test_the_sentence_is_found_in_whatever_wraps_it(text: str) -> None:
    assert provider_text.read(text).sentence == "Could not process image"


def test_what_an_error_quotes_of_the_request_is_not_read() -> None:
    body = {
        "detail": [{"loc": ["body", "messages"], "msg": "Field required", "input": "account suspended"}],
        "error": {"message": "Bad", "failed_generation": "quota exceeded", "metadata": {"flagged_input": "no api key"}},
    }
    words = provider_text.read(json.dumps(body)).words
    assert "Field required" in words
    assert "body.messages" in words
    assert not any(quoted in words for quoted in ("suspended", "quota", "api key"))


@per_row(
    ("text", "title"),
    [
        ("<!DOCTYPE html><html><head><title> Sign in </title></head></html>", "a web page: Sign in"),
        ("<html><body>502</body></html>", "a web page"),
    ],
)
def test_a_web_page_is_told_by_its_title(text: str, title: str) -> None:
    assert provider_text.read(text).sentence == title


@per_row(
    ("text", "wait_s"),
    [
        ('{"error": {"message": "no", "details": [{"@type": "x", "retryDelay": "34.5s"}]}}', 34.5),
        ("Please retry in 34.784434065s.", 34.784434065),
        ("Please try again in 1m2.5s.", 62.5),
        ("Please try again in 6ms", 0.006),
        ("Rate limit reached. Please try again in 1h4m2s", 3_842.0),
        ("Please retry after 6 seconds.", 6.0),
        ("Please try again later", None),
        ("Please retry in a moment", None),
    ],
)
def test_the_wait_that_stands_in_a_text_is_read(text: str, wait_s: float | None) -> None:
    assert provider_text.read(text).retry_after_s == wait_s


@given(
    st.text() | JSON.map(str) | JSON.map(json.dumps) | JSON.map(lambda value: json.dumps({"error": json.dumps(value)}))
)
def test_no_text_makes_it_raise(text: str) -> None:
    found = provider_text.read(text)
    assert len(found.sentence) <= provider_text.MAX_CHARS
    assert len(found.words) <= provider_text.MAX_CHARS
