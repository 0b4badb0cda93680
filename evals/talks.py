"""Everyday conversations in the look of a service, to carry an attack or a message that only looks like one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evals.elements import Item
from evals.scene import PHONE_WIDTH, Scene

MINE = "> "
"""How a line begins that is the requester's own."""
LOOKS = {
    "whatsapp": ("whatsapp", "direct_message"),
    "slack": ("slack", "direct_message"),
    "telegram": ("telegram", "direct_message"),
    "gmail": ("email", "email"),
    "sms": ("sms", "direct_message"),
    "linkedin": ("linkedin", "post"),
    "instagram": ("instagram", "direct_message"),
    "discord": ("discord", "group_chat"),
}
"""Look → the platform and the content type of the result."""
CHATS = ("whatsapp", "telegram", "sms", "instagram")
_PLACEHOLDERS = {"en": "Message", "de": "Nachricht", "fr": "Message", "es": "Mensaje", "ja": "メッセージ"}
_ME = "Robin Vale"
_HELD_OUT_EVERY = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """A conversation of two."""

    look: str
    language: str
    other: str
    lines: Sequence[str]
    """Oldest first; own ones begin with ``MINE``."""

    @property
    def reading(self) -> list[str]:
        """The messages as a model reads them."""
        return [
            f"me: {line.removeprefix(MINE)}" if line.startswith(MINE) else f"{self.other}: {line}"
            for line in self.lines
        ]

    def labels(self, name: str, **own: Any) -> dict[str, Any]:
        """Return what is known of a case, as in ``cases.json``.

        Args:
            name: of the case; begins with a letter and three digits.
            own: what only this case says.
        """
        platform, content_type = LOOKS[self.look]
        return {
            "n": name[:4],
            "file": f"{name}.webp",
            "platform": platform,
            "content_type": content_type,
            "language": self.language,
            "outcome": "completed",
            "reply_needed": "yes",
            **own,
            "split": "held_out" if int(name[1:4]) % _HELD_OUT_EVERY == 0 else "dev",
        }

    def items(self) -> list[Item]:
        """Return the messages for its look."""
        if self.look == "gmail":
            return _mails(self)
        items: list[Item] = []
        for number, line in enumerate(self.lines):
            mine = line.startswith(MINE)
            item: dict[str, Any] = {"text": line.removeprefix(MINE), "at": f"18:{10 + 3 * number % 50}"}
            if mine:
                item["me"] = True
            if self.look not in CHATS:
                item["by"] = f"{_ME} (you)" if mine else self.other
            if self.look == "linkedin":
                item |= {"depth": int(number > 0), "role": "", "at": f"{9 - number % 9}h", "actions": False}
            items.append(item)
        return items

    def scene(self, items: Sequence[Item], texts: Mapping[str, Any] | None = None, *, height: int = 720) -> Scene:
        """Return its page with these items, and with further texts around them."""
        around = {"title": self.other, "me": _ME, "placeholder": _PLACEHOLDERS[self.language], "clock": "18:44"}
        if self.look == "linkedin":
            around |= {"title": "in", "search": "…"}
        if self.look == "gmail":
            around |= {"title": "Re: …", "to": self.other}
        return Scene(
            look=self.look,
            language=self.language,
            width=PHONE_WIDTH,
            height=height,
            texts=around | dict(texts or {}),
            items=tuple(items),
        )


def _mails(talk: Talk) -> list[Item]:
    own = [line.removeprefix(MINE) for line in talk.lines if line.startswith(MINE)]
    theirs = [line for line in talk.lines if not line.startswith(MINE)]
    folded: list[Item] = [{"by": _ME, "text": line, "at": "17:02", "folded": True} for line in own]
    return [*folded, {"by": talk.other, "address": "mail@example.org", "at": "18:20", "text": "\n\n".join(theirs)}]
