"""How the commands read what a person types, and print what others wrote."""

import io
import json
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from draftd.cli import console, fleet, requests
from draftd.cli.enqueue import DraftPrinter, option_text
from draftd.errors import UsageError, request_errors
from draftd.sanitize import printable
from draftd.status import STATUSES
from tables import per_row

ID = UUID("6f1f6a3e-0000-4000-8000-000000000001")
COLUMNS = {"id": "id", "who": "requester", "code": "error"}
NOTHING_YET = {"result": None, "partial_result": None}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_terminal(
    monkeypatch: pytest.MonkeyPatch,
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, str] = COLUMNS,
    spare: Sequence[str] = (),
    /,
    **variables: str,
) -> str:
    """Return what a table looks like on a terminal. (Not a fixture: pytest sets stdout anew after those.)"""
    made = Terminal()
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in {"TERM": "xterm", "COLUMNS": "80", **variables}.items():
        monkeypatch.setenv(name, value)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", made)
        console.print_table(columns, rows, empty="none", spare=spare)
    # A table's cells are padded to the width of their column.
    return "".join(f"{line.rstrip()}\n" for line in made.getvalue().splitlines())


@per_row(("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), (" 2H ", 7200), ("7d", 604_800), ("0", 0)])
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert console.duration_s(text) == seconds


@per_row("text", ["", "soon", "-1s", "1w", "1e3", "nan", "\u0663s", "999999999d"])
def test_what_is_no_duration_or_no_lifetime_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        console.duration_s(text)


@per_row(
    ("seconds", "text"), [(None, ""), (0.4, "0 s"), (119, "119 s"), (121, "2 min"), (7300, "2 h"), (200_000, "2 d")]
)
def test_an_age_is_rounded_to_one_unit(seconds: float | None, text: str) -> None:
    assert console.age(seconds) == text


def test_an_unknown_error_code_is_refused_with_the_known_ones() -> None:
    assert console.error_code("worker_lost") == "worker_lost"
    with pytest.raises(UsageError, match="image_invalid"):
        console.error_code("image_invald")


def test_what_is_no_uuid_is_no_id() -> None:
    assert console.request_id(str(ID)) == ID
    with pytest.raises(UsageError):
        console.request_id("42")


def test_json_is_one_line_for_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"id": ID, "at": datetime(2026, 1, 2, tzinfo=UTC), "cost_usd": Decimal("0.25"), "text": "naïve"}
    console.print_json(row)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out) == {"id": str(ID), "at": "2026-01-02T00:00:00+00:00", "cost_usd": 0.25, "text": "naïve"}


def test_json_is_escaped_where_the_encoding_cannot_say_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(sink, encoding="ascii"))
    console.print_json({"text": "naïve \N{GRINNING FACE}"})
    assert json.loads(sink.getvalue()) == {"text": "naïve \N{GRINNING FACE}"}


