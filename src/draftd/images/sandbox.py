"""The sandbox of the helper process: no new privileges, death with its parent, and a seccomp filter for system calls.

Owns the prctl calls, which Python does not offer, and the list of refused system calls (docs/adr/0020). An old kernel or a strict
container may refuse any of them; then the limits that ``decoder`` sets still apply. Runs in the helper process only.

This protects the daemon from a compromised decoder, which runs as the same user and could otherwise read the daemon's memory,
signal it, change its limits or delete its files.
"""

import errno
import platform
import signal
import struct
from contextlib import suppress
from typing import NamedTuple

_PR_SET_PDEATHSIG = 1
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2


class _Numbers(NamedTuple):
    """The number of a system call on each machine; None if it does not exist there."""

    x86_64: int | None
    aarch64: int | None


_REFUSED = {
    # Read, write or stop another process.
    "ptrace": _Numbers(101, 117),
    "process_vm_readv": _Numbers(310, 270),
    "process_vm_writev": _Numbers(311, 271),
    # Signal one.
    "kill": _Numbers(62, 129),
    "tkill": _Numbers(200, 130),
    "tgkill": _Numbers(234, 131),
    "rt_sigqueueinfo": _Numbers(129, 138),
    "rt_tgsigqueueinfo": _Numbers(297, 240),
    "fcntl": _Numbers(72, 25),  # F_SETOWN and F_SETSIG make a pipe send any signal to any process
    # Execute another program or start a process: RLIMIT_NPROC does not bind root.
    "execve": _Numbers(59, 221),
    "execveat": _Numbers(322, 281),
    "clone": _Numbers(56, 220),
    "clone3": _Numbers(435, 435),
    "fork": _Numbers(57, None),
    "vfork": _Numbers(58, None),
    # Change another's priority or processors.
    "setpriority": _Numbers(141, 140),
    "sched_setparam": _Numbers(142, 118),
    "sched_setscheduler": _Numbers(144, 119),
    "sched_setaffinity": _Numbers(203, 122),
    "sched_setattr": _Numbers(314, 274),
    "ioprio_set": _Numbers(251, 30),
    # Delete, move, truncate, create or change files by path: none of these needs a new descriptor.
    "unlink": _Numbers(87, None),
    "unlinkat": _Numbers(263, 35),
    "rmdir": _Numbers(84, None),
    "rename": _Numbers(82, None),
    "renameat": _Numbers(264, 38),
    "renameat2": _Numbers(316, 276),
    "truncate": _Numbers(76, 45),
    "link": _Numbers(86, None),
    "linkat": _Numbers(265, 37),
    "symlink": _Numbers(88, None),
    "symlinkat": _Numbers(266, 36),
    "mkdir": _Numbers(83, None),
    "mkdirat": _Numbers(258, 34),
    "mknod": _Numbers(133, None),
    "mknodat": _Numbers(259, 33),
    "chmod": _Numbers(90, None),
    "fchmodat": _Numbers(268, 53),
    "fchmodat2": _Numbers(452, 452),
    "chown": _Numbers(92, None),
    "lchown": _Numbers(94, None),
    "fchownat": _Numbers(260, 54),
    "setxattr": _Numbers(188, 5),
    "lsetxattr": _Numbers(189, 6),
    "removexattr": _Numbers(197, 14),
    "lremovexattr": _Numbers(198, 15),
    # Share memory or messages with processes of the same user, or read its kernel keyrings.
    "shmget": _Numbers(29, 194),
    "shmat": _Numbers(30, 196),
    "shmctl": _Numbers(31, 195),
    "msgget": _Numbers(68, 186),
    "msgsnd": _Numbers(69, 189),
    "msgrcv": _Numbers(70, 188),
    "msgctl": _Numbers(71, 187),
    "semget": _Numbers(64, 190),
    "semop": _Numbers(65, 193),
    "semtimedop": _Numbers(220, 192),
    "semctl": _Numbers(66, 191),
    "add_key": _Numbers(248, 217),
    "request_key": _Numbers(249, 218),
    "keyctl": _Numbers(250, 219),
}
"""Calls that reach beyond the helper without a new descriptor, which it cannot open."""
_THREADS = ("clone", "clone3")
"""What starts a thread, too: see ``restrict``."""
_CLONE_THREAD = 0x0001_0000
"""A flag of clone(2): another thread of this process, and no process of its own."""
_PRLIMIT64 = _Numbers(302, 261)
"""Refused for other processes: a lower CPU time limit would kill them."""
_AUDIT_ARCHITECTURES = _Numbers(0xC000_003E, 0xC000_00B7)
_FOREIGN_CALLS = 0x4000_0000
"""x86-64 numbers from here on belong to another ABI (x32), which would bypass the list."""
_THIS_PROCESS = 0

