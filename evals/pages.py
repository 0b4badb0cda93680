"""The HTML of a scene."""

import html
from collections.abc import Callable
from pathlib import Path

from evals import bubbles, feed, lists, mail, rows
from evals.elements import box, span, words
from evals.scene import Scene

_STYLES = Path(__file__).parent / "looks"
LOOKS: dict[str, tuple[str, Callable[[Scene], str]]] = {
    **dict.fromkeys(
        ("whatsapp", "telegram", "sms", "instagram", "messenger", "teams", "client"), ("bubbles", bubbles.body)
    ),
    **dict.fromkeys(("slack", "discord"), ("rows", rows.body)),
    **dict.fromkeys(
        ("linkedin", "facebook", "x", "mastodon", "instagram-post", "reddit", "youtube", "github", "reviews"),
        ("feed", feed.body),
    ),
    **dict.fromkeys(("gmail", "outlook"), ("mail", mail.body)),
    **dict.fromkeys(("whatsapp-list", "gmail-list"), ("list", lists.body)),
}
"""Look → its stylesheet and what draws it."""


def html_of(scene: Scene) -> str:
    """Return the page of a scene."""
    sheet, body = LOOKS[scene.look]
    sheets = ("base", sheet, "seam") if scene.text("seam") else ("base", sheet)
    styles = "\n".join((_STYLES / f"{name}.css").read_text() for name in sheets)
    direction = "rtl" if scene.language in {"ar", "he"} else "ltr"
    kind = " ".join([scene.look, "phone" if scene.is_phone else "desktop", "dark" if scene.text("dark") else "light"])
    screen = box(f"screen {kind}", _status(scene), body(scene), _overlay(scene), _seam(scene))
    return (
        f'<!doctype html><html lang="{html.escape(scene.language)}" dir="{direction}"><meta charset="utf-8">'
        f"<style>{styles}</style><body style='width:{scene.width}px;height:{scene.height}px'>{screen}</body></html>"
    )


def _status(scene: Scene) -> str:
    if not scene.is_phone:
        return ""
    bars = "".join(f'<i style="height:{height}px"></i>' for height in (4, 6, 8, 10))
    return box("status", span("", scene.text("clock", "9:41")), box("signal", bars, '<i class="battery"></i>'))


def _seam(scene: Scene) -> str:
    """Return a band across a long page, where it is cut into slices."""
    return box("seam", words(scene.text("seam")), style=f"top:{scene.text('seam_at')}px") if scene.text("seam") else ""


def _overlay(scene: Scene) -> str:
    """Return what another program draws over the conversation: a title and a text."""
    text = scene.text("overlay")
    title, _, rest = text.partition("\n")
    at = scene.text("overlay_at", "bottom")
    return box(f"overlay {at}", span("overlay-title", title), span("", rest)) if text else ""
