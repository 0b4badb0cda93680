"""A Telegram bot for draftd: screenshots in, three replies out, in one message that grows as they are written.

It keeps no state: a row's metadata names the message that shows it, and an update is confirmed once its row exists; if it comes
again, the idempotency key finds that row. So a restart loses nothing.
"""

import asyncio
import base64
import logging
import os
from contextlib import suppress
from typing import Any

import httpx
import psycopg
from messages import HELP, SORRY, albums_of, change_of, message_of, pictures_of, user_of
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

TOKEN, DATABASE_URL = os.environ["TELEGRAM_BOT_TOKEN"], os.environ["DATABASE_URL"]
USERS = {int(user) for user in os.environ["TELEGRAM_USERS"].split(",")}
API = os.environ.get("TELEGRAM_API", "https://api.telegram.org")
ALBUM_S, POLL_S, RETRY_S, LONG_POLL_S, MAX_PICTURES = 1.0, 2.0, 3.0, 50, 8
LATELY = "SELECT id::text FROM draft_requests WHERE metadata ? 'telegram' AND created_at > now() - interval '1 day'"
ROWS = """SELECT id::text, status, metadata -> 'telegram' AS place, error_message,
                 coalesce(result, partial_result, '{}') AS result FROM draft_requests WHERE id = ANY (%s::uuid[])"""
log = logging.getLogger("bot")


class TelegramError(Exception):
    """Telegram refused a call."""


