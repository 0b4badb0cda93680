"""The wires of the providers, asked through litellm as the daemon asks."""

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from draftd.demo.samples import LINKEDIN_POST
from draftd.errors import ModelError, ModelMisconfigured, ModelUnavailable
from draftd.providers.llm import Llm
from draftd.reply.agents import load_agents, packaged_directory
from draftd.reply.comment_reply import CommentReply
from draftd.reply.prompts import render
from draftd.request import Options, Parent, Request, Wish
from draftd.stand_in.behaviour import Behaviour
from draftd.stand_in.wires.dialects import Dialect
from provider_matrix import ALL, CACHED_TOKENS, TIME_S, ask, speaking, target

# litellm reads a pydantic attribute in a deprecated way at every chunk, and hands its own types over in a wrong form.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),
]

STREAMED = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
STREAMED_FIRST = pytest.mark.parametrize(
    "streamed", [pytest.param(False, marks=pytest.mark.long), True], ids=["whole", "streamed"]
)
"""Both forms, of which a daemon's own is the second."""


@pytest.mark.timeout(90)
@STREAMED
@pytest.mark.parametrize("dialect", ALL, ids=lambda dialect: dialect.title)
async def test_every_wire_answers_with_its_usage_and_nothing_but_the_question_is_asked(
    llm: Llm, dialect: Dialect, *, streamed: bool
) -> None:
    # The server is on the same event loop and silent elsewhere: whoever blocked the loop with a request would wait for ever.
    async with speaking(dialect) as server:
        done, _ = await ask(llm, target(dialect, server), streamed=streamed)
        assert done.text.startswith('{"short": "Stand-in reply')
        assert done.spent.input_tokens
        assert done.spent.output_tokens
        assert [request.method for request in server.received] == ["POST"]
        (call,) = server.log
        assert len(call["images"]) == 1
        assert (call["images"][0]["width_px"], call["first_role"]) == (LINKEDIN_POST.width_px, "system")


@STREAMED_FIRST
@pytest.mark.parametrize("dialect", ALL, ids=lambda dialect: dialect.title)
@pytest.mark.parametrize(
    "failure",
    [Behaviour(reset=True), Behaviour(status=500), pytest.param(Behaviour(status=422), marks=pytest.mark.long)],
    ids=["reset before the headers", "500", "422"],
)
async def test_no_library_sends_a_question_twice_by_itself(
    llm: Llm, dialect: Dialect, failure: Behaviour, *, streamed: bool
) -> None:
    async with speaking(dialect, failure) as server:
        with pytest.raises(ModelError):
            await ask(llm, target(dialect, server), streamed=streamed)
        assert len(server.received) == 1


CACHING = [dialect for dialect in ALL if dialect.title in {"Anthropic", "Bedrock", "OpenRouter", "Claude on Vertex AI"}]


@pytest.mark.parametrize("dialect", CACHING, ids=lambda dialect: dialect.title)
async def test_the_system_message_comes_first_and_alone_is_marked_for_the_cache(llm: Llm, dialect: Dialect) -> None:
    async with speaking(dialect) as server:
        await ask(llm, target(dialect, server))
        (call,) = server.log
    assert (call["first_role"], call["cached"]) == ("system", ["system"])


PARENT = Parent(
    result={
        "language": "en",
        "summary": "Mia asks about Friday.",
        "options": [{"length": "short", "stance": "none", "text": "Yes."}],
    },
    reading=["Mia: Friday?"],
    chain_texts=("Yes.",),
)
VARIANTS: list[tuple[str | None, dict[str, Any], Parent | None]] = [
    (None, {}, None),
    ("yes, gladly", {"stance": "accept", "voice_samples": ["cheers"], "answer_to": "Ana's question"}, None),
    (None, {"reader_language": "ja", "lengths": ["short"], "facts": ["I live in Bonn"]}, None),
    ("shorter", {}, PARENT),
    (None, {}, PARENT),
]


@pytest.mark.parametrize("dialect", CACHING, ids=lambda dialect: dialect.title)
async def test_what_is_marked_for_the_cache_is_the_same_to_the_byte_whatever_a_request_asks_for(
    llm: Llm, dialect: Dialect
) -> None:
    agent = load_agents(packaged_directory())["comment_generator"]
    async with speaking(dialect) as server:
        for context, asked, parent in VARIANTS:
            request = Request(image_urls=(), context=context, options=asked, parent=parent)
            options = Options.read(asked)
            messages = render(agent, request=request, options=options, pictures=[])
            schema = CommentReply(request, options, is_truncated=False, prompt="").schema
            await llm.complete(target(dialect, server), messages, schema=schema, time_s=TIME_S)
        bodies = [await request.json() for request in server.received]
    marked = [body["system"] if "system" in body else body["messages"][0]["content"] for body in bodies]
    assert marked[0][0]["text"] == agent.text
    assert "cachePoint" in marked[0][-1] or marked[0][-1]["cache_control"] == {"type": "ephemeral"}
    assert marked == [marked[0]] * len(VARIANTS)


