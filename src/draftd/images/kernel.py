"""What the helper process asks of the kernel: to give up privileges for good, and to die with its parent.

Owns the calls that Python does not offer. An old kernel or a strict container may refuse each of them; the limits that
``decoder`` sets then remain. Runs in the helper process only.
"""

import errno
import platform
import signal
import struct
from contextlib import suppress

_PR_SET_PDEATHSIG = 1
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2

_AUDIT_ARCHITECTURES = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
_FOREIGN_CALLS = 0x4000_0000
"""From here on x86-64 numbers the calls of another interface, which would bypass the list."""

_REFUSED = {
    "x86_64": (101, 310, 311, 62, 200, 234, 129, 297, 59, 322, 56, 435, 57, 58, 72, 141, 142, 144, 203, 314),
    "aarch64": (117, 270, 271, 129, 130, 131, 138, 240, 221, 281, 220, 435, 25, 140, 118, 119, 122, 274),
}
"""ptrace, process_vm_readv, process_vm_writev, kill, tkill, tgkill, rt_sigqueueinfo, rt_tgsigqueueinfo, execve, execveat,
clone, clone3, fork, vfork (these two are x86-64's), fcntl, setpriority, sched_setparam, sched_setscheduler,
sched_setaffinity, sched_setattr.

They need no descriptor, of which the helper gets no further one; and no limit of processes binds root. By fcntl a pipe is told
to send a signal of one's choice to a process of one's choice."""
_PRLIMIT = {"x86_64": 302, "aarch64": 261}
"""Refused for other processes: a lower limit of processor time would end them."""
_OWN_LIMITS = 0

_POINTER_BYTES = 8
"""A program of 32 bits on such a machine calls by other numbers."""
_INSTRUCTION = struct.Struct("HBBI")
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
"""In what the filter is shown (seccomp_data); of an argument the lower half, as both machines are little-endian."""
_ALLOW, _REFUSE = 0x7FFF_0000, 0x0005_0000 | errno.EPERM


def promise() -> None:
    """Ask for no new privileges, for the end with the parent, and for the refusal of calls that reach or make processes."""
    # Where memory may not be writable and executable, an old libffi cannot be loaded.
    with suppress(ImportError, MemoryError, OSError):
        import ctypes  # noqa: PLC0415 - see above

        prctl = ctypes.CDLL(None).prctl
        prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        # The end of stdin ends an idle helper; this ends one in the midst of a picture whose parent was killed. For the
        # kernel the parent is the thread that started it: the event loop's, which lives as long as the daemon.
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if instructions := filter_program(platform.machine()):
            code = ctypes.create_string_buffer(instructions, len(instructions))
            program = struct.pack("HP", len(instructions) // _INSTRUCTION.size, ctypes.addressof(code))
            prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0)


def filter_program(machine: str) -> bytes:
    """Return the filter for the kernel (classic BPF, seccomp(2)); empty where the numbers of the calls are not known."""
    if machine not in _REFUSED or struct.calcsize("P") != _POINTER_BYTES:
        return b""
    numbers = _REFUSED[machine]
    rest = [
        (_IF_EQUAL, 0, 2, _PRLIMIT[machine]),
        (_LOAD, 0, 0, _FIRST_ARGUMENT_AT),
        (_IF_EQUAL, 0, 1, _OWN_LIMITS),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]
    to_refuse = len(numbers) + len(rest) - 1  # how far it is from the first test
    tests = [(_IF_EQUAL, to_refuse - index - 1, 0, number) for index, number in enumerate(numbers)]
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_IF_EQUAL, 0, to_refuse + 2, _AUDIT_ARCHITECTURES[machine]),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_IF_AT_LEAST, to_refuse, 0, _FOREIGN_CALLS),
        *tests,
        *rest,
    ]
    return b"".join(_INSTRUCTION.pack(*step) for step in steps)
