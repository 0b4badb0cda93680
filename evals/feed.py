"""Posts, comments, threads and reviews: cards one below the other, answers indented."""

from evals.bubbles import foot, scene_banner
from evals.elements import Item, box, face, icon, lettering, photo, span, words
from evals.scene import Scene

_ACTIONS = {
    "linkedin": ("like", "comment", "repost", "send"),
    "facebook": ("like", "comment", "share"),
    "x": ("comment", "repost", "heart", "share"),
    "mastodon": ("reply", "repost", "star", "share"),
    "instagram-post": ("heart", "comment", "send"),
    "reddit": ("up", "down", "comment", "share"),
    "youtube": ("like", "reply"),
    "github": ("smile",),
    "reviews": ("like",),
}


def body(scene: Scene) -> str:
    """Return the page of a feed or a thread."""
    cards = box("cards", *(_item(item, scene) for item in scene.items))
    reply = foot(scene) if scene.text("placeholder") or scene.text("unsent") else ""
    return _head(scene) + scene_banner(scene) + cards + reply


def _head(scene: Scene) -> str:
    me = scene.text("me")
    return box(
        "head", icon("menu"), span("title", scene.text("title")), span("subtitle", scene.text("subtitle")),
        box("find", icon("search"), span("hint", scene.text("search"))), face(me) if me else icon("bell"),
    )  # fmt: skip


def _item(item: Item, scene: Scene) -> str:
    if "system" in item:
        return box(f"system {lettering(item)}", words(item["system"]))
    names = box(
        "who",
        face(item["by"]),
        box("names", span("by", item["by"]), span("badge", item.get("badge", "")), span("role", item.get("role", ""))),
        span("at", item.get("at", "")),
    )
    stars = item.get("stars")
    content = [
        span("headline", item.get("headline", "")),
        names,
        span("stars", "★" * stars + "☆" * (5 - stars)) if stars else "",
        box(f"said {lettering(item)}", words(item["text"])) if "text" in item else "",
        box("code", words(item["code"])) if "code" in item else "",
        photo(item["photo"], item.get("on_photo", "")) if "photo" in item else "",
        box("card", words(item["card"])) if "card" in item else "",
        _counts(item, scene),
        span("note", item.get("note", "")),
    ]
    depth = int(item.get("depth", 0))
    kind = "comment" if depth else "post"
    # The answers of a reviewed business, and one's own posts, look like the others; only the name tells.
    return box(kind, *content, style=f"margin-left:{(depth - 1) * 22}px" if depth > 1 else "")


def _counts(item: Item, scene: Scene) -> str:
    counts = [str(count) for count in item.get("counts", ())]
    if item.get("actions") is False:
        return ""
    actions = _ACTIONS.get(scene.look, ("like", "comment"))
    named = [str(word) for word in scene.texts.get("actions", ())]
    texts = named if named and not item.get("depth") else counts
    shown = box("counts", *(span("", count) for count in counts)) if named and counts and not item.get("depth") else ""
    icons = [icon(name) for name in actions][: len(texts)]
    return shown + box("actions", *(box("", one, span("", text)) for one, text in zip(icons, texts, strict=False)))
