"""The demo's page shows what a row holds, and nothing that a text in it asks for."""

import re
from html.parser import HTMLParser
from typing import Any

from draftd.demo import marks, page
from fix_demo_page import HOSTILE, MARKED, make_drafted, make_option, make_result
from tables import per_row


class Parsed(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)


def rendered(result: dict[str, Any] | None = None, **over: Any) -> Parsed:
    return Parsed(page.render([make_drafted(result, **over)], is_stand_in=True))


def test_a_text_of_a_row_stays_text_wherever_it_stands() -> None:
    option = make_option(text=HOSTILE, angle=HOSTILE, stance=HOSTILE, length=HOSTILE, translation=HOSTILE)
    result = make_result(
        platform_name=HOSTILE,
        replying_to={"author": HOSTILE, "gist": HOSTILE},
        options=[option],
        other_targets=[{"key": "t1", "author": HOSTILE, "gist": HOSTILE}],
        missing=[HOSTILE],
        warnings=[HOSTILE],
    )
    shown = rendered(result, model=HOSTILE)
    assert [tag for tag, _ in shown.tags if tag in {"script", "iframe", "object", "link"}] == []
    (picture,) = (attributes for tag, attributes in shown.tags if tag == "img")
    assert picture["src"] is not None
    assert picture["src"].startswith("data:image/png;base64,")
    assert [name for _, attributes in shown.tags for name in attributes if name.startswith("on")] == []
    assert shown.text.count(HOSTILE) == 11
    assert rendered(error_message=HOSTILE).text.count(HOSTILE) == 1


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    shown = rendered(make_result())
    policies = [attributes["content"] for _, attributes in shown.tags if "http-equiv" in attributes]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert "url(" not in shown.text
    assert "@import" not in shown.text
    assert not re.search(r"https?://", shown.text)


def test_exactly_the_facts_without_a_source_are_marked() -> None:
    text = "It costs €4,250 at 14:00, not 4,250.50."
    option = make_option(text=text, unsupported=[{"quote": "€4,250", "kind": "amount"}])
    html = page.render([make_drafted(make_result(options=[option]))], is_stand_in=False)
    assert re.findall(r'<p class="text">(.*?)</p>', html) == [
        "It costs <mark>€4,250</mark> at 14:00, not 4,250.50."
    ]  # fmt: skip


@per_row(("text", "quotes", "marked"), MARKED)
def test_a_quote_is_marked_as_a_whole(text: str, quotes: list[str], marked: list[str]) -> None:
    parts = marks.split(text, quotes)
    assert [part for part, is_marked in parts if is_marked] == marked
    assert "".join(part for part, _ in parts) == text


@per_row(
    ("stance", "label"),
    [("accept", "Accepts"), ("choice", "Chooses"), ("none", ""), ("something new", "Leaves it open")],
)
def test_a_stance_has_a_label_and_an_unknown_one_is_open(stance: str, label: str) -> None:
    assert page.stance_label(make_option(stance=stance)) == label


def test_what_failed_says_why_to_a_person() -> None:
    assert "The picture could not be read." in rendered(error_message="The picture could not be read.").text


def test_only_a_stand_ins_page_says_that_no_model_wrote_it() -> None:
    drafted = [make_drafted(make_result())]
    assert "A stand-in wrote these drafts" in page.render(drafted, is_stand_in=True)
    assert "stand-in wrote" not in page.render(drafted, is_stand_in=False)
