"""What the bot reads in Telegram's messages, and what it writes: no network, no database."""

import html
from typing import Any

HELP = "Send me a screenshot of a post, an email or a chat. Its caption can say what you want to reply."
SORRY = "Sorry, that did not work. Please send it again."
TOO_MANY = "You have many screenshots waiting. Please send this one again when they are done."
SHORTER = "Make all three shorter: about half as long, with the same message."
STANCES = {"accept": "accepts", "decline": "declines", "choice": "chooses", "open": "leaves it open", "none": ""}


def albums_of(updates: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Return the messages and presses among updates, those of an album together."""
    albums: dict[Any, list[dict[str, Any]]] = {}
    for one in (one for one in updates if "message" in one or "callback_query" in one):  # others may still come
        albums.setdefault(one.get("message", {}).get("media_group_id", one["update_id"]), []).append(one)
    return list(albums.values())


def user_of(update: dict[str, Any]) -> int:
    """Return who sent a message or pressed a button."""
    return int(
        update["callback_query"]["from"]["id"] if "callback_query" in update else update["message"]["chat"]["id"]
    )


def sorry_for(error: Exception) -> str:
    """Return what a user is told about an error; PT429 is the limit of ``draftd limits``."""
    return TOO_MANY if getattr(error, "sqlstate", None) == "PT429" else SORRY


def pictures_of(messages: list[dict[str, Any]]) -> list[str]:
    """Return the file ids of the pictures in messages; a photo's largest size is its last."""
    files = [(one.get("photo") or [one.get("document")])[-1] for one in messages]
    return [one["file_id"] for one in files if one and one.get("mime_type", "image/jpeg").startswith("image/")]


def change_of(action: str) -> dict[str, Any]:
    """Return what the request of a pressed button adds to its parent."""
    if action == "others":
        return {}
    if action == "shorter":
        return {"context": SHORTER}
    return {"options": {"stance": action} if action in STANCES else {"answer_to": action}}


def said(target: dict[str, Any]) -> str:
    """Return who said what."""
    return ": ".join(filter(None, [target["author"], target["gist"]]))


def message_of(row: dict[str, Any]) -> dict[str, Any]:
    """Return the message that shows a row, as parameters of ``editMessageText``."""
    return {"text": text_of(row), "parse_mode": "HTML", "reply_markup": {"inline_keyboard": keyboard_of(row)}}


def text_of(row: dict[str, Any]) -> str:
    """Return a message as Telegram's HTML; a tap on a reply copies it."""
    options, target = row["result"].get("options", []), row["result"].get("replying_to")
    parts = [html.escape(said(target))] if target else []
    for option in options:
        stance = STANCES.get(option.get("stance", "none"), "leaves it open")
        heading = " · ".join(filter(None, [option["length"].capitalize(), stance, option["angle"][:60]]))
        parts.append(f"<b>{html.escape(heading)}</b>\n<pre>{html.escape(option['text'])}</pre>")
        if quotes := ", ".join(one["quote"] for one in option.get("unsupported", ())):
            parts.append(f"⚠️ In no source, check before sending: {html.escape(quotes[:200])}")
    ends = {"completed": "", "failed": row["error_message"], "cancelled": "This was cancelled."}
    parts.append(html.escape(ends.get(row["status"], f"Writing … {len(options)} of 3")))
    return "\n\n".join(filter(None, parts))


def keyboard_of(row: dict[str, Any]) -> list[list[dict[str, Any]]]:
    """Return the buttons below finished drafts; ``change_of`` says what each asks for."""
    if row["status"] != "completed":
        return []
    decides = any(one.get("stance", "none") != "none" for one in row["result"]["options"])
    decisions = {"accept": "Accept", "decline": "Decline", "open": "Leave open"} if decides else {}
    others = [{one["key"]: said(one)[:60]} for one in row["result"].get("other_targets", ())]
    lines = [line for line in (decisions, {"shorter": "Shorter", "others": "Others"}, *others) if line]
    return [[{"text": text, "callback_data": f"{key} {row['id']}"} for key, text in line.items()] for line in lines]