def test_rows_are_tab_separated_where_no_person_reads(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_table(COLUMNS, [{"id": 1, "who": "a\tb\nc", "code": None}], empty="none")
    assert capsys.readouterr().out == "1\ta b c\t\n"


def test_a_table_has_headings_and_leaves_out_empty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[dict[str, Any]] = [{"id": 1, "who": "ann", "code": None}, {"id": 22, "who": None, "code": None}]
    heading, *lines = on_terminal(monkeypatch, rows).splitlines()
    assert re.sub("\033\\[[0-9;]*m", "", heading).rstrip() == "id  requester"
    assert "\033[1m" in heading
    assert lines == ["1   ann", "22"]


@pytest.mark.parametrize("variable", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch, variable: dict[str, str]) -> None:
    assert on_terminal(monkeypatch, [{"id": 1, "who": "ann", "code": None}], **variable) == "id  requester\n1   ann\n"


@pytest.mark.parametrize(
    ("columns", "heading"),
    [("20", "id  requester  error"), ("19", "id  error"), ("1", "id  error")],
)
def test_a_narrow_terminal_is_given_fewer_columns(monkeypatch: pytest.MonkeyPatch, columns: str, heading: str) -> None:
    rows = [{"id": 1, "who": "ann", "code": "x"}]
    shown = on_terminal(monkeypatch, rows, COLUMNS, ["who"], NO_COLOR="1", COLUMNS=columns)
    assert shown.splitlines()[0] == heading


def test_the_list_of_requests_fits_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    longest = dict.fromkeys(requests.COLUMNS, "x" * 20) | {
        "id": ID,
        "status": max(STATUSES, key=len),
        "age": "100 min",
        "error_code": max((error.code for error in request_errors()), key=len),
    }
    shown = on_terminal(monkeypatch, [longest], requests.COLUMNS, requests.SPARE, NO_COLOR="1")
    assert max(map(len, shown.splitlines())) <= 80
    assert str(ID) in shown


def wrapped(monkeypatch: pytest.MonkeyPatch, text: str, columns: int, *, indent: str = "") -> list[str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    return console.wrapped(text, Terminal(), indent=indent).split("\n")


def test_a_text_is_broken_at_words_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert wrapped(monkeypatch, "one two  three\n\n  four five", 9) == ["one two", "three", "", "  four", "five"]
    assert wrapped(monkeypatch, "summary one two", 11, indent="    ") == ["summary one", "    two"]


def test_a_word_that_is_wider_than_the_terminal_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    assert wrapped(monkeypatch, f"see {ID} there", 20) == ["see", str(ID), "there"]


def test_wide_letters_take_two_columns_and_accents_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert wrapped(monkeypatch, "明日 ok", 6) == ["明日", "ok"]
    assert wrapped(monkeypatch, "明日 ok", 7) == ["明日 ok"]
    assert wrapped(monkeypatch, "cafe\N{COMBINING ACUTE ACCENT} ok", 7) == ["cafe\N{COMBINING ACUTE ACCENT} ok"]


def test_a_text_stays_as_it_is_where_no_person_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "8")
    assert console.wrapped("one two three", io.StringIO()) == "one two three"


def test_an_empty_table_is_talk_and_no_data(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_table(COLUMNS, [], empty="no requests")
    assert capsys.readouterr() == ("", "no requests\n")


@pytest.mark.parametrize(("term", "written"), [("xterm", "\033[2J\033[H"), ("dumb", "")])
def test_a_view_begins_on_a_clear_screen(monkeypatch: pytest.MonkeyPatch, term: str, written: str) -> None:
    made = Terminal()
    monkeypatch.setenv("TERM", term)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", made)
        console.clear_screen()
    assert made.getvalue() == written


def test_a_requester_cannot_steer_the_operators_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = on_terminal(monkeypatch, [{"id": 1, "who": "\033[2Jgone\x9b2J", "code": "x"}], NO_COLOR="1")
    assert "gone" in shown
    assert not {"\033", "\x9b"} & set(shown)
    assert printable("a\nb\tc") == "a\nb\tc"


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_no_text_steers_a_terminal_wherever_it_is_said(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert console.wrapped("a\033[2J\x9b2J\tb\nc", stream) == "a\ufffd[2J\ufffd2J\tb\nc"


def test_the_error_of_a_request_does_not_steer_the_terminal_of_who_waits(capsys: pytest.CaptureFixture[str]) -> None:
    DraftPrinter().update({"status": "failed", "error_code": "x", "error_message": "\033[2Jgone", **NOTHING_YET})
    assert capsys.readouterr() == ("", "failed: x: \ufffd[2Jgone\n")


HOSTILE = "night\r\nthe fleet is fine\u202etxt.exe\u2066\u2028\x85\x1b[2J"
"""What an operator or a requester may write: a line that looks like draftd's, text in another order, commands to a terminal."""
STATUS = {
    "reason": {"message": f"everything is paused, by {HOSTILE}: {HOSTILE}"},
    "requests": {"pending": 1},
    "lately": {"window_s": 60, "inserted": 1},
    "oldest_pending_s": None,
    "holds": [{"model": HOSTILE, "code": HOSTILE, "reason": HOSTILE, "until": datetime(2026, 1, 2, tzinfo=UTC)}],
    "pauses": [
        {"what": "model", "name": HOSTILE, "by": HOSTILE, "reason": HOSTILE, "since": datetime(2026, 1, 2, tzinfo=UTC)}
    ],
    "throttles": [{"model": HOSTILE, "share": 0.5}],
    "budgets": [
        {"payer": "requester", "requester_id": HOSTILE, "used": 0.5, "spent": 1, "usd_per_day": 2, "reserved": 0,
         "nearly_used": False}
    ],
    "workers": [
        {"hostname": HOSTILE, "pid": 1, "state": HOSTILE, "alive": True, "in_flight": 0, "concurrency": 1,
         "heartbeat_age_s": 1, "version": HOSTILE}
    ],
}  # fmt: skip
CHANGED = {"\r", "\x1b", "\x85", "\u2028", "\u202e", "\u2066"}


@pytest.mark.parametrize("is_terminal", [True, False])
def test_no_text_in_the_status_passes_for_a_line_of_draftds_or_steers_the_terminal(
    monkeypatch: pytest.MonkeyPatch, *, is_terminal: bool
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.setenv("NO_COLOR", "1")
    made = Terminal() if is_terminal else io.StringIO()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", made)
        fleet._print_status(STATUS)
    assert not CHANGED & set(made.getvalue())
    assert made.getvalue().count("the fleet is fine") >= 9
    assert not re.search(r"^\s*the fleet is fine", made.getvalue(), re.MULTILINE)


def test_no_text_of_a_request_passes_for_another_fact_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("requester_id", "agent", "context", "model"):
        requests._print_fact(name, HOSTILE)
    shown = capsys.readouterr().out
    assert not CHANGED & set(shown)
    assert "the fleet is fine" in shown
    assert not re.search("^the fleet is fine", shown, re.MULTILINE)


def test_no_text_in_a_message_passes_for_a_message_of_draftds(capsys: pytest.CaptureFixture[str]) -> None:
    console.say(f"draftd: {HOSTILE}")
    shown = capsys.readouterr().err
    assert not CHANGED & set(shown)
    assert shown.startswith("draftd: night\ufffd\n  the fleet is fine\ufffd")


def test_an_angle_does_not_end_the_line_above_a_draft() -> None:
    option = {"length": "short", "angle": "kind\n— medium (forged)", "text": "Thanks."}
    assert option_text(option).splitlines()[1:] == ["— short (kind — medium (forged))", "Thanks."]


def test_a_table_shows_each_row_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_table(COLUMNS, [{"id": 1, "who": HOSTILE, "code": None}], empty="none")
    shown = capsys.readouterr().out
    assert (shown.count("\n"), CHANGED & set(shown)) == (1, set())


def test_json_steers_no_terminal_and_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    said = f"\033[2J\x7f\x9b2J é{HOSTILE}"
    console.print_json({"message": said})
    shown = capsys.readouterr().out
    assert json.loads(shown) == {"message": said}
    assert not {"\033", "\x7f", "\x9b", *CHANGED} & set(shown)


@per_row(
    ("option", "head"),
    [
        ({"length": "short", "angle": "says no", "stance": "decline", "text": "No."}, "— short (says no; decline)"),
        ({"length": "short", "angle": "says thanks", "stance": "none", "text": "Thanks."}, "— short (says thanks)"),
        ({"length": "short", "angle": "says thanks", "text": "Thanks."}, "— short (says thanks)"),
    ],
)
def test_a_draft_is_shown_with_what_it_decides(option: dict[str, str], head: str) -> None:
    assert option_text(option).splitlines()[1:] == [head, option["text"]]


def test_a_draft_is_shown_with_what_is_in_no_source() -> None:
    unsupported = [{"quote": "€4,250", "kind": "amount"}, {"quote": "Friday", "kind": "date"}]
    option = {
        "length": "short",
        "angle": "agrees",
        "stance": "none",
        "text": "€4,250 on Friday.",
        "unsupported": unsupported,
    }
    assert option_text(option).splitlines()[-1] == (
        '  ! not in any source, check before sending: "€4,250" (amount), "Friday" (date)'
    )


def test_a_draft_is_printed_again_when_a_fact_of_it_turns_out_to_have_no_source(
    capsys: pytest.CaptureFixture[str],
) -> None:
    printer = DraftPrinter()
    option = {"length": "short", "angle": "agrees", "stance": "none", "text": "On Friday.", "unsupported": []}
    row = {"status": "processing", "error_code": None, "result": None, "partial_result": {"options": [option]}}
    printer.update(row)
    printer.update(row)
    assert capsys.readouterr().out.count("On Friday.") == 1
    late = {**option, "unsupported": [{"quote": "Friday", "kind": "date"}]}
    printer.update({**row, "status": "completed", "result": {"options": [late]}})
    assert '"Friday" (date)' in capsys.readouterr().out
