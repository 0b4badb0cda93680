"""The drawn cases: what they cover, and that pictures and labels are those of their files."""

import json
from pathlib import Path
from typing import Any

from evals import cases, drawing
from evals.pages import html_of
from evals.scene import Scene
from PIL import Image

from draftd.errors import NothingOpen, NothingToReplyTo
from draftd.reply.platforms import Platform
from draftd.reply.result import ContentType, ReplyNeeded
from draftd.request import Options
from tables import per_row

LABELS = cases.labels()
SCENES = cases.scenes()
TRAPS = {
    "guessed_target", "cut_off_text", "several_open_questions", "closed_list", "own_last_word", "no_reply_due",
    "bot_waits_for_input", "bot_relays_person", "bot_posts_after_person", "undecided", "recommendation", "help",
    "angry_client", "social_move", "unsent_text", "quoted_prompt", "foreign_overlay", "placeholder_in_conversation",
    "mixed_languages", "foreign_interface", "third_party_client", "photo", "sticker", "voice_message", "garbled_facts",
    "blurred_text", "me_unknown", "no_message", "statement_without_question",
}  # fmt: skip


def named(case: dict[str, Any]) -> str:
    return str(case["file"])


def test_the_cases_cover_every_platform_seven_languages_and_each_trap() -> None:
    assert len(LABELS) >= 40
    assert {case["platform"] for case in LABELS} == set(Platform)
    assert len({case["language"].partition("-")[0] for case in LABELS}) >= 7
    assert {trap for case in LABELS for trap in case["traps"]} == TRAPS
    held_out = [case for case in LABELS if case["split"] == "held_out"]
    assert len(LABELS) / 5 <= len(held_out) <= len(LABELS) / 2


def test_the_list_of_cases_is_what_their_files_say() -> None:
    assert (cases.FOLDER / "cases.json").read_text() == cases.as_json(LABELS)


@per_row("case", LABELS, ids=named)
def test_what_is_known_of_a_case_is_in_the_words_of_the_result(case: dict[str, Any]) -> None:
    assert set(case) - {"context", "options"} == set(cases.KEYS) - {"context", "options"}
    assert case["content_type"] in set(ContentType)
    assert case["reply_needed"] in set(ReplyNeeded)
    assert case["outcome"] in {"completed", NothingOpen.code, NothingToReplyTo.code}
    assert case["split"] in {"dev", "held_out"}
    Options.read(case.get("options", {}))


@per_row(("path", "scene"), SCENES.items(), ids=lambda one: one.name if isinstance(one, Path) else "")
def test_a_picture_is_small_and_drawn_from_its_file_as_it_is(path: Path, scene: Scene) -> None:
    assert path.stat().st_size <= drawing.MAX_BYTES
    with Image.open(path) as picture:
        assert picture.size == (scene.width * scene.density, scene.height * scene.density)
        assert picture.info["xmp"] == drawing.mark_of(scene), "draw it again: python -m evals.draw cases"


def test_every_text_of_a_scene_is_on_its_page() -> None:
    scene = SCENES[cases.FOLDER / "013-gmail-unsent-text.webp"]
    page = html_of(scene)
    assert scene.text("unsent").partition("\n")[0] in page
    assert all(str(item["by"]) in page for item in scene.items)


def test_a_text_is_no_mark_up() -> None:
    scene = Scene(look="sms", language="en", texts={"title": "<i>Eve</i>"}, items=({"text": "<script>x</script>"},))
    page = html_of(scene)
    assert "<script>" not in page
    assert "<i>Eve" not in page


def test_the_labels_are_json_that_keeps_every_letter() -> None:
    assert json.loads(cases.as_json(LABELS)) == LABELS
    assert "佐藤" in cases.as_json(LABELS)
