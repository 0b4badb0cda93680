"""The Python client as a package of its own: small, and beside whatever SQLAlchemy an app has."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

CLIENT = Path(__file__).parents[2] / "clients/python"
PROGRAM = """
import sqlalchemy, draftd_client, importlib.metadata
assert sqlalchemy.__version__.startswith("2.0."), sqlalchemy.__version__
names = sorted(one.metadata["Name"].lower() for one in importlib.metadata.distributions())
print(*names)
"""


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_client_installs_beside_sqlalchemy_2_0_with_a_few_dependencies(tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env/bin/python"
    _run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "sqlalchemy<2.1", str(CLIENT))
    names = _run(python, "-c", PROGRAM).split()
    assert set(names) <= {
        "draftd-client", "psycopg", "psycopg-binary", "typing_extensions", "typing-extensions", "sqlalchemy",
        "greenlet", "pip", "setuptools",
    }  # fmt: skip


def test_the_client_imports_nothing_but_psycopg_and_the_standard_library() -> None:
    program = """
import sys, psycopg
before = set(sys.modules)
import draftd_client
print(*{name.partition(".")[0] for name in sys.modules.keys() - before} - sys.stdlib_module_names)
"""
    assert _run(Path(sys.executable), "-c", program).split() == ["draftd_client"]


def _run(python: Path, *args: str) -> str:
    done = subprocess.run([python, *args], capture_output=True, text=True, check=False, cwd=CLIENT / "src", timeout=500)
    assert done.returncode == 0, done.stderr
    return done.stdout
