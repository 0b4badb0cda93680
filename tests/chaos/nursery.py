"""Daemons by fork, for the short form: litellm is imported once, not two dozen times at two seconds of CPU each.

Owns a process that has imported everything and forks a ``draftd run`` when asked. What it forks is a process of its own like
any other, with the environment, the log and the sabotage that it was given. ``python -m chaos.nursery`` is that process: it
reads a line of JSON from stdin for each wish and answers with one. When its stdin ends, it ends its children.
"""

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

from chaos.saboteur import run
from draftd.providers.llm import Llm

TESTS = Path(__file__).parents[1]


class Nursery:
    """The test's side of the process that forks daemons."""

    def __init__(self) -> None:
        environment = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
        path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "chaos.nursery"],
            env=environment | {"PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=20)

    def ask(self, **wish: Any) -> Any:
        """Send a wish and return the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(wish) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def fork(
        self, arguments: Sequence[str], *, sabotage: Sequence[str], env: Mapping[str, str], log_path: Path
    ) -> "subprocess.Popen[bytes]":
        """Start a draftd command; what is returned does what is needed of a ``Popen``."""
        pid = self.ask(arguments=[*arguments], sabotage=[*sabotage], env={**env}, log=str(log_path))
        return cast("subprocess.Popen[bytes]", Child(self, pid))


class Child:
    """A forked daemon, as ``subprocess.Popen`` would show it."""

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
        ends_at = time.monotonic() + (timeout or 60.0)
        while (code := self.poll()) is None:
            if time.monotonic() > ends_at:
                raise subprocess.TimeoutExpired("draftd", timeout or 60.0)
            time.sleep(0.02)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def _serve() -> None:
    Llm.load()
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
    with Path(wish["log"]).open("wb") as sink, Path(os.devnull).open("rb") as nothing:
        if pid := os.fork():
            return pid
        for source, number in ((nothing, 0), (sink, 1), (sink, 2)):
            os.dup2(source.fileno(), number)
    code = 1
    try:
        os.environ.clear()
        os.environ.update(wish["env"])
        run(wish["sabotage"], wish["arguments"])
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:  # noqa: BLE001 - the boundary of a process: there is nobody above it who would say what went wrong
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Without what the interpreter does at its end: this is a copy of a process that goes on.
        os._exit(code)


if __name__ == "__main__":
    _serve()
