"""From a claimed row to what a model is asked: the row, its pictures, the messages.

Invariants: no connection is held while a picture is fetched; the row's own bytes have room while they are read, and what its
pictures became has room until ``rooms`` is closed.
"""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from draftd import db
from draftd.errors import ImageGone, InvalidRequest
from draftd.images import ByteBudget, ImageLoader, Picture
from draftd.queue.attempts import read_request
from draftd.reply.agents import Agent
from draftd.reply.attempt import Attempt
from draftd.reply.kept_pictures import Album
from draftd.reply.prompts import render
from draftd.reply.reply_format import ReplyFormat
from draftd.request import Options, Request

Message = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What is asked of the models, whichever of them is asked."""

    messages: list[Message]
    reply_format: ReplyFormat
    prompt_version: str
    params: Mapping[str, Any]
    """Of the model call, as the agent sets them."""
    images: list[dict[str, Any]] | None
    """Each picture as it was read, for the row's ``images``; None for a refinement."""
    max_tokens: Mapping[str, int] = field(default_factory=dict)
    """The limit of output tokens that an earlier attempt found each model to need, by the model's name."""


class InputReader:
    """Reads inputs.

    Args:
        link: the connection that inputs are read on.
        budget: bounds the bytes of rows' pictures in this process.
        loader: fetches and prepares pictures.
    """

    def __init__(self, *, link: db.Link, budget: ByteBudget, loader: ImageLoader) -> None:
        self._link = link
        self._budget = budget
        self._loader = loader

    async def read(self, attempt: Attempt, agent: Agent, *, album: Album, rooms: AsyncExitStack) -> Inputs:
        """Return what a model is asked.

        Args:
            attempt: whose row is read.
            agent: who answers.
            album: has what an earlier attempt fetched, and keeps it for the next one.
            rooms: where the pictures have their room, for as long as it is open.

        Raises:
            RequestError: the row, or one of its pictures, cannot be used.
            LeaseLost: the row is no longer ours.
        """
        async with self._budget.reserve(attempt.claim.image_bytes, time_s=attempt.time_for_images_s()):
            request = await read_request(self._link, attempt.claim)
            options = Options.read(request.options)
            pictures = await self._load(attempt, request, album, rooms)
            is_truncated = any(picture.truncated for picture in pictures)
            reply_format = agent.reply_format(request, options, is_truncated=is_truncated)
            # In a thread: twelve large parts take 30 ms to become base64, and other requests would wait for as long.
            messages = await asyncio.to_thread(
                render, agent, request=request, options=options, pictures=pictures, schema=reply_format.schema
            )
            album.show(pictures, messages)
        return Inputs(
            messages=messages,
            reply_format=reply_format,
            prompt_version=agent.version,
            params=agent.params,
            max_tokens=request.max_tokens,
            images=None if request.parent else [picture.record() for picture in pictures],
        )

    async def _load(self, attempt: Attempt, request: Request, album: Album, rooms: AsyncExitStack) -> list[Picture]:
        if request.parent is not None:
            return []
        if not request.image_urls:
            raise InvalidRequest("the request to refine has no drafts")
        if any(url.startswith("sha256:") for url in request.image_urls):
            raise ImageGone
        album.begin(request.image_urls)
        return await self._loader.load(request.image_urls, album=album, rooms=rooms, time_s=attempt.time_for_images_s())