_POINTER_BYTES = 8
"""A 32-bit program on such a machine uses other numbers."""
_INSTRUCTION = struct.Struct("HBBI")
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
"""Offsets in ``seccomp_data``; of an argument, the lower half, since both machines are little-endian."""
_ALLOW = (_RETURN, 0, 0, 0x7FFF_0000)
_REFUSE = (_RETURN, 0, 0, 0x0005_0000 | errno.EPERM)
_UNKNOWN = (_RETURN, 0, 0, 0x0005_0000 | errno.ENOSYS)
"""As an older kernel answers: the C library then starts its threads with clone, whose flags a filter can see."""


def restrict(*, threads: bool = False) -> bool:
    """Give up privileges, die with the parent, and refuse system calls that reach beyond this process.

    Args:
        threads: whether this process may have further threads. No process may start another.

    Returns:
        Whether the kernel refuses the calls from now on.
    """
    # An old libffi cannot be loaded where memory must not be both writable and executable.
    with suppress(ImportError, MemoryError, OSError):
        import ctypes  # noqa: PLC0415 - see above

        prctl = ctypes.CDLL(None).prctl
        prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        # An idle helper ends when stdin is closed; this ends one that is decoding when its parent is killed. For the kernel,
        # the parent is the thread that started it: the event loop's, which lives as long as the daemon.
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if instructions := filter_program(platform.machine(), threads=threads):
            code = ctypes.create_string_buffer(instructions, len(instructions))
            program = struct.pack("HP", len(instructions) // _INSTRUCTION.size, ctypes.addressof(code))
            return bool(prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0) == 0)
    return False


def filter_program(machine: str, *, threads: bool = False) -> bytes:
    """Return the seccomp filter (classic BPF); empty for a machine whose call numbers are unknown.

    Args:
        machine: as ``platform.machine`` names it.
        threads: whether further threads of the same process are allowed.
    """
    if machine not in _Numbers._fields or struct.calcsize("P") != _POINTER_BYTES:
        return b""
    architecture, prlimit64, clone, clone3 = (
        getattr(numbers, machine)
        for numbers in (_AUDIT_ARCHITECTURES, _PRLIMIT64, *(_REFUSED[name] for name in _THREADS))
    )
    refused = [getattr(numbers, machine) for name, numbers in _REFUSED.items() if not (threads and name in _THREADS)]
    # A jump has the number of instructions to skip if true, and if false.
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_IF_EQUAL, 1, 0, architecture),
        _REFUSE,
        (_LOAD, 0, 0, _NUMBER_AT),
        (_IF_AT_LEAST, 0, 1, _FOREIGN_CALLS),
        _REFUSE,
    ]
    for number in refused:
        if number is not None:
            steps += [(_IF_EQUAL, 0, 1, number), _REFUSE]
    if threads:
        steps += [
            (_IF_EQUAL, 0, 1, clone3),
            _UNKNOWN,
            (_IF_EQUAL, 0, 4, clone),
            (_LOAD, 0, 0, _FIRST_ARGUMENT_AT),
            (_IF_ANY_BIT, 1, 0, _CLONE_THREAD),
            _REFUSE,
            _ALLOW,
        ]
    steps += [
        (_IF_EQUAL, 0, 3, prlimit64),
        (_LOAD, 0, 0, _FIRST_ARGUMENT_AT),
        (_IF_EQUAL, 1, 0, _THIS_PROCESS),
        _REFUSE,
        _ALLOW,
    ]
    return b"".join(_INSTRUCTION.pack(*step) for step in steps)
