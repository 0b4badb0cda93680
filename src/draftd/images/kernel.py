"""What the helper process asks of the kernel: to give up privileges for good, to die with its parent, and to refuse system calls.

Owns the calls that Python does not offer, and the list of refused system calls (docs/adr/0020). An old kernel or a strict
container may refuse each of them; the limits that ``decoder`` sets then remain. Runs in the helper process only.

This guards the daemon against a decoder that was taken over: it runs as the same user, so without the list it could read the
daemon's memory, signal it, change its limits or delete its files.
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
    """What a system call has for a number; None where it does not exist."""

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
    "fcntl": _Numbers(72, 25),  # tells a pipe to send a signal of one's choice to a process of one's choice
    # Become another program, or start a process: no limit of processes binds root.
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
    # Delete, move, empty, make or change what stands under a path: none of them opens anything.
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
    # Share memory or messages with processes of the same user, or read the keys that the kernel keeps for it.
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
"""What reaches beyond the helper without a descriptor, of which it can get no further one."""
_THREADS = ("clone", "clone3")
"""What starts a thread, too: see ``promise``."""
_CLONE_THREAD = 0x0001_0000
"""A flag of clone(2): another thread of this process, and no process of its own."""
_PRLIMIT64 = _Numbers(302, 261)
"""Refused for other processes: a lower limit of processor time would end them."""
_AUDIT_ARCHITECTURES = _Numbers(0xC000_003E, 0xC000_00B7)
_FOREIGN_CALLS = 0x4000_0000
"""From here on x86-64 numbers the calls of another interface (x32), which would bypass the list."""
_THIS_PROCESS = 0

_POINTER_BYTES = 8
"""A program of 32 bits on such a machine calls by other numbers."""
_INSTRUCTION = struct.Struct("HBBI")
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
"""In what the filter is shown (seccomp_data); of an argument the lower half, as both machines are little-endian."""
_ALLOW = (_RETURN, 0, 0, 0x7FFF_0000)
_REFUSE = (_RETURN, 0, 0, 0x0005_0000 | errno.EPERM)
_UNKNOWN = (_RETURN, 0, 0, 0x0005_0000 | errno.ENOSYS)
"""As an older kernel answers: the C library then starts its threads with clone, whose flags a filter can see."""


def promise(*, threads: bool = False) -> bool:
    """Ask for no new privileges, for the end with the parent, and for the refusal of calls that reach beyond it.

    Args:
        threads: whether this process may have further threads. No process may start another.

    Returns:
        Whether the kernel refuses the calls from now on.
    """
    # Where memory may not be writable and executable, an old libffi cannot be loaded.
    with suppress(ImportError, MemoryError, OSError):
        import ctypes  # noqa: PLC0415 - see above

        prctl = ctypes.CDLL(None).prctl
        prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        # The end of stdin ends an idle helper; this ends one in the midst of a picture whose parent was killed. For the
        # kernel the parent is the thread that started it: the event loop's, which lives as long as the daemon.
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if instructions := filter_program(platform.machine(), threads=threads):
            code = ctypes.create_string_buffer(instructions, len(instructions))
            program = struct.pack("HP", len(instructions) // _INSTRUCTION.size, ctypes.addressof(code))
            return bool(prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0) == 0)
    return False


def filter_program(machine: str, *, threads: bool = False) -> bytes:
    """Return the filter for the kernel (classic BPF, seccomp(2)); empty where the numbers of the calls are not known.

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
    # A test is followed by how many instructions to skip if it is true, and if it is false.
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
