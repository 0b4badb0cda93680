import ctypes
import errno
import struct

import pytest

from draftd.images import sandbox
from tables import per_row

MACHINES = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
ALLOW, REFUSE = 0x7FFF_0000, 0x0005_0000 | errno.EPERM
NEEDED = {"x86_64": {"read": 0, "mmap": 9, "exit_group": 231}, "aarch64": {"read": 63, "mmap": 222, "exit_group": 94}}
PTHREAD, SIGCHLD = 0x3D_0F00, 17
"""The flags with which the C library starts a thread, and a process."""
PRLIMIT64 = {"x86_64": 302, "aarch64": 261}


def verdict(program: bytes, number: int, *, architecture: int, first_argument: int = 0) -> int:
    """Run a filter as the kernel does (seccomp(2)), on one system call."""
    data = struct.pack("<IIQ6Q", number, architecture, 0, first_argument, 0, 0, 0, 0, 0)
    steps = list(struct.iter_unpack("HBBI", program))
    at, loaded = 0, 0
    while True:
        code, if_true, if_false, value = steps[at]
        at += 1
        match code:
            case 0x20:
                (loaded,) = struct.unpack_from("<I", data, value)
            case 0x15:
                at += if_true if loaded == value else if_false
            case 0x45:
                at += if_true if loaded & value else if_false
            case 0x35:
                at += if_true if loaded >= value else if_false
            case 0x06:
                return int(value)
            case _:
                raise AssertionError(f"no instruction of a filter: {code}")


@per_row("machine", MACHINES)
def test_every_named_call_is_refused_and_what_a_decoder_needs_is_not(machine: str) -> None:
    program = sandbox.filter_program(machine)
    refused = {name: getattr(numbers, machine) for name, numbers in sandbox._REFUSED.items()}

    def verdicts(numbers: dict[str, int | None]) -> dict[str, int]:
        return {
            name: verdict(program, number, architecture=MACHINES[machine])
            for name, number in numbers.items()
            if number is not None
        }

    assert set(verdicts(refused).values()) == {REFUSE}
    assert set(verdicts(dict(NEEDED[machine])).values()) == {ALLOW}


@per_row("machine", MACHINES)
def test_limits_can_be_changed_of_the_own_process_only(machine: str) -> None:
    program, architecture = sandbox.filter_program(machine), MACHINES[machine]

    assert verdict(program, PRLIMIT64[machine], architecture=architecture, first_argument=0) == ALLOW
    assert verdict(program, PRLIMIT64[machine], architecture=architecture, first_argument=4711) == REFUSE


@per_row("machine", MACHINES)
def test_another_interface_to_the_kernel_is_refused_whole(machine: str) -> None:
    program, number = sandbox.filter_program(machine), NEEDED[machine]["read"]

    assert verdict(program, number, architecture=0x4000_0003) == REFUSE
    assert verdict(program, 0x4000_0000 + number, architecture=MACHINES[machine]) == REFUSE


def test_a_machine_whose_calls_are_not_known_has_no_filter() -> None:
    assert sandbox.filter_program("riscv64") == b""


@per_row("machine", MACHINES)
def test_each_name_has_the_number_that_libseccomp_knows(machine: str) -> None:
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        pytest.skip("libseccomp is not installed")
    unknown = -1
    for name, numbers in [*sandbox._REFUSED.items(), ("prlimit64", sandbox._PRLIMIT64)]:
        known = library.seccomp_syscall_resolve_name_arch(MACHINES[machine], name.encode())
        # Below zero: the machine has no such call.
        assert max(known, unknown) == (unknown if getattr(numbers, machine) is None else getattr(numbers, machine)), (
            name
        )


@per_row("machine", MACHINES)
def test_where_threads_are_allowed_processes_are_not(machine: str) -> None:
    program, architecture = sandbox.filter_program(machine, threads=True), MACHINES[machine]
    numbers = {name: getattr(sandbox._REFUSED[name], machine) for name in ("clone", "clone3", "ptrace", "execve")}

    def said(name: str, flags: int = 0) -> int:
        return verdict(program, numbers[name], architecture=architecture, first_argument=flags)

    assert said("clone", PTHREAD) == ALLOW
    assert said("clone", SIGCHLD) == REFUSE
    assert said("clone", PTHREAD & ~0x1_0000) == REFUSE
    assert said("clone3") == 0x0005_0000 | errno.ENOSYS
    assert {said("ptrace"), said("execve")} == {REFUSE}
    assert verdict(program, PRLIMIT64[machine], architecture=architecture, first_argument=4711) == REFUSE
    assert verdict(program, NEEDED[machine]["read"], architecture=architecture) == ALLOW
