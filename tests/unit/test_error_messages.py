"""What the app's user reads: `error_message`."""

import ast
import functools
import inspect
import json
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from uuid import UUID

import draftd
from draftd import errors
from draftd.errors import (
    ImageInvalid,
    ImageNotServed,
    ModelError,
    ModelUnavailable,
    RequestError,
    request_errors,
    told_of,
)
from draftd.providers.failure_policy import Action, Verdict, outcome_of
from draftd.queue.outcome import Fail
from draftd.queue.settlements import Trail, settlement
from tables import per_row

SOURCES = Path(draftd.__file__).parent
LEAK = "openai/gpt-5: litellm.BadRequestError: AnthropicException - invalid x-api-key sk-ant-1"
HELD = (UUID(int=1), 1)
NAMES = re.compile(
    r"litellm|openai|anthropic|claude|gpt|gemini|bedrock|vertex|ollama|mistral|groq|vllm|psycopg|postgres|pydantic|"
    r"httpcore|pillow|\bPIL\b|libheif|libde265|libwebp|libavif|pi.heif|langfuse|api.?key|traceback|exception|\bmodel\b",
    re.IGNORECASE,
)


def every_class(cls: type[RequestError] = RequestError) -> Iterator[type[RequestError]]:
    for child in cls.__subclasses__():
        yield child
        yield from every_class(child)


@functools.cache
def raised_texts() -> list[str]:
    """Return what the sources say when they raise an error that the app's user reads, with placeholders for values."""
    readable = [cls.__name__ for cls in every_class() if cls.is_for_user]
    raises = re.compile(rf"\b(?:{'|'.join(readable)})\(")
    return [
        f"{node.func.id}({ast.unparse(node.args[0])})"
        for source in (path.read_text() for path in sorted(SOURCES.rglob("*.py")))
        if raises.search(source)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in readable and node.args
    ]


def test_the_sources_raise_errors_that_users_read() -> None:
    assert len(raised_texts()) > 40


def test_no_message_for_the_user_names_a_model_or_a_library() -> None:
    assert [text for text in raised_texts() if NAMES.search(text.partition("(")[2])] == []


@per_row("cls", list(every_class()))
def test_no_class_tells_the_user_of_a_model_or_a_library(cls: type[RequestError]) -> None:
    told = cls().told if cls.is_for_user else cls(LEAK).told

    assert bool(told) is cls.is_for_user
    assert not NAMES.search(told)
    assert not NAMES.search(cls.user_message)
    assert told_of(cls.code) == cls.user_message


@per_row("cls", [cls for cls in every_class() if issubclass(cls, ModelError)])
def test_what_a_provider_says_never_reaches_the_user(cls: type[RequestError]) -> None:
    """Whatever the verdict is: the outcome has the provider's words for the operator, and a sentence for the user."""
    for action in (Action.FAIL, Action.RETRY, Action.GIVE_BACK):
        outcome = outcome_of(cls(LEAK, model="openai/gpt-5"), Verdict(action=action))
        assert outcome.message == LEAK
        assert outcome.told == ""
        stored = json.loads(settlement(HELD, outcome, Trail()).as_json())
        assert stored["told"] == cls.user_message


def test_a_message_of_a_picture_names_it_and_its_host() -> None:
    refused = ImageNotServed("cdn.example.com answered 403; has a signed address expired?", details={"status": 403})
    damaged = ImageInvalid("the image is truncated or corrupt", details={"host": "cdn.example.com"})

    first = refused.about(host="cdn.example.com").of_picture(1, 2)
    second = damaged.of_picture(2, 2)

    assert first.told == "picture 1 of 2: cdn.example.com answered 403; has a signed address expired?"
    assert first.details == {"picture": 1, "host": "cdn.example.com", "status": 403}
    assert second.told == "picture 2 of 2, from cdn.example.com: the image is truncated or corrupt"
    outcome = outcome_of(second, Verdict(action=Action.FAIL))
    assert isinstance(outcome, Fail)
    assert outcome.told == outcome.message == second.message


def test_a_code_that_is_unknown_has_the_sentence_of_a_defect() -> None:
    assert told_of("of_tomorrow") == errors.InternalError.user_message


@per_row("cls", request_errors())
def test_each_code_has_a_sentence_or_two_for_users(cls: type[RequestError]) -> None:
    assert re.fullmatch(r"[A-Z][^.]*\.( [A-Z][^.]*\.)?", cls.user_message)
    assert "draft" not in cls.user_message
    assert len(cls.user_message) <= 120


def test_the_package_has_the_sentences_as_data() -> None:
    codes = json.loads(files("draftd").joinpath("error_codes.json").read_text())

    assert {code: known["user_message"] for code, known in codes.items()} == {
        cls.code: cls.user_message for cls in request_errors()
    }
    assert codes["model_unavailable"] == {
        "kind": "hold",
        "action": "try_later",
        "meaning": inspect.getdoc(ModelUnavailable),
        "user_message": ModelUnavailable.user_message,
    }
