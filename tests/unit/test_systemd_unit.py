import os
import sys
from configparser import RawConfigParser
from pathlib import Path

import pytest

from draftd.cli.systemd_unit import program, reaper_units, service_unit
from draftd.settings import Settings
from tables import per_row

MADE_WITH = {"program": "/opt/draftd/bin/draftd", "user": "drafts", "environment_file": "/etc/drafts.env"}


def unit(text: str) -> RawConfigParser:
    """Read a unit; a key that may stand twice keeps its last value."""
    parser = RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # the documented way to keep the case of keys
    parser.read_string(text)
    return parser


def test_the_service_runs_what_it_was_made_for() -> None:
    service = unit(service_unit(**MADE_WITH))["Service"]
    assert service["ExecStart"] == "/opt/draftd/bin/draftd run"
    assert service["EnvironmentFile"] == "/etc/drafts.env"
    assert (service["User"], service["Group"]) == ("drafts", "drafts")


def test_the_supervisor_waits_for_the_whole_drain() -> None:
    service = unit(service_unit(**MADE_WITH))["Service"]
    grace_s = Settings.model_fields["shutdown_grace_s"].default
    assert int(service["TimeoutStopSec"]) >= grace_s + RELEASE_AND_FLUSH_S


RELEASE_AND_FLUSH_S = 10 + 5 + 5 + 5 + 2
"""The bounds of a shutdown after the grace: release, settlements, last beat, traces, model connections."""


def test_a_mistake_of_the_operator_is_not_restarted_and_an_outage_always_is() -> None:
    made = unit(service_unit(**MADE_WITH))
    assert made["Service"]["RestartPreventExitStatus"] == "2 78"
    assert made["Service"]["Restart"] == "always"
    assert made["Unit"]["StartLimitIntervalSec"] == "0"


def test_the_timers_text_names_a_file_for_each_of_its_units() -> None:
    lines = reaper_units(**MADE_WITH).splitlines()
    assert [line for line in lines if line.startswith("# /")] == [
        "# /etc/systemd/system/draftd-reap.service",
        "# /etc/systemd/system/draftd-reap.timer",
    ]
    assert "ExecStart=/opt/draftd/bin/draftd reap-stale" in lines


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ``draftd`` on the PATH."""
    script = tmp_path / "draftd"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/usr/bin")
    return script


def test_a_bare_name_is_found_on_the_path(installed: Path) -> None:
    assert program("draftd") == str(installed)


def test_a_relative_path_becomes_absolute(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(installed.parent)
    assert program("./draftd") == str(installed)


def test_a_module_is_started_by_its_python() -> None:
    assert program("/opt/lib/draftd/__main__.py") == f"{sys.executable} -m draftd"


@per_row(
    ("path", "word"),
    [
        ("/opt/my tools/draftd", '"/opt/my tools/draftd"'),
        ("/opt/100%/draftd", "/opt/100%%/draftd"),
    ],
)
def test_a_path_is_written_as_one_word(path: str, word: str) -> None:
    assert program(path) == word
