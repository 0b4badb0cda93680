"""Worker processes, as the benchmark sees them: started, killed, and what they cost."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

from benchmarks.queue.contender import Behaviour

STOP_TIME_S = 15.0
OTHERS = ("DRAFTD_", "LANGFUSE_", "OBAN_", "PGQUEUER_", "PROCRASTINATE_", "PG")
"""Variables that would set a contender up otherwise than is told."""
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class WorkerProcess:
    """A worker of one contender, in a process of its own, which leaves no process behind.

    Args:
        contender: its name.
        url: its database.
        concurrency: how many requests at a time.
        behaviour: what its handlers do.
        starts: where its handlers enter their starts.
        log: where its output goes.
        whole: see ``Job``.
    """

    def __init__(
        self,
        *,
        contender: str,
        url: str,
        concurrency: int,
        behaviour: Behaviour,
        starts: Path,
        log: Path,
        whole: bool = False,
    ) -> None:
        command = [sys.executable, "-m", "benchmarks.queue.worker", contender, "--url", url]
        command += ["--concurrency", str(concurrency), "--behaviour", behaviour, "--starts", str(starts)]
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - the command is composed here
                [*command, *(["--whole"] if whole else [])],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env={key: value for key, value in os.environ.items() if not key.startswith(OTHERS)},
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.stop()
        else:
            self.kill()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def check(self) -> None:
        """See that it still runs.

        Raises:
            RuntimeError: it has ended; the message holds its last words.
        """
        if self._process.poll() is not None:
            last = self._log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"the worker ended with {self._process.returncode}: {last}")

    def kill(self) -> None:
        """End it as a crash does: kill -9."""
        self._process.kill()
        self._process.wait()
        self._forget()

    def stop(self) -> None:
        """End it as its operator would, and by force if that takes too long."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_TIME_S)
            except subprocess.TimeoutExpired:
                self.kill()
        self._forget()

    def _forget(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()

    def cpu_s(self) -> float:
        """Return how much CPU time it has used so far (proc(5): utime and stime)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    def peak_memory_bytes(self) -> int:
        """Return the most memory it has had resident (proc(5): VmHWM)."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError(f"the kernel tells nothing of the memory of process {self.pid}")
