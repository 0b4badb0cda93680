"""Messengers: own bubbles on the right, the others' on the left."""

from evals.elements import Item, box, face, icon, lettering, photo, span, words
from evals.scene import Scene


def body(scene: Scene) -> str:
    """Return the page of a chat."""
    title = scene.text("title")
    names = box("names", span("title", title), span("subtitle", scene.text("subtitle")))
    head = box("head", icon("back"), face(title), names, icon("video"), icon("call"))
    talk = box("talk", *(_item(item, scene) for item in scene.items))
    return head + scene_banner(scene) + talk + foot(scene)


def scene_banner(scene: Scene) -> str:
    """Return the bar below the head, such as a pinned message."""
    return span("banner", scene.text("banner"))


def foot(scene: Scene) -> str:
    """Return the reply box with what stands in it."""
    if scene.text("closed"):
        return box("foot closed", span("", scene.text("closed")))
    unsent = scene.text("unsent")
    field = span("unsent", unsent) + '<i class="caret"></i>' if unsent else span("hint", scene.text("placeholder"))
    return box("foot", icon("plus"), box("field", field), icon("send" if unsent else "mic"))


def _item(item: Item, scene: Scene) -> str:
    if "day" in item:
        return box("day", words(item["day"]))
    if "system" in item:
        return box(f"system {lettering(item)}", words(item["system"]))
    mine = bool(item.get("me"))
    content = [
        span("by", "" if mine else item.get("by", "")),
        box("quote", span("by", item["quote"].partition(": ")[0]), words(item["quote"].partition(": ")[2]))
        if "quote" in item
        else "",
        photo(item["photo"], item.get("on_photo", "")) if "photo" in item else "",
        _voice(item["voice"]) if "voice" in item else "",
        _card(item["card"]) if "card" in item else "",
        box(f"said {lettering(item)}", words(item["text"])) if "text" in item else "",
        span("at", item.get("at", "")),
    ]
    kind = "sticker" if "sticker" in item else "bubble"
    if "sticker" in item:
        content.insert(1, box("big", words(item["sticker"])))
    portrait = face(item["by"]) if item.get("by") and not mine and scene.text("group") else ""
    below = span("reaction", item.get("reaction", "")) + span("note", item.get("note", ""))
    return box(f"line {'me' if mine else 'them'}", portrait, box("column", box(kind, *content), below))


def _voice(length: str) -> str:
    bars = "".join(f'<i style="height:{6 + (number * 7) % 17}px"></i>' for number in range(26))
    return box("voice", '<b class="play"></b>', box("bars", bars), span("", length))


def _card(text: str) -> str:
    title, _, rest = text.partition("\n")
    return box("card", span("card-title", title), span("card-text", rest))
