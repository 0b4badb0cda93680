"""The doctor's question to a model: asked as a daemon asks, so that what works here works there.

The agent's own prompt and parameters, streamed, with a picture that went the way of all pictures. It shows a message with a code
word that stands nowhere else: a model that does not see cannot repeat it.
"""

import re
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any

from draftd.daemon.parts import image_loader
from draftd.demo import code_word
from draftd.errors import ModelError, RequestError
from draftd.providers.known_providers import provider_of
from draftd.providers.llm import Completion, Llm
from draftd.providers.target import Target
from draftd.reply.agents import Agent
from draftd.reply.fallback import call_params
from draftd.reply.prompts import render
from draftd.reply.reply_format import PartialAnswer
from draftd.request import Options, Request
from draftd.settings import Settings

PICTURE_TOKENS = 1_600
"""Of a screenshot as large as draftd sends one, where pictures take most."""
ANSWER_TOKENS = 1_500
"""Of three replies with the reading of a screenshot; reasoning comes on top."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """How a model did."""

    ok: bool
    detail: str


class ModelCheck:
    """Asks models.

    Args:
        llm: the door to the models.
        settings: a daemon's.
    """

    def __init__(self, *, llm: Llm, settings: Settings) -> None:
        self._llm = llm
        self._settings = settings
        # Nothing is fetched, and a list of hosts that is malformed has a check of its own.
        self._loader = image_loader(settings.model_copy(update={"allow_private_image_hosts": ()}))

    async def ask(self, agent: Agent, target: Target) -> Answered:
        """Ask a model on behalf of an agent."""
        asked = replace(target, params=call_params(target, agent.params))
        try:
            return await self._ask(agent, asked)
        except ModelError as error:
            reason = error.message.removeprefix(f"{target.name}: ")
            return Answered(ok=False, detail=f"{target.name}: {error.code}: {reason}")
        except RequestError as error:
            return Answered(ok=False, detail=f"{target.name}: not asked: {error.code}: {error.message}")

    async def _ask(self, agent: Agent, target: Target) -> Answered:
        word = code_word.random_word()
        request = Request(image_urls=(code_word.picture(word),), context=None, options={}, parent=None)
        options = Options.read(request.options)
        reply_format = agent.reply_format(request, options, is_truncated=False, prompt=agent.wording)
        watch = _Watch(reply_format.partial())
        async with AsyncExitStack() as reservations:
            time_s = self._settings.model_timeout_s
            pictures = await self._loader.load(request.image_urls, reservations=reservations, time_s=time_s)
            messages = render(agent, request=request, options=options, pictures=pictures)
            done = await self._llm.complete(
                target, messages, schema=reply_format.schema, time_s=time_s, on_text=watch.on_text
            )
        asked = target.name if target.name == target.model else f"{target.name} ({target.model})"
        detail = f"{asked} answers in {done.elapsed_s:.1f} s ({done.mode})"
        if not re.search(rf"(?<![A-Z]){word}(?![A-Z])", done.text):
            # Some servers drop the picture if their model cannot see, and let the model make something up.
            return Answered(ok=False, detail=f"{detail}, but did not read the code word in a picture")
        if why := await self._window_fault(target, done, messages):
            return Answered(ok=False, detail=f"{detail}, but {why}")
        return Answered(ok=True, detail=f"{detail}, {watch.told()}")

    async def _window_fault(self, target: Target, done: Completion, messages: list[dict[str, Any]]) -> str | None:
        """Return why Ollama's window is too small: it cuts a prompt off without an error."""
        if provider_of(target.model) not in {"ollama", "ollama_chat"}:
            return None
        window = await self._llm.ollama_window(target)
        needed = max(done.spent.input_tokens or 0, len(messages[0]["content"]) // 4) + PICTURE_TOKENS + ANSWER_TOKENS
        if window is None or window >= needed:
            return None
        return f"its window of {window:,} tokens holds no prompt, picture and answer ({needed:,}): set num_ctx"


class _Watch:
    """Sees when the first option could be shown."""

    def __init__(self, answer: PartialAnswer) -> None:
        self._answer = answer
        self._began = time.monotonic()
        self._first_s: float | None = None
        self._ready_at_first = 0

    async def on_text(self, text: str) -> None:
        """Take the whole text so far."""
        if self._answer.feed(text) is not None and self._first_s is None:
            self._first_s = time.monotonic() - self._began
            self._ready_at_first = self._answer.options_ready

    def told(self) -> str:
        """Say it."""
        if self._first_s is None or self._ready_at_first == self._answer.options_ready:
            return "but shows no option before all are written"
        return f"the first option after {self._first_s:.1f} s"