@pytest.mark.parametrize("dialect", CACHING, ids=lambda dialect: dialect.title)
async def test_refinements_of_a_chain_are_sent_alike_to_the_byte_as_far_as_their_first_difference(
    llm: Llm, dialect: Dialect
) -> None:
    """A cache compares from the beginning: the schema, which comes before the messages, must be the same, too."""
    agent = load_agents(packaged_directory())["comment_generator"]
    rounds = [("shorter", ()), ("yes, but Monday", ("shorter",)), ("warmer", ("yes, but Monday", "shorter"))]
    async with speaking(dialect) as server:
        for context, asked in rounds:
            parent = replace(PARENT, wishes=tuple(Wish(context=one, options={}) for one in asked))
            request = Request(image_urls=(), context=context, options={}, parent=parent)
            options = Options.read({})
            messages = render(agent, request=request, options=options, pictures=[])
            schema = CommentReply(request, options, is_truncated=False, prompt="").schema
            await llm.complete(target(dialect, server), messages, schema=schema, time_s=TIME_S)
        bodies = [await request.json() for request in server.received]
    said = [json.dumps(body.pop("messages")) for body in bodies]
    assert bodies == [bodies[0]] * len(rounds)
    shared = [said[0].partition('\\"asked_before\\": [')[0], said[1].partition('shorter\\"')[0]]
    assert all(one.startswith(shared[0]) for one in said)
    assert said[2].startswith(shared[1])


PRICED = [dialect for dialect in ALL if dialect.title in {"Anthropic", "Bedrock", "OpenAI", "DeepSeek", "Gemini"}]


@STREAMED
@pytest.mark.parametrize("dialect", PRICED, ids=lambda dialect: dialect.title)
async def test_tokens_from_the_cache_are_counted_and_cost_less(llm: Llm, dialect: Dialect, *, streamed: bool) -> None:
    async with speaking(dialect, Behaviour(), Behaviour(cached_tokens=CACHED_TOKENS)) as server:
        without, _ = await ask(llm, target(dialect, server), streamed=streamed)
        cached, _ = await ask(llm, target(dialect, server), streamed=streamed)
    assert (without.spent.cached_tokens, cached.spent.cached_tokens) == (None, CACHED_TOKENS)
    assert cached.spent.input_tokens == (without.spent.input_tokens or 0) + CACHED_TOKENS
    more = (cached.spent.cost_usd or 0) - (without.spent.cost_usd or 0)
    assert 0 < more <= Decimal(str(llm._registry.entry(dialect.model)["input_cost_per_token"])) * CACHED_TOKENS / 2


@STREAMED
@pytest.mark.parametrize("dialect", PRICED, ids=lambda dialect: dialect.title)
async def test_tokens_from_the_cache_cost_what_the_operator_says(llm: Llm, dialect: Dialect, *, streamed: bool) -> None:
    prices = {name: Decimal(0) for name in ("input_usd_per_mtok", "output_usd_per_mtok")}
    async with speaking(dialect, Behaviour(cached_tokens=CACHED_TOKENS)) as server:
        to = target(dialect, server, cached_input_usd_per_mtok=Decimal("0.5"), **prices)
        done, _ = await ask(llm, to, streamed=streamed)
    assert done.spent.cost_usd == CACHED_TOKENS * Decimal("0.5") / 1_000_000


async def test_a_fallback_is_asked_at_its_own_address_with_its_own_key_parameters_and_prices(llm: Llm) -> None:
    first, second = (one for one in ALL if one.title in {"OpenAI", "Anthropic"})
    prices = {"input_usd_per_mtok": Decimal(1_000_000), "output_usd_per_mtok": Decimal(0)}
    async with speaking(first, Behaviour(status=503)) as one, speaking(second) as other:
        with pytest.raises(ModelUnavailable):
            await ask(llm, target(first, one, api_key="first", params={"temperature": 0.1, "max_tokens": 700}))
        to = target(second, other, api_key="second", params={"top_p": 0.5, "max_tokens": 900}, **prices)
        done, _ = await ask(llm, to)
        asked, fallback = one.received[0], other.received[0]
        assert (asked.headers["authorization"], fallback.headers["x-api-key"]) == ("Bearer first", "second")
        assert "authorization" not in fallback.headers
        bodies: list[dict[str, Any]] = [await asked.json(), await fallback.json()]
    names = ("temperature", "top_p", "max_tokens")
    assert [[body.get(name) for name in names] for body in bodies] == [[0.1, None, 700], [None, 0.5, 900]]
    assert done.spent.cost_usd == done.spent.input_tokens


@pytest.mark.parametrize("model", ["openai/gpt-5-pro", "openai/o3-pro"])
async def test_a_model_without_chat_completions_is_asked_for_a_response(llm: Llm, model: str) -> None:
    (dialect,) = (one for one in ALL if one.title == "OpenAI Responses")
    async with speaking(replace(dialect, model=model)) as server:
        done, _ = await ask(llm, target(replace(dialect, model=model), server))
    assert done.spent.cost_usd


async def test_a_model_that_litellm_sends_no_pictures_is_not_asked(llm: Llm) -> None:
    (dialect,) = (one for one in ALL if one.title == "DeepSeek")
    async with speaking(dialect) as server:
        with pytest.raises(ModelMisconfigured, match="no pictures"):
            await ask(llm, target(dialect, server, model="deepseek/deepseek-v4-pro"))
        assert server.received == []
