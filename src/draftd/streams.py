"""The daemon's stdout and stderr, which never block it.

An unread pipe, a terminal stopped with Ctrl-S or a hung disk blocks its writers: the event loop, the heartbeat, an exit. So
everything that Python writes goes into the bounded buffer of a ``NonBlockingStream``, and a thread writes it out. When the buffer
is full, lines are dropped, and their number is written once the stream moves again (docs/adr/0016). Invariant: only that thread
waits for a reader, except for the last lines before an exit, for at most ``LAST_LINES_S``.
"""

import atexit
import io
import os
import select
import stat
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn, TextIO

MAX_BUFFERED_BYTES = 1024 * 1024
"""How much may wait for a reader, per stream: a few thousand lines."""
BETWEEN_WRITES_S = 0.01
"""A burst of lines wakes the thread once instead of once per line."""
LAST_LINES_S = 1.0
"""How long an exit waits for its last lines to be written."""


def _lost_lines(count: int) -> str:
    return f"draftd: dropped {count} line{'' if count == 1 else 's'} that were not read in time\n"


class _Buffer(io.RawIOBase):
    """Accepts bytes without waiting; a thread writes them to a file descriptor."""

    def __init__(self, descriptor: int, *, name: str) -> None:
        self._descriptor = descriptor
        self._sink = os.dup(descriptor)
        self.name = name
        self.lost_lines: Callable[[int], str] = _lost_lines
        # Reentrant: garbage collection during ``write`` may run a finalizer that warns, and so writes.
        self._changed = threading.Condition(threading.RLock())
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._lost = 0
        self._writing = False
        threading.Thread(target=self._pump, name=f"output {name}", daemon=True).start()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: Any) -> int:
        line = bytes(data)
        with self._changed:
            if self._waiting_bytes + len(line) > MAX_BUFFERED_BYTES:
                self._lost += _lines(line)
            else:
                self._waiting.append(line)
                self._waiting_bytes += len(line)
                self._changed.notify_all()
        return len(line)

    def drain(self, time_s: float) -> None:
        """Wait until everything is written, for at most ``time_s`` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._writing, time_s)

    def _pump(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                data, lost = b"".join(self._waiting), self._lost
                self._waiting, self._waiting_bytes, self._lost = [], 0, 0
                self._writing = True
            unwritten = self._write(data)
            # Lost lines come after the waiting ones: they were dropped because the buffer was full of these.
            if unwritten or (lost and self._write(self.lost_lines(lost).encode())):
                lost += _lines(unwritten)
            else:
                lost = 0
            with self._changed:
                self._lost += lost
                self._writing = False
                self._changed.notify_all()
            time.sleep(BETWEEN_WRITES_S)

    def _write(self, data: bytes) -> bytes:
        """Write, waiting as long as it takes; return what cannot be written (a full disk, a closed pipe)."""
        while data:
            try:
                data = data[os.write(self._sink, data) :]
            except BlockingIOError:
                # Another process made this pipe or terminal non-blocking.
                poll = select.poll()
                poll.register(self._sink, select.POLLOUT)
                poll.poll()
            except OSError:
                return data
        return b""


def _lines(data: bytes) -> int:
    return data.count(b"\n")


class NonBlockingStream(io.TextIOWrapper):
    """A text stream in place of stdout or stderr; writing to it never waits and never fails.

    Args:
        stream: the stream it replaces; lines go to where its file descriptor leads now.
    """

    def __init__(self, stream: TextIO) -> None:
        self._behind = _Buffer(stream.fileno(), name=stream.name)
        super().__init__(self._behind, encoding=stream.encoding, errors=stream.errors, line_buffering=True)

    def set_loss_message(self, lost_lines: Callable[[int], str]) -> None:
        """Set the function that formats the line about lost lines."""
        self._behind.lost_lines = lost_lines

    def drain(self, time_s: float) -> None:
        """Wait until everything is written, for at most ``time_s`` seconds."""
        self.flush()
        self._behind.drain(time_s)


def make_output_nonblocking() -> None:
    """Replace stdout and stderr by a ``NonBlockingStream`` each, for the life of this process.

    A stream without a file descriptor is left alone: memory never blocks.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        with suppress(io.UnsupportedOperation):
            if not isinstance(stream, NonBlockingStream):
                setattr(sys, name, NonBlockingStream(stream))
                _unblock(stream.fileno())
    atexit.register(flush_output)


def _unblock(descriptor: int) -> None:
    """Keep output that bypasses Python, by a crashing interpreter or library, from blocking too.

    The flag belongs to the open file, which other processes share, so a pipe or terminal is opened again. One that this user may
    not open is left alone.
    """
    if os.isatty(descriptor) or stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        with suppress(OSError):
            own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            os.dup2(own, descriptor)
            os.close(own)


def flush_output() -> None:
    """Wait until everything written to stdout and stderr is out, for at most ``LAST_LINES_S``."""
    ends_at = time.monotonic() + LAST_LINES_S
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, NonBlockingStream):
            stream.drain(max(0.0, ends_at - time.monotonic()))


def exit_at_once(code: int) -> NoReturn:
    """End the process whatever its threads do, after writing its last lines if possible."""
    try:
        flush_output()
    finally:
        os._exit(code)
