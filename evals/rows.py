"""Chats of teams and communities: every message a row with a face, a name and a time."""

from evals.bubbles import scene_banner
from evals.elements import Item, box, face, icon, lettering, photo, span, words
from evals.scene import Scene


def body(scene: Scene) -> str:
    """Return the page of a channel."""
    head = box("head", span("title", scene.text("title")), span("subtitle", scene.text("subtitle")), icon("search"))
    talk = box("talk", *(_item(item) for item in scene.items))
    unsent = scene.text("unsent")
    field = span("unsent", unsent) + '<i class="caret"></i>' if unsent else span("hint", scene.text("placeholder"))
    foot = box("foot", box("field", icon("plus"), field, icon("smile"), icon("send")))
    main = box("channel", head, scene_banner(scene), talk, foot)
    return main if scene.is_phone else box("window", side(scene), main)


def side(scene: Scene) -> str:
    """Return the bar of channels or folders; the one that is open begins with ``>``."""
    entries = scene.text("side").splitlines()
    listed = [box("here" if entry.startswith(">") else "", words(entry.removeprefix(">"))) for entry in entries[1:]]
    return box("side", span("place", entries[0] if entries else ""), *listed)


def _item(item: Item) -> str:
    if "day" in item:
        return box("day", span("", item["day"]))
    if "system" in item:
        return box(f"system {lettering(item)}", words(item["system"]))
    who = box("who", span("by", item["by"]), span("badge", item.get("badge", "")), span("at", item.get("at", "")))
    content = [
        box("quote", words(item["quote"])) if "quote" in item else "",
        who,
        box(f"said {lettering(item)}", words(item["text"])) if "text" in item else "",
        photo(item["photo"], item.get("on_photo", "")) if "photo" in item else "",
        box("code", words(item["code"])) if "code" in item else "",
        box("card", words(item["card"])) if "card" in item else "",
        span("reaction", item.get("reaction", "")),
        span("note", item.get("note", "")),
    ]
    return box("row me" if item.get("me") else "row", face(item["by"]), box("column", *content))
