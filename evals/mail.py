"""Mails: the open message of a thread, with those before it."""

from evals.elements import Item, box, face, icon, lettering, photo, span, words
from evals.rows import side
from evals.scene import Scene


def body(scene: Scene) -> str:
    """Return the page of an open mail."""
    me = scene.text("me")
    bar = box(
        "head",
        icon("back" if scene.is_phone else "menu"),
        box("find", icon("search"), span("hint", scene.text("search"))),
        face(me),
    )
    subject = box("subject", span("", scene.text("title")), span("tagged", scene.text("folder")))
    messages = [_item(item) for item in scene.items]
    mail = box("mail", span("banner", scene.text("banner")), subject, *messages, _reply(scene))
    return bar + (mail if scene.is_phone else box("window", side(scene), mail))


def _reply(scene: Scene) -> str:
    unsent = scene.text("unsent")
    if unsent:
        return box(
            "compose",
            box("to", icon("reply"), span("", scene.text("to"))),
            box("said", words(unsent), '<i class="caret"></i>'),
        )
    buttons = [str(word) for word in scene.texts.get("actions", ("Reply", "Forward"))]
    return box("buttons", *(box("button", icon("reply"), span("", word)) for word in buttons))


def _item(item: Item) -> str:
    if "system" in item:
        return box(f"system {lettering(item)}", words(item["system"]))
    names = box(
        "names",
        span("by", item["by"]),
        span("address", item.get("address", "")),
        span("to", item.get("to", "")),
    )
    head = box("who", face(item["by"]), names, span("at", item.get("at", "")))
    if item.get("folded"):
        return box("folded", head, span("role", item["text"]))
    content = [
        box(f"said {lettering(item)}", words(item["text"])),
        photo(item["photo"], item.get("on_photo", "")) if "photo" in item else "",
        box("quoted", words(item["quote"])) if "quote" in item else "",
        box("signature", words(item["signature"])) if "signature" in item else "",
        box("small-print", words(item["small_print"])) if "small_print" in item else "",
        span("file", item.get("file", "")),
    ]
    return box("message", head, *content)
