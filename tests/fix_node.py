"""Node.js for tests of what apps in JavaScript use; the packages are those of clients/js, which `make install` puts there."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

CLIENT = Path(__file__).parents[1] / "clients/js"
Node = Callable[..., str]


@pytest.fixture(scope="session")
def node() -> Node:
    """Run a program of Node.js in clients/js with more environment; return what it prints."""
    program = shutil.which("node")
    if program is None or not (CLIENT / "node_modules/pg").is_dir():
        pytest.skip("needs Node.js 20 and the packages of clients/js (`make install` installs them where npm is)")

    def run(*args: str, timeout_s: float = 120, **environment: str) -> str:
        done = subprocess.run(
            [program, *args],
            cwd=CLIENT,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run
