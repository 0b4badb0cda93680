"""What a running daemon takes over from settings that change."""

import os
from pathlib import Path

import pytest
import structlog

from draftd.daemon import plan
from draftd.daemon.plan import CurrentUrl
from draftd.settings import Settings, load_settings

URL = "postgresql://app:first@db:5432/app?options=-csearch_path%3Ddrafts"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The secrets file that the URL stands in."""
    for name in list(os.environ):
        if name.startswith("DRAFTD_"):
            monkeypatch.delenv(name)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(secrets))
    found = secrets / "DRAFTD_DATABASE_URL"
    found.write_text(URL)
    monkeypatch.setattr(plan, "FRESH_S", 0.0)
    return found


def start() -> CurrentUrl:
    return CurrentUrl(load_settings()[0], Settings.require_database_url)


def test_connections_that_open_at_once_read_the_settings_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = start()
    file.write_text(URL.replace("first", "second"))
    monkeypatch.setattr(plan, "FRESH_S", 60.0)
    assert url() == URL
    monkeypatch.setattr(plan, "FRESH_S", 0.0)
    assert url() == URL.replace("first", "second")


@pytest.mark.parametrize(
    "changed",
    [
        URL.replace("first", "second"),
        URL.replace("app:first", "app_b:second"),
        f"{URL}&sslrootcert=/etc/new.crt",
    ],
)
def test_who_connects_may_change(file: Path, changed: str) -> None:
    url = start()
    assert url() == URL
    file.write_text(f"{changed}\n")
    assert url() == changed


@pytest.mark.parametrize(
    "changed",
    [
        URL.replace("@db", "@other"),
        URL.replace("5432", "6432"),
        URL.replace("/app?", "/other?"),
        URL.replace("drafts", "others"),
        "",
        "mysql://app:second@db/app",
        f"{URL}&schema=drafts",
    ],
)
def test_where_it_leads_may_not_and_is_told_once(file: Path, changed: str) -> None:
    url = start()
    file.write_text(changed)
    with structlog.testing.capture_logs() as logs:
        assert [url(), url()] == [URL, URL]
    assert [line["event"] for line in logs] == ["changed settings ignored"]
    assert "second" not in str(logs)
    file.write_text(URL.replace("first", "third"))
    assert url() == URL.replace("first", "third")


def test_a_file_that_is_gone_for_a_moment_changes_nothing(file: Path) -> None:
    url = start()
    file.unlink()
    assert url() == URL
