"""The demo: nine drafts from nothing, and nothing left behind."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fix_daemon import Call, wait_until

DEVELOPERS = {
    "HTTP_PROXY": "http://127.0.0.1:9",
    "ALL_PROXY": "socks5://127.0.0.1:9",
    "NO_PROXY": "db.internal",
    "DRAFTD_LISTEN_DATABASE_URL": "postgresql://127.0.0.1:9/app",
    "DRAFTD_PROMPTS_DIR": "/nonexistent",
}
"""What a developer's environment may hold; port 9 takes no connection."""
DRAFT = re.compile(r"^— (LinkedIn post|email|phone chat), (short|medium|detailed) \(", re.MULTILINE)


class Demo:
    """A demo that runs amid a developer's settings; every process and file of it carries the name of one directory."""

    def __init__(self, directory: Path, **over: str) -> None:
        self.directory = directory / "tmp"
        self.directory.mkdir(mode=0o755)
        self.log_path = directory / "demo.log"
        checkout = directory / "checkout"
        checkout.mkdir()
        (checkout / ".env").write_text("DRAFTD_METRICS_PORT=garbage\n")
        variables = {"PATH": os.environ["PATH"], "HOME": str(directory), "TMPDIR": str(self.directory)}
        with self.log_path.open("wb") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "draftd", "demo"],
                env=variables | DEVELOPERS | over,
                cwd=checkout,
                stdout=sink,
                stderr=sink,
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def processes(self) -> list[str]:
        """Return the command lines of what was started: by the directory in their environment or arguments."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes()
                if str(self.directory).encode() in command + (process / "environ").read_bytes():
                    found.append(command.replace(b"\0", b" ").decode())
            except OSError:
                continue
        return found

    def expect_nothing_left(self, *but: Path) -> None:
        wait_until(lambda: not self.processes(), 60, what=self.processes)
        assert list(self.directory.iterdir()) == [*but]


@contextmanager
def running(**over: str) -> Iterator[Demo]:
    # Not pytest's own directory: the path of PostgreSQL's socket must stay short.
    directory = Path(tempfile.mkdtemp(prefix="demo"))
    directory.chmod(0o755)
    started = Demo(directory, **over)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.kill()
            started.process.wait()
        shutil.rmtree(directory)


@pytest.fixture
def demo() -> Iterator[Demo]:
    with running() as started:
        yield started


@pytest.mark.long
@pytest.mark.timeout(240)
def test_it_prints_nine_drafts_and_says_who_wrote_them(demo: Demo) -> None:
    assert demo.process.wait(110) == 0, demo.log
    assert len(set(DRAFT.findall(demo.log))) == 9
    assert "no model sees the screenshots" in demo.log
    assert "These drafts came from the stand-in, not from a model." in demo.log
    page = Path(demo.log.splitlines()[-1])
    assert page.read_text().count("<article>") == 9
    assert "<mark>" not in page.read_text()
    assert "not in any source" not in demo.log
    demo.expect_nothing_left(page)


def test_a_page_that_cannot_be_written_ends_it_before_it_starts(call: Call, tmp_path: Path) -> None:
    for output, why in ((tmp_path, "Is a directory"), (tmp_path / "no" / "a.html", "No such file or directory")):
        ended = call("demo", "-o", str(output), env={})
        assert (ended.returncode, ended.stdout) == (2, "")
        assert why in ended.stderr


@pytest.mark.long
@pytest.mark.timeout(240)
def test_a_model_that_cannot_be_used_ends_it_with_one_line() -> None:
    with running(MODEL="nonsense/model") as demo:
        assert demo.process.wait(110) == 78, demo.log
        said = [line for line in demo.log.splitlines() if line.startswith("draftd: ")]
        assert len(said) == 1
        assert "nonsense/model: " in said[0]
        assert demo.log.splitlines()[-1] == said[0]
        demo.expect_nothing_left()


@pytest.mark.long
@pytest.mark.timeout(240)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["started PostgreSQL", "screenshots; drafts appear", "processing"])
def test_interrupted_at_any_moment_it_leaves_nothing_behind(demo: Demo, moment: str, number: signal.Signals) -> None:
    wait_until(lambda: moment in demo.log, 100, what=lambda: demo.log)
    assert len(demo.processes()) > 1, "the directory shows what was started"
    demo.process.send_signal(number)
    assert demo.process.wait(110) == 130, demo.log
    demo.expect_nothing_left()
    assert "Traceback" not in demo.log
