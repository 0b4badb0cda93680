"""Draftd processes by fork: litellm is imported once in a run, not a hundred times at two seconds of CPU each.

Owns a process that has imported everything and forks a draftd command when asked. What it forks is a process of its own like
any other, with the environment, the folder, the streams and the sabotage that it was given. ``python -m nursery`` is that
process: it reads a line of JSON from stdin for each wish and answers with one. When its stdin ends, it ends its children.
"""

import atexit
import functools
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, cast

from chaos.saboteur import run
from draftd.cli import command
from draftd.images.fetch import trusted
from draftd.providers.llm import Llm

TESTS = Path(__file__).parent
PRELOADED = (
    "aiohttp",
    "anyio._backends._asyncio",
    "fasttext",
    "litellm._service_logger",
    "litellm.llms.openai.chat.gpt_audio_transformation",
    "litellm.llms.vertex_ai.vertex_ai_partner_models.anthropic.transformation",
    "draftd.cli.doctor",
    "draftd.daemon.composition",
    "draftd.db.schema_version",
)
"""What commands, and the first call of a model, import when they get to it."""
TRUST = ("SSL_CERT_FILE", "SSL_CERT_DIR")
KEPT_VARIABLES = ("PATH", "HOME", "TMPDIR", "LANG", *TRUST)


class Nursery:
    """The tests' side of the process that forks."""

    def __init__(self) -> None:
        environment = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
        self._one_at_a_time = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-u", "-m", "nursery"],
            env=environment | {"PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        """End it, and whatever it has forked."""
        self._process.communicate(timeout=20)

    def ask(self, **wish: Any) -> Any:
        """Send a wish and return the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._one_at_a_time:
            self._process.stdin.write(json.dumps(wish) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())

    def fork(
        self,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        stdout: Path,
        stderr: Path,
        cwd: Path | None = None,
        sabotage: Sequence[str] = (),
        before: str = "",
    ) -> "subprocess.Popen[bytes]":
        """Start a draftd command, after the code ``before``; what is returned does what is needed of a ``Popen``."""
        for stream in (stdout, stderr):
            stream.write_bytes(b"")
        streams = {"stdout": str(stdout), "stderr": str(stderr), "cwd": str(cwd or Path.cwd())}
        pid = self.ask(arguments=[*arguments], sabotage=[*sabotage], before=before, env={**env}, **streams)
        return cast("subprocess.Popen[bytes]", Child(self, pid))


@functools.cache
def nursery() -> Nursery:
    """Return the nursery of this run, which begins with the first look at it."""
    return Nursery()


def close() -> None:
    """End the nursery of this run, if it has begun."""
    if nursery.cache_info().currsize:
        nursery().close()
        nursery.cache_clear()


class Child:
    """A forked process, as ``subprocess.Popen`` would show it."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self._nursery = nursery
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, None while it runs."""
        if self.returncode is None:
            self.returncode = self._nursery.ask(wait=self.pid)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code."""
        if self.returncode is None:
            # Until the nursery is asked for its code, the process keeps its id.
            end = os.pidfd_open(self.pid)
            try:
                ended, _, _ = select.select([end], [], [], timeout)
            finally:
                os.close(end)
            if not ended:
                raise subprocess.TimeoutExpired("draftd", timeout or 0.0)
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def completed(
    arguments: Sequence[str], *, env: Mapping[str, str], time_s: float, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a draftd command to its end, as ``subprocess.run`` does.

    Raises:
        subprocess.TimeoutExpired: it has not ended in time, and was killed.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        child = nursery().fork(arguments, env=env, stdout=out, stderr=err, cwd=cwd)
        try:
            code = child.wait(time_s)
        except BaseException:
            child.kill()
            child.wait()
            raise
        return subprocess.CompletedProcess(["draftd", *arguments], code, out.read_text(), err.read_text())


def _serve() -> None:
    Llm.load()
    for name in PRELOADED:
        importlib.import_module(name)
    trusted(*map(os.environ.get, TRUST))
    command()
    # Garbage collections in the children would copy every page of what they share.
    gc.freeze()
    children: set[int] = set()
    for line in sys.stdin:
        wish = json.loads(line)
        if (pid := wish.get("wait")) is None:
            answer: int | None = _forked(wish)
            children.add(cast("int", answer))
        else:
            ended, status = os.waitpid(pid, os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if ended else None
            children -= {ended}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def _forked(wish: Mapping[str, Any]) -> int:
    if pid := os.fork():
        return pid
    code = 1
    try:
        with Path(os.devnull).open("rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        for number, stream in ((1, "stdout"), (2, "stderr")):
            with Path(wish[stream]).open("ab") as sink:
                os.dup2(sink.fileno(), number)
        os.environ.clear()
        os.environ.update(wish["env"])
        os.chdir(wish["cwd"])
        exec(wish["before"], {})  # noqa: S102 - a test's own code, which changes something of draftd in this process
        run(wish["sabotage"], wish["arguments"])
    except SystemExit as ended:
        code = _exit_code(ended)
    except BaseException:  # noqa: BLE001 - the boundary of a process: there is nobody above it who would say what went wrong
        traceback.print_exc()
    finally:
        _leave(code)


def _leave(code: int) -> NoReturn:
    """End a copy as an interpreter ends, but without taking apart what it has imported, which costs a third of a second."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # private, and what the interpreter calls
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
    finally:
        os._exit(code)


def _exit_code(ended: SystemExit) -> int:
    return ended.code if isinstance(ended.code, int) else int(ended.code is not None)


if __name__ == "__main__":
    _serve()
