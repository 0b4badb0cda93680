"""Lists of chats or mails of which none is open."""

from evals.elements import box, face, icon, span
from evals.scene import Scene


def body(scene: Scene) -> str:
    """Return the page of a list."""
    head = box("head", span("title", scene.text("title")), icon("search"), icon("more"))
    find = box("find", icon("search"), span("hint", scene.text("search")))
    entries = [
        box(
            "entry unread" if item.get("unread") else "entry",
            face(item["by"]),
            box(
                "names", span("by", item["by"]), span("headline", item.get("headline", "")), span("said", item["text"])
            ),
            box("right", span("at", item.get("at", "")), span("count", item.get("unread", ""))),
        )
        for item in scene.items
    ]
    tabs = box("tabs", *(span("", tab) for tab in scene.text("tabs").splitlines()))
    return head + find + box("entries", *entries) + tabs
