"""Output that nobody waits for: what is written appears at once, and a reader that sleeps holds up nothing."""

import io
import json
import os
import re
import sys
import termios
import tty
from collections.abc import Iterator

import pytest
import structlog

from draftd import streams
from draftd.logs import configure_logging
from draftd.streams import NonBlockingStream
from fix_output import PIPE_BYTES, full_pipe

LINES = [f"line {number:04} of many\n" for number in range(500)]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """An empty pipe: the reader's and the writer's end."""
    reads, writes = os.pipe()
    yield reads, writes
    os.close(reads)
    os.close(writes)


def outlet(descriptor: int) -> NonBlockingStream:
    """Return an outlet to a file descriptor, which stays open."""
    return NonBlockingStream(io.TextIOWrapper(io.FileIO(descriptor, "w", closefd=False), encoding="utf-8"))


def read_until(descriptor: int, end: str) -> str:
    """Read from a pipe until what came ends with a text."""
    text = ""
    while not text.endswith(end):
        text += os.read(descriptor, 65_536).decode()
    return text


def test_a_line_appears_without_being_asked_for(pipe: tuple[int, int]) -> None:
    print("one", "line", file=outlet(pipe[1]))
    assert read_until(pipe[0], "\n") == "one line\n"


def test_a_reader_that_sleeps_holds_up_nothing_and_is_told_how_many_lines_it_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "MAX_BUFFERED_BYTES", 2_000)
    with full_pipe() as (reads, writes):
        stream = outlet(writes)
        for line in LINES:
            stream.write(line)
        stream.drain(0)
        os.read(reads, PIPE_BYTES)
        seen = 0
        while seen < len(LINES):
            for line in read_until(reads, "\n").splitlines(keepends=True):
                if notice := re.fullmatch("draftd: dropped ([0-9]+) lines? that were not read in time\n", line):
                    seen += int(notice[1])
                else:
                    assert line == LINES[seen]
                    seen += 1
        assert seen == len(LINES)
        stream.write("awake\n")
        assert read_until(reads, "\n") == "awake\n"


@pytest.mark.usefixtures("logging_restored")
def test_the_log_says_in_its_own_form_how_many_lines_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_BUFFERED_BYTES", 2_000)
    with full_pipe() as (reads, writes):
        monkeypatch.setattr(sys, "stderr", outlet(writes))
        configure_logging(level="info", style="json")
        for number in range(100):
            structlog.get_logger("draftd.test").info("settled", number=number)
        os.read(reads, PIPE_BYTES)
        seen = 0
        while seen < 100:
            for line in map(json.loads, read_until(reads, "\n").splitlines()):
                if line["event"] == "settled":
                    assert line["number"] == seen
                    seen += 1
                else:
                    assert line["level"] == "warning"
                    seen += line["lines"]
        assert seen == 100


def test_the_end_waits_for_the_last_lines(pipe: tuple[int, int]) -> None:
    stream = outlet(pipe[1])
    for line in LINES:
        stream.write(line)
    stream.write("no end")
    stream.drain(20)
    os.set_blocking(pipe[0], False)
    assert os.read(pipe[0], 65_536).decode() == "".join(LINES) + "no end"


def test_a_reader_that_has_gone_hurts_nobody(pipe: tuple[int, int]) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    stream = outlet(writes)
    stream.write("said to nobody\n")
    stream.drain(20)
    os.dup2(pipe[1], stream._behind._sink)
    stream.write("said to somebody\n")
    assert read_until(pipe[0], "in time\n").startswith("said to somebody\ndraftd: dropped 1 line")
    os.close(writes)


def test_a_full_disk_loses_lines_and_says_how_many(pipe: tuple[int, int]) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    stream = outlet(full)
    for _ in range(2):
        stream.write("one\ntwo\n")
        stream.drain(20)
    os.dup2(pipe[1], stream._behind._sink)
    stream.write("there is room again\n")
    assert read_until(pipe[0], "in time\n").startswith("there is room again\ndraftd: dropped 4 lines")
    os.close(full)


def test_a_pipe_that_another_process_made_non_blocking_loses_nothing() -> None:
    with full_pipe() as (reads, writes):
        os.set_blocking(writes, False)
        stream = outlet(writes)
        for line in LINES:
            stream.write(line)
        stream.drain(0)
        os.read(reads, PIPE_BYTES)
        assert read_until(reads, LINES[-1]) == "".join(LINES)


def test_a_terminal_that_is_stopped_holds_up_nothing() -> None:
    master, terminal = os.openpty()
    tty.setraw(terminal)
    termios.tcflow(terminal, termios.TCOOFF)
    stream = outlet(terminal)
    for line in LINES:
        stream.write(line)
    stream.drain(0)
    assert stream.isatty()
    termios.tcflow(terminal, termios.TCOON)
    assert read_until(master, LINES[-1]) == "".join(LINES)
    os.close(master)
    os.close(terminal)


def test_a_stream_in_memory_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = io.StringIO()
    monkeypatch.setattr(sys, "stdout", memory)
    monkeypatch.setattr(sys, "stderr", memory)
    streams.make_output_nonblocking()
    assert sys.stdout is sys.stderr is memory
