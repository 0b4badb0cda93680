"""What a model refuses of a call is learnt, with a litellm that answers what the test says."""

import asyncio
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from structlog.testing import capture_logs

from draftd.errors import ModelMisconfigured
from draftd.providers.llm import Completion, Llm
from draftd.providers.messages import SCHEMA_TEXT
from draftd.providers.target import Target
from tables import per_row

PARAMS = {"temperature": 0.3, "max_tokens": 900, "num_ctx": 8_192}


class OpenAIError(Exception):
    """What all errors of a call derive from."""


class BadRequestError(OpenAIError):
    """A 400."""

    status_code = 400


class UnsupportedParamsError(OpenAIError):
    """A call that litellm does not send."""


Refuse = Callable[[dict[str, Any]], str | None]


class LiteLlm:
    """Refuses the calls that ``refuse`` has an objection to, once ``crowd`` of them are under way."""

    exceptions = SimpleNamespace(openai=SimpleNamespace(OpenAIError=OpenAIError))
    UnsupportedParamsError = UnsupportedParamsError
    model_cost: ClassVar[dict[str, Any]] = {}
    cost_per_token = None

    def __init__(self, refuse: Refuse, *, crowd: int = 1, error: type[OpenAIError] = BadRequestError) -> None:
        self._refuse = refuse
        self._error = error
        self._all_are_here = asyncio.Barrier(crowd)
        self._crowd = crowd
        self.sent: list[dict[str, Any]] = []

    async def acompletion(self, **request: Any) -> Any:
        self.sent.append(request)
        if len(self.sent) <= self._crowd:
            await self._all_are_here.wait()
        if objection := self._refuse(request):
            raise self._error(objection)
        message = SimpleNamespace(content="{}", refusal=None)
        return SimpleNamespace(choices=[SimpleNamespace(message=message, finish_reason="stop")], usage=None)

    def params(self) -> list[dict[str, Any]]:
        """Return the parameters of each call that was sent."""
        return [{name: value for name, value in request.items() if name in PARAMS} for request in self.sent]


def no_temperature(request: dict[str, Any]) -> str | None:
    return "Unsupported value: 'temperature' must be 1" if request.get("temperature", 1) != 1 else None


def no_extras(request: dict[str, Any]) -> str | None:
    return "Unrecognized request argument supplied" if {"temperature", "num_ctx"} & request.keys() else None


def nothing_at_all(_request: dict[str, Any]) -> str | None:
    return "Unrecognized request argument supplied"


def unless_dropped(request: dict[str, Any]) -> str | None:
    return None if request["drop_params"] else "no temperature"


async def ask(llm: Llm, **params: Any) -> Completion:
    target = Target(name="m", model="openai/deployment", params=params)
    return await llm.complete(target, [], schema={}, time_s=20)


@per_row(
    ("refuse", "error"),
    [(no_temperature, BadRequestError), (unless_dropped, UnsupportedParamsError)],
    ids=["by the provider", "by litellm"],
)
async def test_the_first_calls_learn_together_what_is_refused(refuse: Refuse, error: type[OpenAIError]) -> None:
    llm = Llm(litellm=LiteLlm(refuse, crowd=16, error=error))
    with capture_logs() as lines:
        answers = await asyncio.gather(*(ask(llm, **PARAMS) for _ in range(16)))
    assert [answer.text for answer in answers] == ["{}"] * 16
    assert [line["event"] for line in lines] == ["unsupported parameters dropped"]


async def test_only_the_parameter_that_the_refusal_names_is_left_out() -> None:
    litellm = LiteLlm(no_temperature)
    llm = Llm(litellm=litellm)
    for _ in range(2):
        await ask(llm, **PARAMS)
    without = {"max_tokens": 900, "num_ctx": 8_192}
    assert litellm.params() == [PARAMS, without, without]


async def test_a_refusal_that_names_no_parameter_leaves_the_limit_of_the_answer_in_place() -> None:
    litellm = LiteLlm(no_extras)
    await ask(Llm(litellm=litellm), **PARAMS)
    assert litellm.params() == [PARAMS, {"max_tokens": 900}]


async def test_parameters_that_the_operator_changes_are_tried_anew() -> None:
    litellm = LiteLlm(no_temperature)
    llm = Llm(litellm=litellm)
    await ask(llm, **PARAMS)
    await ask(llm, **PARAMS | {"temperature": 1})
    assert litellm.params()[-1] == PARAMS | {"temperature": 1}


async def test_a_call_that_is_refused_without_any_parameters_is_misconfigured() -> None:
    litellm = LiteLlm(nothing_at_all)
    with pytest.raises(ModelMisconfigured):
        await ask(Llm(litellm=litellm), **PARAMS)
    assert litellm.params() == [PARAMS, {"max_tokens": 900}, {}]


async def messages_sent(llm: Llm, litellm: LiteLlm) -> list[Any]:
    target = Target(name="m", model="openai/deployment")
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": [{"type": "text", "text": "Look."}]},
        {"role": "assistant", "content": "No."},
        {"role": "user", "content": "Again."},
    ]
    await llm.complete(target, messages, schema=SCHEMA, time_s=20)
    sent: list[Any] = litellm.sent[-1]["messages"]
    return sent


SCHEMA: dict[str, Any] = {"type": "object", "properties": {"short": {"type": "string"}}, "required": []}
LOOK = {"type": "text", "text": "Look."}


def stated() -> dict[str, str]:
    return {"type": "text", "text": SCHEMA_TEXT + json.dumps(SCHEMA)}


def only_json_object(request: dict[str, Any]) -> str | None:
    return (
        "response_format json_schema is not supported" if request["response_format"]["type"] != "json_object" else None
    )


async def test_a_schema_that_the_provider_enforces_is_not_said_twice() -> None:
    litellm = LiteLlm(lambda _: None)
    system, user, *_ = await messages_sent(Llm(litellm=litellm), litellm)
    assert (system["content"], user["content"]) == ("Be kind.", [LOOK])


@per_row("refuse", [only_json_object, unless_dropped], ids=["refused", "dropped by litellm"])
async def test_a_schema_that_nobody_enforces_ends_the_first_user_message(refuse: Refuse) -> None:
    error = BadRequestError if refuse is only_json_object else UnsupportedParamsError
    litellm = LiteLlm(refuse, error=error)
    system, user, *rest = await messages_sent(Llm(litellm=litellm), litellm)
    assert (system["content"], user["content"]) == ("Be kind.", [LOOK, stated()])
    assert [message["content"] for message in rest] == ["No.", "Again."]


async def test_a_server_that_ignores_the_schema_is_told_it_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCHEMA, "required", ["short"])
    litellm = LiteLlm(lambda _: None)
    llm = Llm(litellm=litellm)
    assert (await messages_sent(llm, litellm))[1]["content"] == [LOOK]
    assert (await messages_sent(llm, litellm))[1]["content"] == [LOOK, stated()]
