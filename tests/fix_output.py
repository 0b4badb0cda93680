"""Pipes that nobody reads, and logging as it was."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import structlog

PIPE_BYTES = 4096
"""The smallest pipe that Linux makes."""


@contextmanager
def full_pipe() -> Iterator[tuple[int, int]]:
    """Yield the reader's and the writer's end of a pipe into which no byte fits any more."""
    reads, writes = os.pipe()
    fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    os.write(writes, b"\n" * PIPE_BYTES)
    try:
        yield reads, writes
    finally:
        os.close(reads)
        os.close(writes)


@pytest.fixture
def logging_restored() -> Iterator[None]:
    """Leave structlog and logging as they were found."""
    root, own = logging.getLogger(), logging.getLogger("draftd")
    before = (root.handlers[:], root.level, own.level, structlog.get_config())
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    own.setLevel(before[2])
    structlog.configure(**before[3])
