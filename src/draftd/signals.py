"""The signals that stop draftd: SIGTERM, SIGINT and SIGHUP, from the program's first line on.

The kernel drops a signal for process 1 that the process has not asked for, so a daemon that is the init of its container would
miss a SIGTERM during its imports. Nothing heavy is imported here.
"""

import os
import signal
import sys
from types import FrameType

_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def stopping() -> list[signal.Signals]:
    """Return the signals that stop the daemon; under ``nohup`` SIGHUP is none of them."""
    nohup = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [number for number in _STOPPING if not (nohup and number is signal.SIGHUP)]


def obey_from_the_start() -> None:
    """Let the signals end the process at once, until the daemon's event loop takes them over.

    Nothing has begun by then: ``draftd run`` has stopped as asked, and exits with 0. The system ends any other command, unless
    it is process 1; that one exits as a shell would report it, with 128 and the signal's number. Python itself sees to SIGINT.
    """
    if sys.argv[1:2] == ["run"]:
        for number in stopping():
            signal.signal(number, _stop)
    elif os.getpid() == 1:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _end)
    # Whoever started this process may have blocked them, so that none is lost before this line (docs/adr/0011).
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)


def _stop(_number: int, _frame: FrameType | None) -> None:
    os._exit(0)


def _end(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)
