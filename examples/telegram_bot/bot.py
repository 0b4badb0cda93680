"""A Telegram bot for draftd: screenshots in, three replies out, in one message that grows as they are written.

It keeps no state: a row's metadata names the message that shows it, and an update is confirmed once its row exists; if it comes
again, the idempotency key finds that row. So a restart loses nothing.

It has no rights of its own. Each statement runs with those of one Telegram user (``Bot.rows``), so a mistake anywhere else cannot
show or change another user's drafts.
"""

import asyncio
import json
import logging
import os
from contextlib import suppress
from typing import Any

import psycopg
from bot_api import Telegram, TelegramError
from messages import HELP, change_of, message_of, pictures_of, sorry_for, user_of
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

TOKEN, DATABASE_URL = os.environ["TELEGRAM_BOT_TOKEN"], os.environ["DATABASE_URL"]
USERS, ROLE = {int(user) for user in os.environ["TELEGRAM_USERS"].split(",")}, os.environ["USER_ROLE"]
API = os.environ.get("TELEGRAM_API", "https://api.telegram.org")
POLL_S, RETRY_S, MAX_PICTURES = 2.0, 3.0, 8
ACT = "SELECT set_config('role', %s, true), set_config('request.jwt.claims', %s, true)"
LATELY = "SELECT id::text FROM draft_replies WHERE metadata ? 'telegram' AND created_at > now() - interval '1 day'"
ROWS = """SELECT id::text, status, metadata -> 'telegram' AS place, error_message,
                 coalesce(result, partial_result, '{}') AS result FROM draft_replies WHERE id = ANY (%s::uuid[])"""
log = logging.getLogger("bot")


class Bot:
    """What the two tasks share: Telegram, the database, and what is shown of each user's unfinished requests."""

    def __init__(self, telegram: Telegram, database: psycopg.AsyncConnection[dict[str, Any]]) -> None:
        self.call, self.telegram, self.database, self.turn = telegram.call, telegram, database, asyncio.Lock()
        self.shown: dict[int, dict[str, Any]] = {user: {} for user in USERS}

    async def rows(self, user: int, statement: str, *params: Any) -> list[dict[str, Any]]:
        """Return the rows of a statement, run with a user's rights. Nothing else here uses the tables."""
        async with self.turn, self.database.transaction():
            await self.database.execute(ACT, [ROLE, json.dumps({"sub": f"telegram {user}"})])
            return await (await self.database.execute(statement.encode(), params)).fetchall()

    async def receive(self) -> None:
        """Handle what users send and press."""
        async for group in self.telegram.updates():
            press = group[0].get("callback_query")
            try:
                await (self.press(press) if press else self.take([one["message"] for one in group]))
            except psycopg.OperationalError:
                raise  # not confirmed: it comes again
            except Exception as error:  # one update that cannot be handled must not stop the others
                log.exception("update %s", group[0]["update_id"])
                with suppress(TelegramError):  # its user may have blocked the bot
                    await self.call("sendMessage", chat_id=user_of(group[0]), text=sorry_for(error))

    async def take(self, messages: list[dict[str, Any]]) -> None:
        """Draft for a message, or for those of an album."""
        first, chat, pictures = messages[0], messages[0]["chat"]["id"], pictures_of(messages)
        if chat not in USERS or not pictures:
            await self.call("sendMessage", chat_id=chat, text=HELP if chat in USERS else f"Sorry, I don't know {chat}.")
            return
        urls = [await self.telegram.picture(picture) for picture in pictures[:MAX_PICTURES]]
        caption = next((one["caption"] for one in messages if one.get("caption")), None)
        key = f"message {first.get('media_group_id') or first['message_id']}"
        await self.draft(chat, key, first["message_id"], image_urls=urls, context=caption)

    async def press(self, press: dict[str, Any]) -> None:
        """Refine drafts. Whoever presses can send any data: with the user's rights, only the user's own drafts are found."""
        user, (action, _, parent) = press["from"]["id"], press["data"].partition(" ")
        own = await self.rows(user, ROWS, [parent]) if user in USERS else []
        if own:
            about, change = own[0]["place"]["message_id"], change_of(action)
            await self.draft(user, f"press {press['id']}", about, parent_id=parent, **change)
        await self.call("answerCallbackQuery", callback_query_id=press["id"], text="" if own else "Not your drafts.")

    async def draft(self, user: int, key: str, about: int, **request: Any) -> None:
        """Insert a request, and send the message that will show it."""
        if await self.rows(user, "SELECT FROM draft_replies WHERE idempotency_key = %s", key):
            return
        reply = {"message_id": about, "allow_sending_without_reply": True}
        sent = await self.call("sendMessage", chat_id=user, text="Reading …", reply_parameters=reply)
        place = {"chat_id": user, "message_id": sent["message_id"]}
        request |= {"idempotency_key": key, "metadata": {"telegram": place}}
        request["options"] = {"max_chars": 750, **request.get("options", {})}  # a message has 4,096
        try:
            (row,) = await self.rows(user, "SELECT create_draft_request(%s) ->> 'id' AS id", Jsonb(request))
        except psycopg.Error:
            with suppress(TelegramError):
                await self.call("deleteMessage", **place)
            raise
        self.shown[user][row["id"]] = None

    async def deliver(self) -> None:
        """Show what is new, when draftd says so and every few seconds, from the requests of the last day on."""
        async with await psycopg.AsyncConnection.connect(DATABASE_URL, autocommit=True) as listener:
            await listener.execute("LISTEN draft_results")
            for user, shown in self.shown.items():
                shown |= {row["id"]: None for row in await self.rows(user, LATELY)}
            while True:
                for user, shown in self.shown.items():
                    for row in await self.rows(user, ROWS, list(shown)) if shown else []:
                        await self.show(row, shown)
                async for _ in listener.notifies(timeout=POLL_S, stop_after=1):
                    pass

    async def show(self, row: dict[str, Any], shown: dict[str, Any]) -> None:
        """Show what is new of a request."""
        if shown[row["id"]] != (message := message_of(row)):
            shown[row["id"]] = message
            with suppress(TelegramError):  # it shows that already, or was deleted
                await self.call("editMessageText", **row["place"], **message)
        if row["status"] not in {"pending", "processing"}:
            del shown[row["id"]]


async def main() -> None:
    """Run until stopped; begin again when the database was away."""
    telegram = Telegram(API, TOKEN)
    while True:
        try:
            async with (
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
