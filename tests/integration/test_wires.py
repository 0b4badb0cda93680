"""The wires of the providers, asked through litellm as the daemon asks."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from draftd.demo.samples import LINKEDIN_POST
from draftd.errors import ModelError
from draftd.providers.llm import Completion, Llm, Target
from standin.behaviour import Behaviour
from standin.server import StandIn
from standin.wires.dialects import DIALECTS, Dialect

# litellm reads a pydantic attribute in a deprecated way at every chunk.
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning")

SCHEMA = {
    "type": "object",
    "properties": {"short": {"type": "string"}, "medium": {"type": "string"}},
    "required": ["short", "medium"],
    "additionalProperties": False,
}
PICTURE = base64.b64encode(LINKEDIN_POST.path.read_bytes()).decode()
MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "You draft replies."},
    {
        "role": "user",
        "content": [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}},
            {"type": "text", "text": "What would you answer to this?"},
        ],
    },
]
SPEAKING = [dialect for dialect in DIALECTS if dialect.title != "OpenAI Responses"]
STREAMED = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


@pytest.fixture
async def llm() -> AsyncIterator[Llm]:
    loaded = await asyncio.to_thread(Llm.load)
    yield loaded
    await loaded.aclose()


@asynccontextmanager
async def speaking(dialect: Dialect, *script: Behaviour) -> AsyncIterator[StandIn]:
    server = StandIn(dialect=dialect, keep_requests=True, silent_elsewhere=True)
    await server.start()
    server.script(script)
    yield server
    server.release()
    await server.stop()


def target(dialect: Dialect, server: StandIn, **over: Any) -> Target:
    return Target(**{"name": "mine", "model": dialect.model, "api_base": server.url, "api_key": "made-up", **over})


async def ask(llm: Llm, to: Target, *, streamed: bool) -> tuple[Completion, list[str]]:
    seen: list[str] = []

    async def on_text(text: str) -> None:
        seen.append(text)

    on = on_text if streamed else None
    return await llm.complete(to, MESSAGES, schema=SCHEMA, time_s=20, on_text=on), seen


@pytest.mark.timeout(30)
@STREAMED
@pytest.mark.parametrize("dialect", SPEAKING, ids=lambda dialect: dialect.title)
async def test_every_wire_answers_with_its_usage_and_nothing_but_the_question_is_asked(
    llm: Llm, dialect: Dialect, *, streamed: bool
) -> None:
    # The server is on the same event loop and silent elsewhere: whoever blocked the loop with a request would wait for ever.
    async with speaking(dialect) as server:
        done, _ = await ask(llm, target(dialect, server), streamed=streamed)
        assert done.text.startswith('{"short": "Stand-in reply')
        assert (done.spent.input_tokens, bool(done.spent.output_tokens)) == (765 + 12, True)
        assert [request.method for request in server.received] == ["POST"]
        (call,) = server.log
        assert len(call["images"]) == 1
        assert (call["images"][0]["width_px"], call["first_role"]) == (LINKEDIN_POST.width_px, "system")


@STREAMED
@pytest.mark.parametrize("dialect", SPEAKING, ids=lambda dialect: dialect.title)
@pytest.mark.parametrize(
    "failure",
    [Behaviour(reset=True), Behaviour(status=500), Behaviour(status=422)],
    ids=["reset before the headers", "500", "422"],
)
async def test_no_library_sends_a_question_twice_by_itself(
    llm: Llm, dialect: Dialect, failure: Behaviour, *, streamed: bool
) -> None:
    async with speaking(dialect, failure) as server:
        with pytest.raises(ModelError):
            await ask(llm, target(dialect, server), streamed=streamed)
        assert len(server.received) == 1
