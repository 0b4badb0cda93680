"""The signals that stop draftd: SIGTERM, SIGINT and SIGHUP, from the program's first line on.

The kernel drops signals that process 1 has no handler for, so a daemon that is process 1 of its container would miss a SIGTERM
during its imports. Imports nothing heavy.
"""

import os
import signal
import sys
from types import FrameType

_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def stop_signals() -> list[signal.Signals]:
    """Return the signals that stop the daemon; SIGHUP is not one of them under ``nohup``."""
    nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [number for number in _STOPPING if not (nohup and number is signal.SIGHUP)]


def handle_stop_signals_early() -> None:
    """Let the signals end the process at once, until the daemon's event loop handles them.

    Nothing has begun by then, so ``draftd run`` has stopped as asked, and exits with 0. The system ends any other command, unless
    it is process 1, which exits with 128 plus the signal's number, as a shell reports it. Python handles SIGINT itself.
    """
    if sys.argv[1:2] == ["run"]:
        for number in stop_signals():
            signal.signal(number, _stop)
    elif os.getpid() == 1:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _end)
    # The parent may have blocked them, so that none is lost before this line (docs/adr/0011).
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)


def interrupt_on_sigterm() -> None:
    """Let SIGTERM end a command as Ctrl-C does, with what the command has to undo."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _stop(_number: int, _frame: FrameType | None) -> None:
    os._exit(0)


def _end(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)
