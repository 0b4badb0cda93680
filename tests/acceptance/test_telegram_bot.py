"""The example's Telegram bot beside a real daemon, with a stand-in of Telegram and the rights of one user at a time."""

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from draftd.db.grants import backend
from draftd.demo.samples import EMAIL, LINKEDIN_POST, PHONE_CHAT
from fix_daemon import KEPT_VARIABLES, Running, wait_until
from fix_docs import blocks
from fix_roles import Roles
from fix_telegram import TOKEN, FakeTelegram, Message

BOT = Path(__file__).parents[2] / "examples" / "telegram_bot" / "bot.py"
ANN, BEA, STRANGER = 7001, 7002, 666
MAX_LINES = 150
ALL_LINES = 280
IDENTITY = "nullif(current_setting('request.jwt.claims', true), '')::json ->> 'sub'"
TOO_MANY = "You have many screenshots waiting."
FINISHED = "Others"
"""A button that stands below drafts that are all there."""


class Bot:
    """The bot as a process that can be ended and started again."""

    def __init__(self, database_url: str, role: str, telegram: FakeTelegram, log: Path) -> None:
        self.database_url, self.role = database_url, role
        self._variables = {
            "TELEGRAM_BOT_TOKEN": TOKEN,
            "TELEGRAM_API": telegram.url,
            "TELEGRAM_USERS": f"{ANN}, {BEA}",
            "DATABASE_URL": database_url,
            "USER_ROLE": role,
        }
        self.log_path = log
        self.start()

    def start(self, **variables: str) -> None:
        """Start it, with other values of some variables."""
        kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        given = kept | self._variables | variables
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen([sys.executable, BOT], env=given, stdout=log, stderr=log)

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
def bot(running: Running, telegram: FakeTelegram, roles_of: Callable[[str], Roles], tmp_path: Path) -> Iterator[Bot]:
    """A running bot, whose login has no rights but to become an end user."""
    running.stand_in.reset()
    running.client.query("DELETE FROM draft_requests")
    roles = roles_of(running.url)
    user, login = roles.make(), roles.make(options="NOINHERIT")
    roles.owner(backend(schema="public", client=user, worker=None, trusted=False, identity=IDENTITY))
    roles.owner(sql.SQL("GRANT {} TO {}").format(sql.Identifier(user), sql.Identifier(login)))
    started = Bot(roles.url(login), user, telegram, tmp_path / "bot.log")
    yield started
    started.kill()
    running.stand_in.reset()
    running.stand_in.release()


def picture(sample: Any = EMAIL) -> bytes:
    data: bytes = sample.path.read_bytes()
    return data


def nth_message(telegram: FakeTelegram, number: int, bot: Bot) -> Message:
    """Wait for the bot's message of this number, and return it."""
    wait_until(lambda: len(telegram.messages) > number, 60, what=bot.log_path.read_text)
    return telegram.messages[number]


def finished(telegram: FakeTelegram, number: int, bot: Bot) -> Message:
    """Wait until the message of this number shows all drafts, and return it."""
    message = nth_message(telegram, number, bot)
    wait_until(lambda: FINISHED in message.buttons, 90, what=lambda: (message, bot.log_path.read_text()))
    return message


def rows(running: Running) -> list[dict[str, Any]]:
    return running.client.query("SELECT * FROM draft_requests ORDER BY created_at")


