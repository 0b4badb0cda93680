"""What every ring of tests shares: the fixtures stand in ``fix_*.py``, one theme each."""

import gc
import os
import signal
from collections.abc import Generator

import pytest
import structlog
from hypothesis import HealthCheck, settings

# How long an example takes is the machine's affair: one that stands still for a moment is no counter-example.
# The same examples each time, so that no run fails by chance; the long profile has others, and two hundred times as many.
settings.register_profile(
    "draftd", max_examples=5, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("long", parent=settings.get_profile("draftd"), max_examples=1_000)
settings.load_profile("draftd")

# What a script starts in the background inherits that Ctrl-C is ignored, and hands it on to all that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# And under nohup, that a terminal which closes is ignored.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

pytest_plugins = [
    "fix_browser",
    "fix_database",
    "fix_daemon",
    "fix_images",
    "fix_llm",
    "fix_money",
    "fix_node",
    "fix_output",
    "fix_roles",
    "fix_postgrest",  # after those that it imports
    "fix_telegram",
]


@pytest.hookimpl(optionalhook=True)  # without pytest-xdist there is no such hook
def pytest_xdist_auto_num_workers() -> int:
    """Return two workers more than there are cores: half of the time a test waits for a process, a lease or a database."""
    return len(os.sched_getaffinity(0)) + 2


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector from searching modules and tests, none of which is garbage."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)  # a hook, because a fixture of every test would be a tenth of the unit ring's time
def pytest_runtest_teardown() -> None:
    """Forget what a command that ran inside this process made of the logging: its level would hide lines from the next."""
    structlog.reset_defaults()
