"""What every ring of tests shares: the fixtures stand in ``fix_*.py``, one theme each."""

from collections.abc import Iterator

import pytest
import structlog

pytest_plugins = ["fix_database", "fix_daemon", "fix_images"]


@pytest.fixture(autouse=True)
def plain_logging() -> Iterator[None]:
    """Forget what a command that ran inside this process made of the logging: its level would hide lines from the next."""
    yield
    structlog.reset_defaults()