def test_a_photo_becomes_drafts_that_appear_one_after_the_other(
    running: Running, telegram: FakeTelegram, bot: Bot
) -> None:
    running.stand_in.script({"stall_after": '"medium_stance"'})
    telegram.sends(ANN, picture=picture(), caption="Thursday suits me")
    message = nth_message(telegram, 0, bot)
    wait_until(lambda: "Writing … 1 of 3" in message.text, 60, what=lambda: (message, bot.log_path.read_text()))
    assert "Thursday at 14:00 works." in message.text
    assert message.buttons == {}
    running.stand_in.release()
    finished(telegram, 0, bot)
    places = [message.text.index(f"<b>{length}") for length in ("Short", "Medium", "Detailed")]
    assert places == sorted(places)
    assert "<b>Short · accepts · confirms Thursday</b>" in message.text
    (row,) = rows(running)
    assert (row["requester_id"], row["context"], row["status"]) == (f"telegram {ANN}", "Thursday suits me", "completed")
    assert row["image_urls"][0].startswith("sha256:")
    assert len(telegram.messages) == 1


@pytest.mark.long
@pytest.mark.skipif(shutil.which("psql") is None, reason="needs psql")
def test_after_the_steps_of_the_page_the_bot_drafts(
    running: Running, telegram: FakeTelegram, roles_of: Callable[[str], Roles], tmp_path: Path
) -> None:
    running.stand_in.reset()
    running.client.query("DELETE FROM draft_requests")
    steps = blocks((BOT.parents[1] / "README.md").read_text(), "sh")[0]
    suffix = secrets.token_hex(6)
    script = f"set -eu\n{steps}".replace("telegram_", f"telegram_{suffix}_")
    user, login = f"telegram_{suffix}_user", f"telegram_{suffix}_bot"
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "DRAFTD_DATABASE_URL": running.url,
    }
    try:
        done = subprocess.run(
            ["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        url = make_conninfo(running.url, user=login, password="choose-one")
        bot = Bot(url, user, telegram, tmp_path / "bot.log")
        telegram.sends(ANN, picture=picture())
        finished(telegram, 0, bot)
        bot.kill()
    finally:
        roles = roles_of(running.url)
        roles.drop_owned(user)
        roles.owner(f"DROP ROLE {login}, {user}")


def test_an_album_is_one_request(running: Running, telegram: FakeTelegram, bot: Bot) -> None:
    telegram.later(ANN, picture=picture(LINKEDIN_POST), media_group_id="a1", caption="all three")
    telegram.later(BEA, picture=picture(PHONE_CHAT))
    telegram.later(ANN, picture=picture(PHONE_CHAT), media_group_id="a1")
    telegram.sends(ANN, picture=picture(EMAIL), media_group_id="a1")
    finished(telegram, 0, bot)
    finished(telegram, 1, bot)
    found = {row["requester_id"]: (len(row["images"]), row["context"]) for row in rows(running)}
    assert found == {f"telegram {ANN}": (3, "all three"), f"telegram {BEA}": (1, None)}


@pytest.mark.long
def test_a_screenshot_sent_as_a_file_is_drafted_too_and_a_text_is_answered_with_help(
    running: Running, telegram: FakeTelegram, bot: Bot
) -> None:
    telegram.sends(ANN, text="hello")
    assert "Send me a screenshot" in nth_message(telegram, 0, bot).text
    telegram.sends(ANN, picture=picture(), kind="document")
    finished(telegram, 1, bot)
    assert len(rows(running)) == 1


@pytest.mark.parametrize(
    ("button", "context", "options"),
    [
        pytest.param("Others", None, {}, marks=pytest.mark.long),
        ("Shorter", "Make all three shorter: about half as long, with the same message.", {}),
        pytest.param("Decline", None, {"stance": "decline"}, marks=pytest.mark.long),
        pytest.param("Ana: asks about prices", None, {"answer_to": "t1"}, marks=pytest.mark.long),
    ],
)
def test_a_button_refines_the_drafts_in_a_message_of_their_own(
    running: Running, telegram: FakeTelegram, bot: Bot, button: str, context: str | None, options: dict[str, str]
) -> None:
    running.stand_in.script(default={"fields": {"other_targets": ["Ana: asks about prices"]}})
    telegram.sends(ANN, picture=picture())
    first = finished(telegram, 0, bot)
    telegram.presses(ANN, first.buttons[button])
    finished(telegram, 1, bot)
    parent, child = rows(running)
    assert child["parent_id"] == parent["id"]
    assert (child["context"], child["options"]) == (context, {"max_chars": 750, **options})
    assert telegram.answers == [""]


def test_a_strangers_press_is_refused_whatever_its_data(running: Running, telegram: FakeTelegram, bot: Bot) -> None:
    telegram.sends(ANN, picture=picture())
    data = finished(telegram, 0, bot).buttons["Others"]
    for user in (STRANGER, BEA):
        telegram.presses(user, data)
    telegram.wait_for_call("answerCallbackQuery", 2)
    assert telegram.answers == ["Not your drafts."] * 2
    telegram.presses(ANN, "others '; DROP TABLE draft_requests")
    assert "that did not work" in nth_message(telegram, 1, bot).text
    assert len(rows(running)) == 1


ATTACKS = (
    "others {id}",
    "accept {id}",
    "t1 {id}",
    "others {ID}",
    "others {{{id}}}",
    "others {id} ",
    "others\n{id}",
    "others {id}' OR requester_id <> '",
    "others {id}}}' OR requester_id <> '",
)


def test_no_data_of_a_button_reaches_another_users_drafts(running: Running, telegram: FakeTelegram, bot: Bot) -> None:
    running.stand_in.script(default={"fields": {"short": "Stand-in reply: the secret of Ann."}})
    telegram.sends(ANN, picture=picture())
    finished(telegram, 0, bot)
    (row,) = rows(running)
    for attack in ATTACKS:
        telegram.presses(BEA, attack.format(id=row["id"], ID=str(row["id"]).upper()))
    telegram.sends(BEA, text="the last one")
    wait_until(lambda: "Send me" in telegram.messages[-1].text, 60, what=bot.log_path.read_text)
    assert rows(running) == [row]
    assert "Ann" not in str([message.texts for message in telegram.messages if message.chat == BEA])


def test_a_mistake_in_the_bot_cannot_reach_another_users_drafts(
    running: Running, telegram: FakeTelegram, bot: Bot
) -> None:
    telegram.sends(ANN, picture=picture())
    finished(telegram, 0, bot)
    (row,) = rows(running)
    acts_for_bea = json.dumps({"sub": f"telegram {BEA}"})
    with psycopg.connect(bot.database_url) as connection:
        for statement in (
            "SELECT status FROM draft_replies WHERE id = %(id)s",
            "SELECT status FROM draft_requests WHERE requester_id LIKE 'telegram %%'",
            "UPDATE draft_requests SET status = 'cancelled' RETURNING id",
            "DELETE FROM draft_replies RETURNING id",
            "SELECT 1 WHERE cancel_draft_request(%(id)s)",
            "SELECT create_draft_request(jsonb_build_object('parent_id', %(id)s::text))",
            'SELECT create_draft_request(\'{{"requester_id": "telegram {ann}", "image_urls": ["https://e.example/x.png"]}}\')',
            "INSERT INTO draft_feedback (request_id, rating) VALUES (%(id)s, 1) RETURNING id",
            "RESET ROLE; SELECT status FROM draft_requests",
            "SET ROLE NONE; SELECT status FROM draft_replies",
        ):
            try:
                connection.execute("SELECT set_config('role', %s, true)", [bot.role])
                connection.execute("SELECT set_config('request.jwt.claims', %s, true)", [acts_for_bea])
                values = {"id": row["id"]} if "%(id)s" in statement else None
                cursor = connection.execute(statement.format(ann=ANN).replace("%%", "%").encode(), values)
                while cursor.nextset():
                    pass
                assert cursor.fetchall() == [], statement
            except (psycopg.errors.InsufficientPrivilege, psycopg.IntegrityError):
                pass
            finally:
                connection.rollback()
    assert rows(running) == [row]


@pytest.mark.long
def test_who_has_too_many_screenshots_waiting_is_told_so(running: Running, telegram: FakeTelegram, bot: Bot) -> None:
    full = f"telegram {ANN}"
    running.client.query("INSERT INTO draft_limits (requester_id, max_pending) VALUES (%s, 0)", full)
    try:
        telegram.sends(ANN, picture=picture())
        telegram.sends(BEA, picture=picture())
        wait_until(lambda: any(one.buttons for one in telegram.messages), 90, what=bot.log_path.read_text)
        assert [message.chat for message in telegram.messages] == [ANN, BEA]
        assert TOO_MANY in telegram.messages[0].text
    finally:
        running.client.query("DELETE FROM draft_limits WHERE requester_id = %s", full)


def test_who_was_taken_off_the_list_can_press_no_button(running: Running, telegram: FakeTelegram, bot: Bot) -> None:
    telegram.sends(ANN, picture=picture())
    data = finished(telegram, 0, bot).buttons["Others"]
    bot.kill()
    bot.start(TELEGRAM_USERS=str(BEA))
    telegram.presses(ANN, data)
    telegram.wait_for_call("answerCallbackQuery")
    assert telegram.answers == ["Not your drafts."]
    assert len(rows(running)) == 1


@pytest.mark.long
def test_an_update_that_the_bot_did_not_ask_for_stops_nobody(telegram: FakeTelegram, bot: Bot) -> None:
    telegram.delivers(edited_message={"message_id": 1, "chat": {"id": ANN}})
    telegram.delivers(message={"message_id": 2, "chat": {"id": ANN}, "photo": [{"file_id": "unknown"}]})
    assert "that did not work" in nth_message(telegram, 0, bot).text
    telegram.sends(ANN, text="hello")
    assert "Send me a screenshot" in nth_message(telegram, 1, bot).text


def test_who_is_not_on_the_list_gets_no_drafts(running: Running, telegram: FakeTelegram, bot: Bot) -> None:
    telegram.sends(STRANGER, picture=picture())
    telegram.sends(ANN, picture=picture(), chat={"id": -5, "type": "group"})
    nth_message(telegram, 1, bot)
    assert [message.text for message in telegram.messages] == [
        f"Sorry, I don't know {STRANGER}.",
        "Sorry, I don't know -5.",
    ]
    assert rows(running) == []


def test_a_restart_loses_no_screenshot_and_no_drafts(running: Running, telegram: FakeTelegram, bot: Bot) -> None:
    running.stand_in.script({"stall_after": '"medium_stance"'})
    update = telegram.sends(ANN, picture=picture())
    message = nth_message(telegram, 0, bot)
    wait_until(lambda: "1 of 3" in message.text, 60, what=lambda: (message, bot.log_path.read_text()))
    bot.kill()
    running.stand_in.release()
    (row,) = rows(running)
    running.client.wait_for(str(row["id"]), "completed")
    telegram.sends_again(update)
    telegram.sends(BEA, picture=picture())
    bot.start()
    finished(telegram, 0, bot)
    finished(telegram, 1, bot)
    assert [one.chat for one in telegram.messages] == [ANN, BEA]
    assert len(rows(running)) == 2


@pytest.mark.long
def test_what_goes_wrong_is_said_kindly_and_stops_nobody_else(
    running: Running, telegram: FakeTelegram, bot: Bot
) -> None:
    telegram.blocked_by.add(ANN)
    telegram.sends(ANN, photo=[{"file_id": "unknown"}])
    telegram.wait_for_call("sendMessage")
    telegram.blocked_by.clear()
    telegram.sends(ANN, photo=[{"file_id": "unknown"}])
    assert nth_message(telegram, 0, bot).text == "Sorry, that did not work. Please send it again."
    running.stand_in.script({"nothing": True})
    telegram.sends(BEA, picture=picture())
    message = nth_message(telegram, 1, bot)
    wait_until(lambda: "no message to reply to" in message.text, 60, what=lambda: (message, bot.log_path.read_text()))
    assert message.buttons == {}


@pytest.mark.long
def test_telegrams_outage_and_its_wish_to_wait_are_borne(telegram: FakeTelegram, bot: Bot) -> None:
    wait = {"error_code": 429, "parameters": {"retry_after": 0}}
    telegram.failures += [wait, wait, wait]
    telegram.sends(ANN, picture=picture())
    finished(telegram, 0, bot)
    assert bot.process.poll() is None


@pytest.mark.long
def test_a_restart_of_the_database_is_borne(running: Running, telegram: FakeTelegram, bot: Bot) -> None:
    telegram.sends(ANN, text="hello")
    nth_message(telegram, 0, bot)
    telegram.wait_for_call("getUpdates", 2)  # which confirms the first update
    bots = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND usename LIKE %s"
    running.client.query(f"SELECT pg_terminate_backend(pid) FROM ({bots}) AS bots", "draftd_test %")
    telegram.sends(ANN, picture=picture())
    finished(telegram, 1, bot)
    assert bot.process.poll() is None
    assert "the database is away" in bot.log_path.read_text()


def test_texts_stay_texts_and_what_has_no_source_is_pointed_out(
    running: Running, telegram: FakeTelegram, bot: Bot
) -> None:
    hostile = "<b>bold</b> & <a href='https://evil.example'>x</a>"
    medium = "Stand-in reply: that is €4,250 in all, and I would gladly take it from you on any day that you like."
    running.stand_in.script(default={"fields": {"short": "<i>Yes</i> & thanks", "gist": hostile, "medium": medium}})
    telegram.sends(ANN, picture=picture())
    shown = finished(telegram, 0, bot).text
    assert "<pre>&lt;i&gt;Yes&lt;/i&gt; &amp; thanks</pre>" in shown
    assert "&lt;b&gt;bold&lt;/b&gt;" in shown
    assert "⚠️ In no source, check before sending: €4,250" in shown


@pytest.mark.long
def test_the_longest_drafts_fit_into_one_message(running: Running, telegram: FakeTelegram, bot: Bot) -> None:
    sentences = {
        "short": "Stand-in reply: the blue kettle stands beside the window in the old kitchen, near number {}. ",
        "medium": "Stand-in reply: nobody has seen a ferry leave that harbour before lunch since we met at {} there. ",
        "detailed": "Stand-in reply: my neighbour grows walnuts and lends his ladder to whoever asks for tree {} politely. ",
    }
    texts = {
        length: "".join(sentence.format(4000 + number) for number in range(7))[: 690 + 20 * place]
        for place, (length, sentence) in enumerate(sentences.items())
    }
    angles = {f"{length}_angle": "w" * 60 for length in texts}
    longest = texts | angles | {"author": "a" * 200, "gist": "g" * 300, "other_targets": [f"{'b' * 140}: {'c' * 140}"]}
    running.stand_in.script(default={"fields": longest})
    telegram.sends(ANN, picture=picture())
    shown = finished(telegram, 0, bot).text
    assert shown.count("4003") == 6
    assert len(shown) > 3000


def test_the_token_reaches_neither_the_log_nor_the_database(running: Running, telegram: FakeTelegram, bot: Bot) -> None:
    telegram.sends(ANN, photo=[{"file_id": "unknown"}])
    nth_message(telegram, 0, bot)
    telegram.sends(ANN, picture=picture())
    finished(telegram, 1, bot)
    assert TOKEN not in bot.log_path.read_text()
    assert TOKEN not in str(rows(running))


def test_it_has_at_most_150_lines_and_all_three_files_280() -> None:
    assert len(BOT.read_text().splitlines()) <= MAX_LINES
    assert sum(len(file.read_text().splitlines()) for file in BOT.parent.glob("*.py")) <= ALL_LINES
