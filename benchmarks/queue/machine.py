"""What was measured on what: the facts without which a figure says nothing."""

import os
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

GIB = 1024**3


def machine() -> str:
    """Return the machine in one line: cores, processor, memory."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{os.cpu_count()} cores, {_processor()}, {memory_bytes / GIB:.0f} GiB of memory"


def load() -> str:
    """Return how busy the machine is: the load of the last 1, 5 and 15 minutes."""
    return ", ".join(f"{one:.1f}" for one in os.getloadavg())


def versions(packages: Iterable[str]) -> str:
    """Return the versions of Python, of the kernel and of distributions in one line."""
    found = [f"{name} {version(name)}" for name in sorted(set(packages))]
    return ", ".join([f"Python {platform.python_version()}", f"Linux {platform.release()}", *found])


def postgresql(facts: Mapping[str, str]) -> str:
    """Return the server's version and settings in one line."""
    settings = ", ".join(f"{name} {value}" for name, value in facts.items() if name != "server_version")
    return f"PostgreSQL {facts['server_version']} ({settings})"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
