"""What reaches stderr: one form for all, and no secret in it."""

import importlib.util
import io
import json
import logging
import sys
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
import structlog
from pydantic import SecretStr

from draftd.logs import MAX_VALUE_CHARS, configure_logging, traceback_of
from fix_daemon import Call, environment

KEY = "sk-proj-q7Zt9xVb3Lm5Kd8Rw2Ny"
URL = "https://cdn.example/shot.png?sig=s3cr3t"
Lines = Callable[[], list[dict[str, Any]]]
pytestmark = pytest.mark.usefixtures("logging_restored")


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    """What was logged since the last look, as JSON."""
    return lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def draftds() -> Any:
    return structlog.get_logger("draftd.test")


def break_with_a_secret() -> None:
    screenshot = "words of a screenshot"
    raise ValueError(f"{len(screenshot)} refused for {KEY} at {URL}")


def test_an_event_is_one_json_object_with_time_and_level(lines: Lines) -> None:
    configure_logging(level="debug", style="json")
    draftds().info("settled", attempt=2, elapsed_s=0.5, expired=False, code=None)
    (line,) = lines()
    assert line.pop("at").endswith("Z")
    assert line == {
        "event": "settled",
        "level": "info",
        "attempt": 2,
        "elapsed_s": 0.5,
        "expired": False,
        "code": None,
    }


@pytest.mark.parametrize(
    "value",
    [
        f"{KEY} at {URL}",
        [f"{KEY} at {URL}"],
        (KEY, [URL]),
        {KEY, URL},
        {"inner": {"deep": [KEY, URL]}},
        ValueError(KEY, URL),
        SecretStr(KEY),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_of_any_type_is_redacted(lines: Lines, value: Any) -> None:
    configure_logging(level="debug", style="json")
    draftds().warning("refused", detail=value)
    text = json.dumps(lines())
    assert "q7Zt9" not in text
    assert "s3cr3t" not in text
    assert "refused" in text


def test_the_event_and_bound_values_are_redacted_too(lines: Lines) -> None:
    configure_logging(level="debug", style="json")
    draftds().bind(early=URL).info(f"refused {KEY}")
    (line,) = lines()
    assert (line["event"], line["early"]) == ("refused [redacted]", "https://cdn.example/…")


def test_other_values_keep_their_meaning(lines: Lines) -> None:
    configure_logging(level="debug", style="json")
    draftds().info("settled", request_id=UUID(int=7), agents=["a", "b"], holds={"openai/m": 3})
    (line,) = lines()
    assert line["request_id"] == str(UUID(int=7))
    assert (line["agents"], line["holds"]) == (["a", "b"], {"openai/m": 3})


def test_a_long_value_is_cut(lines: Lines) -> None:
    configure_logging(level="debug", style="json")
    draftds().info("x", detail="word " * 10_000)
    assert len(lines()[0]["detail"]) == MAX_VALUE_CHARS


def test_a_traceback_is_redacted_and_shows_no_locals(lines: Lines) -> None:
    configure_logging(level="debug", style="json")
    try:
        break_with_a_secret()
    except ValueError:
        draftds().exception("broke")
        logging.getLogger("library").exception("broke")
    for line in lines():
        assert line["level"] == "error"
        assert "in break_with_a_secret" in line["exception"]
        assert line["exception"].endswith("ValueError: 21 refused for [redacted] at https://cdn.example/…")
        assert "q7Zt9" not in json.dumps(line)
        assert "words of a screenshot" not in line["exception"]


def test_what_libraries_log_takes_the_same_way(lines: Lines) -> None:
    configure_logging(level="debug", style="json")
    logging.getLogger("library").warning("key %s for %s", KEY, URL)
    (line,) = lines()
    assert line.pop("at")
    assert line == {"event": "key [redacted] for https://cdn.example/…", "level": "warning"}


def test_libraries_are_heard_from_warnings_on_and_draftd_from_its_own_level(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging(level="info", style="json")
    logging.getLogger("library").info("chatter")
    draftds().debug("detail")
    logging.getLogger("draftd.test").info("kept")
    draftds().info("kept")
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["kept", "kept"]
    configure_logging(level="error", style="json")
    structlog.get_logger("draftd.other").warning("detail")
    assert capsys.readouterr().err == ""


def test_nothing_is_written_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(level="info", style="auto")
    draftds().info("settled")
    logging.getLogger("library").error("broke")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [json.loads(line)["event"] for line in captured.err.splitlines()] == ["settled", "broke"]


def test_a_terminal_gets_readable_lines_without_rich_ones(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert importlib.util.find_spec("rich"), "with it structlog would print tracebacks with locals"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    configure_logging(level="info", style="auto", colours=True)
    try:
        break_with_a_secret()
    except ValueError:
        draftds().exception("broke", key=KEY)
        logging.getLogger("library").exception("library broke")
    shown = capsys.readouterr().err
    assert "ValueError: 21 refused for [redacted] at https://cdn.example/…" in shown
    assert "\x1b[" in shown
    assert "q7Zt9" not in shown
    assert "words of a screenshot" not in shown
    assert not shown.startswith("{")


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_a_daemon_on_a_terminal_has_coloured_lines_unless_they_are_unwanted(
    call: Call, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], *, coloured: bool
) -> None:
    async def serve(*_args: Any, **_kwargs: Any) -> int:
        draftds().info("started")
        return 0

    monkeypatch.setattr("draftd.daemon.composition.serve", serve)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    shown = call("run", env=environment("") | variables).stderr
    assert "started" in shown
    assert ("\x1b[" in shown) == coloured


def test_the_console_form_has_no_colours_when_it_is_piped(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(level="info", style="console")
    draftds().info("settled", attempt=2)
    shown = capsys.readouterr().err
    assert "\x1b" not in shown
    assert "settled" in shown
    assert "attempt=2" in shown


def test_no_logged_text_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(level="info", style="console")
    draftds().info("settled", said="\x1b[2Jgone\u202e\x9b2J")
    shown = capsys.readouterr().err
    assert "gone" in shown
    assert not {"\x1b", "\x9b", "\u202e"} & set(shown)


def test_configuring_again_does_not_double_the_lines(lines: Lines) -> None:
    configure_logging(level="info", style="json")
    configure_logging(level="info", style="json")
    draftds().info("once")
    logging.getLogger("library").error("once")
    assert len(lines()) == 2


def test_a_line_that_cannot_be_written_hurts_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            tried.append(text)
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    configure_logging(level="info", style="json")
    draftds().info("lost")
    draftds().error("lost too")
    assert [json.loads(line)["event"] for line in tried] == ["lost", "lost too"]


def test_where_an_error_came_from_is_told_without_what_it_said() -> None:
    def act(said: str) -> None:
        try:
            int(said)
        except ValueError as error:
            raise KeyError(said) from error

    words = "words of a screenshot"
    with pytest.raises(KeyError) as caught:
        act(words)
    told = traceback_of(caught.value)
    assert "in act" in told
    assert "ValueError\ncaused:\n" in told
    assert told.endswith("KeyError")
    assert words not in told
