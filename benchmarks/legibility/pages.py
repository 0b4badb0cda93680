"""The HTML of a scene, from its template in ``scenes/`` and its words in ``texts/``."""

import html
from dataclasses import dataclass
from pathlib import Path
from string import Template

HERE = Path(__file__).parent
FONTS = {
    "en": '"Noto Sans", sans-serif',
    "ru": '"Noto Sans", sans-serif',
    "ja": '"Noto Sans CJK JP", "Noto Sans", sans-serif',
    "ar": '"Noto Sans Arabic", "Noto Sans", sans-serif',
}
MINE = "> "
"""How a line of a chat's text begins that the screenshot's owner wrote."""

_FOLDERS = {
    "en": ("Inbox", "Starred", "Sent", "Drafts", "Archive"),
    "ru": ("Входящие", "Важные", "Отправленные", "Черновики", "Архив"),
}
_CHAT = {
    "en": ("Mara Lindqvist", "last seen today at 9:38", "Message"),
    "ja": ("高橋さくら", "最終ログイン 九時", "メッセージ"),
    "ar": ("ليلى الحداد", "آخر ظهور اليوم", "رسالة"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What is drawn; widths and heights are in CSS pixels."""

    template: str
    width: int
    height: int
    language: str = "en"
    theme: str = "light"
    messages: int = 1
    """How many of a chat's messages are shown, the last ones; how often a mail is quoted in a thread."""


def page_html(page: Page) -> str:
    """Return the page, with the script that lists its lines."""
    fill = {"chat": _chat, "mail": _mail, "feed": _feed, "inbox": _inbox}[page.template]
    template = Template((HERE / "scenes" / f"{page.template}.html").read_text())
    text = template.substitute(
        fill(page),
        width=page.width,
        height=page.height,
        language=page.language,
        theme=page.theme,
        fonts=FONTS[page.language],
    )
    script = (HERE / "scenes" / "lines.js").read_text()
    return text.replace("</body>", f"<script>\n{script}</script>\n</body>")


def _text(kind: str, language: str) -> list[str]:
    return (HERE / "texts" / f"{kind}.{language}.txt").read_text().splitlines()


def _tag(name: str, text: str, kind: str = "") -> str:
    attribute = f' class="{kind}"' if kind else ""
    return f"<{name}{attribute}>{html.escape(text)}</{name}>"


def _chat(page: Page) -> dict[str, str]:
    title, subtitle, placeholder = _CHAT[page.language]
    messages = _text("chat", page.language)[-page.messages :]
    bubbles = [_tag("p", text.removeprefix(MINE), "me" if text.startswith(MINE) else "") for text in messages]
    for number in range(0, len(bubbles), 12):
        bubbles[number] = _tag("time", f"{9 + number // 12}:{17 + number % 40}") + bubbles[number]
    return {
        "direction": "rtl" if page.language == "ar" else "ltr",
        "justify": "flex-start" if page.language == "ja" else "flex-end",
        "messages": "\n".join(bubbles),
        "title": html.escape(title),
        "subtitle": html.escape(subtitle),
        "placeholder": html.escape(placeholder),
    }


def _mail(page: Page) -> dict[str, str]:
    subject, sender, address, date, *body = _text("mail", page.language)
    cut = body.index("-- ")
    folders = _FOLDERS[page.language]
    paragraphs = [_tag("p", one) for one in body[:cut]] + [_tag("p", one, "small") for one in body[cut + 1 :]]
    return {
        "subject": html.escape(subject),
        "sender": html.escape(sender),
        "address": html.escape(address),
        "date": html.escape(date),
        "paragraphs": "\n".join(paragraphs * page.messages),
        "folders": "\n".join([_tag("div", folders[0], "here")] + [_tag("div", one) for one in folders[1:]]),
    }


def _feed(page: Page) -> dict[str, str]:
    author, *paragraphs, reactions = _text("feed", page.language)[:5]
    comments = _text("feed", page.language)[5:]
    lines = [
        _person(author),
        *(_tag("p", one) for one in paragraphs),
        '<div class="photo"></div>',
        _tag("span", reactions, "grey"),
    ]
    lines.append('<div class="bar"><span>Like</span><span>Comment</span><span>Repost</span><span>Send</span></div>')
    for who, said in zip(comments[::2], comments[1::2], strict=True):
        name, role, age = who.split(" | ")
        words = _tag("b", name) + _tag("small", f"{role}, {age}") + html.escape(said)
        lines.append(f'<div class="comment"><div class="face"></div><div>{words}</div></div>')
    return {"post": "\n".join(lines)}


def _person(line: str) -> str:
    name, role, age = line.split(" | ")
    words = _tag("b", name) + _tag("small", role) + "<br>" + _tag("small", age)
    return f'<div class="who"><div class="face"></div><div>{words}</div></div>'


def _inbox(page: Page) -> dict[str, str]:
    entries = []
    for line in _text("inbox", page.language):
        sender, subject, start = line.split(" | ")
        entries.append(f"<div>{_tag('b', sender)}{_tag('span', subject)}{_tag('small', start)}</div>")
    return _mail(page) | {"entries": "\n".join(entries * 2)}
