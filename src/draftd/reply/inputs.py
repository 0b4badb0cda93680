"""From a claimed row to the input of a model call: the row, its pictures, the messages.

Invariants: no database connection is held while a picture is fetched; memory is reserved for the row while it is read, and for
its pictures until the attempt ends.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from draftd import db
from draftd.errors import ImageGone, InvalidRequest
from draftd.images import ByteBudget, ImageLoader, Picture
from draftd.queue.attempts import read_request
from draftd.reply import refinement, requester
from draftd.reply.agents import Agent
from draftd.reply.attempt import Attempt
from draftd.reply.kept_pictures import AttemptPictures
from draftd.reply.prompts import render
from draftd.reply.reply_format import ReplyFormat
from draftd.request import Request

Message = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The input of an attempt's model calls."""

    messages: list[Message]
    reply_format: ReplyFormat
    prompt_version: str
    params: Mapping[str, Any]
    """The agent's model parameters."""
    images: list[dict[str, Any]] | None
    """A record of each picture for the row's ``images``; None for a refinement."""
    max_tokens: Mapping[str, int] = field(default_factory=dict)
    """The output token limit that an earlier attempt found each model to need, by its name."""


class InputReader:
    """Reads inputs.

    Args:
        link: the connection that rows are read on.
        budget: limits the memory for rows in this process.
        loader: fetches and prepares pictures.
    """

    def __init__(self, *, link: db.Link, budget: ByteBudget, loader: ImageLoader) -> None:
        self._link = link
        self._budget = budget
        self._loader = loader

    async def read(self, attempt: Attempt, agent: Agent, pictures: AttemptPictures) -> Inputs:
        """Return the input of the attempt's model calls.

        Args:
            attempt: the attempt.
            agent: the request's agent.
            pictures: kept by an earlier attempt; takes over those of this one, and reserves their memory.

        Raises:
            RequestError: the row or one of its pictures cannot be used.
            LeaseLost: the claim no longer holds the row.
        """
        async with self._budget.reserve(attempt.claim.image_bytes, time_s=attempt.time_for_images_s()):
            request = await read_request(self._link, attempt.claim)
            options = requester.with_profile(request, refinement.options_of(request))
            loaded = await self._load(attempt, request, pictures)
            is_truncated = any(picture.truncated or picture.one_of_several for picture in loaded)
            reply_format = agent.reply_format(request, options, is_truncated=is_truncated, prompt=agent.wording)
            # In a thread: encoding twelve large parts in base64 takes 30 ms and would block the event loop.
            messages = await asyncio.to_thread(render, agent, request=request, options=options, pictures=loaded)
            pictures.move_to_messages(loaded, messages)
        return Inputs(
            messages=messages,
            reply_format=reply_format,
            prompt_version=agent.version,
            params=agent.params,
            images=None if request.parent else [picture.record() for picture in loaded],
            max_tokens=request.max_tokens,
        )

    async def _load(self, attempt: Attempt, request: Request, pictures: AttemptPictures) -> list[Picture]:
        if request.parent is not None:
            return []
        if not request.image_urls:
            raise InvalidRequest("the parent request has no drafts to refine")
        if any(url.startswith("sha256:") for url in request.image_urls):
            raise ImageGone
        pictures.set_urls(request.image_urls)
        return await self._loader.load(
            request.image_urls,
            kept=pictures,
            reservations=pictures.reservations,
            time_s=attempt.time_for_images_s(),
        )
