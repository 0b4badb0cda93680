"""A daemon whose stdout and stderr are a full pipe that nobody reads (``draftd run 2>&1 | sleep 1d``)."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from draftd.stand_in.threaded import ThreadedStandIn
from fix_daemon import Client, environment, sample_url, wait_until
from fix_output import PIPE_BYTES, full_pipe
from nursery import nursery

TIME_S = 120.0
SMALL_BUFFER = "from draftd import streams; streams.MAX_BUFFERED_BYTES = 1_000"


@contextmanager
def unread_daemon(env: dict[str, str], client: Client) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """Start a daemon that nobody reads, and wait until the fleet knows it; yield it and the reader's end of its pipe."""
    with full_pipe() as (reads, writes):
        pipe = Path(f"/proc/{os.getpid()}/fd/{writes}")
        daemon = nursery().fork(["run"], env=env, stdout=pipe, stderr=pipe, before=SMALL_BUFFER)
        try:
            wait_for_state(client, "running", daemon)
            yield daemon, reads
        finally:
            daemon.kill()
            daemon.wait()


def wait_for_state(client: Client, state: str, daemon: "subprocess.Popen[bytes]") -> None:
    """Wait until a daemon's row says this; nothing else tells, as nobody reads its log."""
    wait_until(
        lambda: bool(client.query("SELECT 1 FROM draft_workers WHERE pid = %s AND state = %s", daemon.pid, state)),
        TIME_S,
        what=lambda: (daemon.poll(), client.query("SELECT * FROM draft_workers")),
    )


def test_requests_complete_and_sigterm_drains_although_nobody_reads(
    database: str, client: Client, stand_in: ThreadedStandIn
) -> None:
    with unread_daemon(environment(database, stand_in), client) as (daemon, reads):
        for _ in range(20):
            client.wait_for(client.insert(sample_url(stand_in)), "completed")
        os.read(reads, PIPE_BYTES)
        text = ""
        while "log lines dropped" not in text or not text.endswith("\n"):
            text += os.read(reads, PIPE_BYTES).decode()
        lost = next(
            line for line in map(json.loads, text.splitlines()) if line["event"].startswith("log lines dropped")
        )
        assert lost["lines"] > 0
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(TIME_S) == 0
    assert [row["state"] for row in client.query("SELECT state FROM draft_workers")] == ["stopped"]


def test_a_second_signal_ends_it_at_once_although_nobody_reads(
    database: str, client: Client, stand_in: ThreadedStandIn
) -> None:
    stand_in.script({"hang": True})
    with unread_daemon(environment(database, stand_in), client) as (daemon, _):
        request_id = client.insert(sample_url(stand_in))
        stand_in.wait_for_calls(1)
        daemon.send_signal(signal.SIGTERM)
        wait_for_state(client, "draining", daemon)
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(TIME_S) == 128 + signal.SIGTERM
    assert client.row(request_id)["status"] == "processing"


def test_a_part_that_dies_ends_it_although_nobody_reads(
    database: str, client: Client, stand_in: ThreadedStandIn
) -> None:
    with unread_daemon(environment(database, stand_in, DRAFTD_LEASE_S="1.5"), client) as (daemon, _):
        client.query("ALTER TABLE draft_workers RENAME TO somewhere_else")
        assert daemon.wait(TIME_S) == 1


EVERYBODY_WHO_WRITES = """
import logging, sys, threading, warnings
from draftd.streams import exit_at_once, make_output_nonblocking
make_output_nonblocking()
print("a library's words", flush=True)
logging.getLogger("library").error("logged")
warnings.warn("warned")
broken = threading.Thread(target=lambda: 1 / 0)
broken.start()
broken.join()
sys.stderr.write("x" * 100_000 + "\\n")
"""


def test_a_process_ends_although_nobody_reads() -> None:
    ends = {"": 0, "sys.exit(75)": 75, "raise ValueError('uncaught')": 1, "exit_at_once(143)": 143}
    with full_pipe() as (_, writes):
        running = {
            end: subprocess.Popen([sys.executable, "-c", EVERYBODY_WHO_WRITES + end], stdout=writes, stderr=writes)
            for end in ends
        }
        assert {end: process.wait(TIME_S) for end, process in running.items()} == ends


CRASH = "import faulthandler; faulthandler.enable(); faulthandler._sigsegv()"


def test_a_crash_ends_a_process_although_nobody_reads_of_it() -> None:
    program = [sys.executable, "-c", EVERYBODY_WHO_WRITES + CRASH]
    with full_pipe() as (_, writes):
        assert subprocess.run(program, stdout=writes, stderr=writes, timeout=TIME_S, check=False).returncode < 0
    done = subprocess.run(program, capture_output=True, text=True, timeout=TIME_S, check=False)
    assert done.returncode == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in done.stderr


def test_other_processes_keep_their_terminals_and_pipes_as_they_were() -> None:
    reads, writes = os.pipe()
    program = [sys.executable, "-c", "from draftd.streams import make_output_nonblocking; make_output_nonblocking()"]
    subprocess.run(program, stdout=writes, stderr=writes, timeout=TIME_S, check=True)
    assert os.get_blocking(writes)
    os.close(reads)
    os.close(writes)


def test_the_last_words_of_a_process_are_read() -> None:
    for end, last in {"raise ValueError('uncaught')": "uncaught", "exit_at_once(0)": "xxx"}.items():
        program = [sys.executable, "-c", EVERYBODY_WHO_WRITES + end]
        done = subprocess.run(program, capture_output=True, text=True, timeout=TIME_S, check=False)
        assert done.stdout == "a library's words\n"
        for words in ("logged", "warned", "ZeroDivisionError", last):
            assert words in done.stderr
