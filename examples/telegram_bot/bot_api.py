"""Telegram's Bot API, as far as the bot needs it: calls that wait while Telegram is away, updates with albums whole, pictures."""

import asyncio
import base64
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
from messages import albums_of

ALBUM_S, RETRY_S, LONG_POLL_S = 1.0, 3.0, 50
logging.getLogger("httpx").setLevel(logging.WARNING)  # its lines have the token


class TelegramError(Exception):
    """Telegram refused a call."""


class Telegram:
    """One bot at Telegram."""

    def __init__(self, api: str, token: str) -> None:
        self.http, self.token = httpx.AsyncClient(base_url=api, timeout=LONG_POLL_S + 10), token

    async def call(self, method: str, **params: Any) -> Any:
        """Call a method; wait while Telegram is away or asks to."""
        while True:
            try:
                answer = (await self.http.post(f"/bot{self.token}/{method}", json=params)).json()
            except (httpx.TransportError, ValueError):
                answer = {"error_code": 500}
            if answer.get("ok"):
                return answer["result"]
            if answer["error_code"] < 500 and answer["error_code"] != 429:
                raise TelegramError(f"{method}: {answer['description']}")
            await asyncio.sleep(answer.get("parameters", {}).get("retry_after", RETRY_S))

    async def updates(self) -> AsyncIterator[list[dict[str, Any]]]:
        """Yield messages and presses, those of an album together; asking for the next ones confirms them.

        Each picture of an album is an update of its own: wait until no more come.
        """
        wanted: dict[str, Any] = {"offset": 0, "allowed_updates": ["message", "callback_query"]}
        while True:
            seen, updates = 0, await self.call("getUpdates", timeout=LONG_POLL_S, **wanted)
            while len(updates) > seen and any("media_group_id" in one.get("message", ()) for one in updates):
                await asyncio.sleep(ALBUM_S)
                seen, updates = len(updates), await self.call("getUpdates", timeout=0, **wanted)
            for group in albums_of(updates):
                yield group
            wanted["offset"] = updates[-1]["update_id"] + 1 if updates else wanted["offset"]

    async def picture(self, file_id: str) -> str:
        """Return a picture as a data: URL; Telegram's own URL would put the bot's token into the database."""
        path = (await self.call("getFile", file_id=file_id))["file_path"]
        content = (await self.http.get(f"/file/bot{self.token}/{path}")).content  # draftd says if it is no picture
        return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
