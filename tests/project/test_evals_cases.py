"""Cases of an evaluation, and the lock of the held-out ones."""

import json
from pathlib import Path
from typing import Any

import pytest

from draftd.errors import CommandError, UsageError
from draftd.evals import lock
from draftd.evals.cases import Split, load
from fix_evals import THREE, make_case, write_cases

COMMITTED = Path(__file__).parents[2] / "evals" / "cases"


def test_the_committed_cases_are_valid_and_those_that_are_held_out_are_unedited() -> None:
    cases = load(COMMITTED)
    lock.check(COMMITTED, cases)
    assert len(cases) >= 40
    assert {case.split for case in cases} == set(Split)


def test_cases_are_read_with_what_is_known_of_them(tmp_path: Path) -> None:
    linkedin, email, third = load(write_cases(tmp_path))
    assert (linkedin.platform, linkedin.good) == (("linkedin",), "names one change")
    assert (email.split, email.me, email.must_not_say) == (Split.HELD_OUT, "Ines Okafor", ("Monday",))
    assert (third.n, third.split, third.platform, third.content_type) == ("3", Split.DEV, ("sms",), ())
    assert third.image_urls()[0].startswith("data:image/png;base64,")


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"platform": "watsapp"}, r"case 'linkedin': platform: 'watsapp' is not one of linkedin, "),
        ({"outcome": "complete"}, r"case 'linkedin': outcome: 'complete' is not one of completed, either, "),
        ({"reply_needed": ["yes", "maybe"]}, r"case 'linkedin': reply_needed: 'maybe' is not one of yes, no, unclear"),
        ({"options": {"tones": "warm"}}, r"case 'linkedin': options: tones: "),
        ({"file": "none.png"}, r"case 'linkedin': file: there is no 'none.png'"),
        ({"file": "../outside.png"}, r"case 'linkedin': file: '../outside.png' is outside of the folder"),
        ({"file": []}, r"case 'linkedin': file: "),
        ({"n": 3}, r"case '3': there are two of this name"),
        ({"split": "test"}, r"case 'linkedin': split: "),
        ({"language": "{english}"}, r"case 'linkedin': language.0: "),
        ({"file": "loop.png"}, r"case 'linkedin': file: cannot be read: "),
        ({"file": f"{'x' * 300}.png"}, r"case 'linkedin': file: cannot be read: "),
        ({"file": "a\0.png"}, r"case 'linkedin': it has a NUL"),
        ({"file": "\ud83d.png"}, r"case 'linkedin': "),
        ({"file": "huge.png"}, r"case 'linkedin': its pictures exceed 24 MiB"),
        ({"context": "a\0"}, r"case 'linkedin': it has a NUL"),
        ({"good": "half \ud83d"}, r"case 'linkedin': "),
        ({"profile": {"facts": ["x"], "mood": "good"}}, r"case 'linkedin': profile: mood is not valid"),
        ({"profile": {"facts": ["x" * 501]}}, r"case 'linkedin': profile: facts is not valid"),
        (
            {"profile": {"reader_language": "German, please"}},
            r"case 'linkedin': profile: reader_language is not",
        ),
        ({"options": {"tone": "a\0"}}, r"case 'linkedin': it has a NUL"),
        ({"context": "a" * 8_001}, r"case 'linkedin': context: "),
    ],
)
def test_a_case_that_cannot_be_used_is_refused_with_its_name(
    tmp_path: Path, over: dict[str, Any], message: str
) -> None:
    directory = write_cases(tmp_path / "cases", [{**THREE[0], **over}, *THREE[1:]])
    (tmp_path / "outside.png").write_bytes(b"")
    (directory / "loop.png").symlink_to("loop.png")
    with (directory / "huge.png").open("wb") as huge:
        huge.truncate(10**11)  # takes no space
    with pytest.raises(UsageError, match=message):
        load(directory)


@pytest.mark.parametrize("content", ["", "{}", "[]", "[1]", "[" * 100_000])
def test_a_file_without_cases_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "cases.json").write_text(content)
    with pytest.raises(UsageError, match=r"cases\.json"):
        load(tmp_path)


def test_a_folder_without_cases_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load(tmp_path)


def test_a_case_without_an_outcome_may_not_fail_in_any_other_way() -> None:
    assert make_case().outcomes[1:] == ("completed", "nothing_to_reply_to", "nothing_open")


def test_held_out_cases_need_a_lock(tmp_path: Path) -> None:
    cases = load(write_cases(tmp_path))
    with pytest.raises(CommandError, match="--relock"):
        lock.check(tmp_path, cases)
    assert lock.write(tmp_path, cases) == 1
    lock.check(tmp_path, cases)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"context": "Friday suits me."}, "edited: email"),
        ({"split": "dev"}, "removed: email"),
        ({"n": "mail"}, "added: mail; removed: email"),
    ],
)
def test_an_edited_held_out_case_is_noticed(tmp_path: Path, edit: dict[str, str], message: str) -> None:
    lock.write(tmp_path, load(write_cases(tmp_path)))
    edited = load(write_cases(tmp_path, [THREE[0], {**THREE[1], **edit}, THREE[2]]))
    with pytest.raises(CommandError, match=message):
        lock.check(tmp_path, edited)


def test_another_picture_of_a_held_out_case_is_noticed(tmp_path: Path) -> None:
    lock.write(tmp_path, load(write_cases(tmp_path)))
    with (tmp_path / "email.png").open("ab") as picture:
        picture.write(b"\0")
    with pytest.raises(CommandError, match="edited: email"):
        lock.check(tmp_path, load(tmp_path))


def test_other_cases_may_be_edited(tmp_path: Path) -> None:
    lock.write(tmp_path, load(write_cases(tmp_path)))
    lock.check(tmp_path, load(write_cases(tmp_path, [{**THREE[0], "context": "anything"}, *THREE[1:]])))


def test_a_lock_that_is_none_is_refused(tmp_path: Path) -> None:
    cases = load(write_cases(tmp_path))
    (tmp_path / "cases.lock.json").write_text(json.dumps({"held_out": ["email"]}))
    with pytest.raises(UsageError, match="is not a lock"):
        lock.check(tmp_path, cases)
