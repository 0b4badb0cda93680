"""What the pages are made of: tags, faces, icons, photos."""

import hashlib
import html
from collections.abc import Mapping
from typing import Any

Item = Mapping[str, Any]
"""One message, post or line of a conversation, as its file has it."""

_FACES = ("#c8643c", "#1f7a6d", "#6a4c93", "#2a6f97", "#b5476d", "#7a6a2b", "#3d5a80", "#8d5524", "#4f772d", "#9b2226")
_ICONS = {
    "back": "M15 4l-8 8 8 8",
    "call": "M6 3l3 5-2 2c1 3 3 5 6 6l2-2 5 3c0 3-2 5-5 4C9 20 4 14 3 8c0-3 1-5 3-5z",
    "video": "M3 7h11v10H3zM14 11l6-4v10l-6-4",
    "more": "M12 5v.1M12 12v.1M12 19v.1",
    "search": "M10 4a6 6 0 100 12 6 6 0 000-12zM15 15l5 5",
    "plus": "M12 5v14M5 12h14",
    "mic": "M12 3v10M9 7v4a3 3 0 006 0V7M6 11c0 8 12 8 12 0M12 17v4",
    "send": "M4 12l16-8-6 16-3-7z",
    "like": "M7 11v9H4v-9zM7 12l4-8c2 0 2 2 2 5h6l-1 9c0 1-1 2-2 2H7",
    "heart": "M12 20C2 13 4 5 9 5c2 0 3 2 3 2s1-2 3-2c5 0 7 8-3 15z",
    "comment": "M3 4h18v13H10l-4 4v-4H3z",
    "repost": "M4 9l4-4 4 4M8 5v10h6M20 15l-4 4-4-4M16 19V9h-4",
    "share": "M4 12v8h16v-8M12 3v13M7 8l5-5 5 5",
    "star": "M12 3l3 6 6 1-4 5 1 6-6-3-6 3 1-6-4-5 6-1z",
    "reply": "M9 6l-6 6 6 6M3 12h11c4 0 6 3 6 6",
    "up": "M12 5l-7 8h4v6h6v-6h4z",
    "down": "M12 19l-7-8h4V5h6v6h4z",
    "menu": "M4 6h16M4 12h16M4 18h16",
    "smile": "M12 3a9 9 0 100 18 9 9 0 000-18zM8 14c2 4 6 4 8 0M9 9v.1M15 9v.1",
    "home": "M4 11l8-7 8 7v9h-5v-6H9v6H4z",
    "bell": "M6 17V10a6 6 0 0112 0v7zM10 20h4",
}
_PHOTOS = {
    "lake": '<rect width="230" height="132" fill="#f6c89a"/><circle cx="164" cy="52" r="15" fill="#fff1d6"/>'
    '<path d="M0 74L48 36l36 28 34-22 52 36 60-24v60H0z" fill="#5d7f8c"/><path d="M0 82h230v50H0z" fill="#7fa9b2"/>'
    '<path d="M0 132V96l14-30 13 30 9-20 12 56z" fill="#2f4f4a"/>',
    "cake": '<rect width="230" height="132" fill="#e9dccb"/><ellipse cx="115" cy="112" rx="88" ry="12" fill="#c9b8a2"/>'
    '<rect x="58" y="56" width="114" height="54" rx="8" fill="#7b4b3a"/><path d="M58 62q14 16 28 0t28 0 28 0 30 0V54H58z" '
    'fill="#f7e7e4"/><path d="M86 54V36M115 54V32M144 54V36" stroke="#d95d76" stroke-width="5"/>'
    '<path d="M86 32v-5M115 28v-5M144 32v-5" stroke="#f4a300" stroke-width="6"/>',
    "shelf": '<rect width="230" height="132" fill="#dfe4e8"/><path d="M30 20h170v96H30z" fill="#b08a5b"/>'
    '<path d="M38 28h154v34H38zM38 70h154v38H38z" fill="#f3ead9"/><path d="M150 108l-60-46" stroke="#7a5a30" stroke-width="6"/>',
    "chart": '<rect width="230" height="132" fill="#fff"/><path d="M24 12v104h194" stroke="#999" stroke-width="2" fill="none"/>'
    '<path d="M40 116V84h24v32zM80 116V66h24v50zM120 116V74h24v42zM160 116V34h24v82z" fill="#3d7dca"/>',
    "plain": '<rect width="230" height="132" fill="#cfd8dc"/><path d="M0 132L80 50l50 50 34-30 66 62z" fill="#90a4ae"/>',
    "dark": '<rect width="230" height="132" fill="#22303a"/><path d="M0 132L70 66l60 44 40-26 60 48z" fill="#1a252d"/>',
}


def tag(name: str, *children: str, kind: str = "", style: str = "") -> str:
    """Return an element around HTML."""
    attributes = (f' class="{kind}"' if kind else "") + (f' style="{html.escape(style)}"' if style else "")
    return f"<{name}{attributes}>{''.join(children)}</{name}>"


def box(kind: str, *children: str, style: str = "") -> str:
    """Return a ``div`` of a class."""
    return tag("div", *children, kind=kind, style=style)


def words(text: Any) -> str:
    """Return a text as HTML, with its line breaks; ``**bold**`` is the one mark-up."""
    halves = html.escape(str(text)).replace("\n", "<br>").split("**")
    return "".join(f"<b>{half}</b>" if number % 2 else half for number, half in enumerate(halves))


def span(kind: str, text: Any) -> str:
    """Return a text in a ``span`` of a class; nothing for no text."""
    return tag("span", words(text), kind=kind) if text else ""


def icon(name: str) -> str:
    """Return a line icon."""
    return f'<svg class="icon" viewBox="0 0 24 24"><path d="{_ICONS[name]}"/></svg>'


def face(name: str) -> str:
    """Return the round picture of a person: initials on a colour that depends on the name."""
    parts = [part for part in name.replace("@", "").split() if part[0].isalnum()]
    initials = "".join(part[0] for part in [*parts[:1], *parts[1:][-1:]]).upper()
    colour = _FACES[sum(map(ord, name)) % len(_FACES)]
    return box("face", html.escape(initials), style=f"background:{colour}")


def photo(name: str, text: str = "") -> str:
    """Return a drawn photo, with a text on it if there is one; ``code`` is a pattern like a QR code."""
    content = _code(text) if name == "code" else _PHOTOS[name]
    drawn = f'<svg viewBox="0 0 230 132" preserveAspectRatio="xMidYMid slice">{content}</svg>'
    return box("photo", drawn, span("on-photo", text))


def _code(text: str) -> str:
    bits = f"{int.from_bytes(hashlib.sha512(text.encode()).digest()):0512b}"
    dots = "".join(
        f"M{70 + 4 * (at % 22)} {8 + 4 * (at // 22)}h4v4h-4z" for at, bit in enumerate(bits[:484]) if bit == "1"
    )
    corners = "".join(
        f'<path d="M{x} {y}h28v28h-28z" fill="#fff"/><path d="M{x + 2} {y + 2}h24v24h-24zm4 4v16h16v-16zm4 4h8v8h-8z" '
        'fill-rule="evenodd"/>'
        for x, y in ((70, 8), (130, 8), (70, 68))
    )
    return f'<rect width="230" height="132" fill="#fff"/><path d="{dots}"/>{corners}'


def lettering(item: Item) -> str:
    """Return the class of how a text is set: blurred, hardly visible, or as usual."""
    return " ".join(name for name in ("blurred", "faint") if item.get(name))