class Bot:
    """What the two tasks share: Telegram, the database, and what is shown of each request that is not finished."""

    def __init__(self, telegram: httpx.AsyncClient, database: psycopg.AsyncConnection[dict[str, Any]]) -> None:
        self.telegram, self.database, self.shown = telegram, database, dict[str, Any]()

    async def call(self, method: str, **params: Any) -> Any:
        """Call a method of the Bot API; wait while Telegram is away or asks to."""
        while True:
            try:
                answer = (await self.telegram.post(f"/bot{TOKEN}/{method}", json=params)).json()
            except (httpx.TransportError, ValueError):
                answer = {"error_code": 500}
            if answer.get("ok"):
                return answer["result"]
            if answer["error_code"] < 500 and answer["error_code"] != 429:
                raise TelegramError(f"{method}: {answer['description']}")
            await asyncio.sleep(answer.get("parameters", {}).get("retry_after", RETRY_S))

    async def rows(self, statement: str, *params: Any) -> list[dict[str, Any]]:
        """Return the rows of a statement."""
        return await (await self.database.execute(statement.encode(), params)).fetchall()

    async def receive(self) -> None:
        """Handle updates. Each picture of an album is an update of its own: wait until no more come."""
        wanted: dict[str, Any] = {"offset": 0, "allowed_updates": ["message", "callback_query"]}
        while True:
            seen, updates = 0, await self.call("getUpdates", timeout=LONG_POLL_S, **wanted)
            while len(updates) > seen and any("media_group_id" in one.get("message", ()) for one in updates):
                await asyncio.sleep(ALBUM_S)
                seen, updates = len(updates), await self.call("getUpdates", timeout=0, **wanted)
            for group in albums_of(updates):
                press = group[0].get("callback_query")
                try:
                    await (self.press(press) if press else self.take([one["message"] for one in group]))
                except psycopg.OperationalError:
                    raise  # not confirmed: it comes again
                except Exception:  # one update that cannot be handled must not stop the others
                    log.exception("update %s", group[0]["update_id"])
                    with suppress(TelegramError):  # its user may have blocked the bot
                        await self.call("sendMessage", chat_id=user_of(group[0]), text=SORRY)
            wanted["offset"] = updates[-1]["update_id"] + 1 if updates else wanted["offset"]

    async def take(self, messages: list[dict[str, Any]]) -> None:
        """Draft for a message, or for those of an album."""
        first, chat, pictures = messages[0], messages[0]["chat"]["id"], pictures_of(messages)
        if chat not in USERS or not pictures:
            await self.call("sendMessage", chat_id=chat, text=HELP if chat in USERS else f"Sorry, I don't know {chat}.")
            return
        urls = [await self.download(picture) for picture in pictures[:MAX_PICTURES]]
        caption = next((one["caption"] for one in messages if one.get("caption")), None)
        key = f"message {first.get('media_group_id') or first['message_id']}"
        await self.draft(chat, key, first["message_id"], image_urls=urls, context=caption)

    async def press(self, press: dict[str, Any]) -> None:
        """Refine drafts. Whoever presses can send any data: the user must be known, and the drafts their own."""
        user, (action, _, parent) = press["from"]["id"], press["data"].partition(" ")
        own = await self.rows(f"{ROWS} AND requester_id = %s", [parent], f"telegram {user}") if user in USERS else []
        if own:
            about, change = own[0]["place"]["message_id"], change_of(action)
            await self.draft(user, f"press {press['id']}", about, parent_id=parent, **change)
        await self.call("answerCallbackQuery", callback_query_id=press["id"], text="" if own else "Not your drafts.")

    async def draft(self, user: int, key: str, about: int, **request: Any) -> None:
        """Insert a request, and send the message that will show it."""
        request |= {"requester_id": f"telegram {user}", "idempotency_key": key}
        known = "SELECT FROM draft_requests WHERE (requester_id, idempotency_key) = (%s, %s)"
        if not await self.rows(known, request["requester_id"], key):
            reply = {"message_id": about, "allow_sending_without_reply": True}
            sent = await self.call("sendMessage", chat_id=user, text="Reading …", reply_parameters=reply)
            request["options"] = {"max_chars": 750, **request.get("options", {})}  # a message has 4,096
            request["metadata"] = {"telegram": {"chat_id": user, "message_id": sent["message_id"]}}
            (row,) = await self.rows("SELECT create_draft_request(%s) ->> 'id' AS id", Jsonb(request))
            self.shown[row["id"]] = None

    async def download(self, file_id: str) -> str:
        """Return a picture as a data: URL; Telegram's own URL would put the bot's token into the database."""
        path = (await self.call("getFile", file_id=file_id))["file_path"]
        content = (await self.telegram.get(f"/file/bot{TOKEN}/{path}")).content  # draftd says if it is no picture
        return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"

    async def deliver(self) -> None:
        """Show what is new, when draftd says so and every few seconds, from the requests of the last day on."""
        async with await psycopg.AsyncConnection.connect(DATABASE_URL, autocommit=True) as listener:
            await listener.execute("LISTEN draft_results")
            self.shown |= {row["id"]: None for row in await self.rows(LATELY)}
            while True:
                for row in await self.rows(ROWS, list(self.shown)):
                    if self.shown[row["id"]] != (message := message_of(row)):
                        self.shown[row["id"]] = message
                        with suppress(TelegramError):  # it shows that already, or was deleted
                            await self.call("editMessageText", **row["place"], **message)
                    if row["status"] not in {"pending", "processing"}:
                        del self.shown[row["id"]]
                async for _ in listener.notifies(timeout=POLL_S, stop_after=1):
                    pass


async def main() -> None:
    """Run until stopped; begin again when the database was away."""
    logging.getLogger("httpx").setLevel(logging.WARNING)  # its lines have the token
    while True:
        try:
            async with (
                httpx.AsyncClient(base_url=API, timeout=LONG_POLL_S + 10) as telegram,
                await psycopg.AsyncConnection.connect(DATABASE_URL, autocommit=True, row_factory=dict_row) as database,
                asyncio.TaskGroup() as tasks,
            ):
                bot = Bot(telegram, database)
                tasks.create_task(bot.receive())
                tasks.create_task(bot.deliver())
        except* psycopg.OperationalError:
            log.warning("the database is away")
            await asyncio.sleep(RETRY_S)


asyncio.run(main())
