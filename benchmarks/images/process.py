"""The processes of the benchmark: started, given orders, stopped."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

STOP_TIME_S = 10.0
PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a process shall do, and be measured doing."""

    file: str
    pictures: int
    in_flight: int = 1
    as_data_url: bool = False
    watched: bool = False
    """Whether each callback of the event loop is timed, which costs a little."""


class Worker:
    """A process that answers each order with its figures, as a line of JSON."""

    def __init__(self, *, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def send(self, order: Order) -> None:
        """Let it begin."""
        _pipe(self._process.stdin).write(json.dumps(asdict(order)) + "\n")
        _pipe(self._process.stdin).flush()

    def receive(self) -> dict[str, float]:
        """Wait until the order is carried out, and return its figures.

        Raises:
            RuntimeError: it ended instead; why is on stderr.
        """
        line = _pipe(self._process.stdout).readline()
        if not line:
            raise RuntimeError("a process of the benchmark ended before its answer")
        figures: dict[str, float] = json.loads(line)
        return figures

    def ask(self, order: Order) -> dict[str, float]:
        """Send an order and wait for its figures."""
        self.send(order)
        return self.receive()


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a folder, and return the URL before a file's name."""
    with _running("server", str(folder)) as process:
        port = _pipe(process.stdout).readline().strip()
        yield f"http://127.0.0.1:{port}/"


@contextmanager
def working(module: str, *arguments: str) -> Iterator[Worker]:
    """Start a worker, and end it with the context."""
    with _running(module, *arguments) as process:
        yield Worker(process=process)


@contextmanager
def _running(module: str, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", f"benchmarks.images.{module}", *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603 - composed here
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIME_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _pipe(process.stdin).close()
        _pipe(process.stdout).close()


def _pipe(pipe: IO[Any] | None) -> IO[Any]:
    if pipe is None:
        raise RuntimeError("the process was started without pipes")
    return pipe
