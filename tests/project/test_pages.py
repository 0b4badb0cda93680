"""The pages name what clients, metrics and logs use, and wrap."""

import re
from collections.abc import Iterable
from pathlib import Path

from draftd.errors import ImageFetchFailed
from draftd.reply.platforms import Platform
from draftd.reply.result import Confidence, ContentType, Length, Option, ReplyingTo, ReplyNeeded, Result, ResultWarning
from draftd.request import CLIENT_COLUMNS, Options
from draftd.settings import Settings
from draftd.status import STATUSES
from draftd.telemetry.metrics import Metrics
from tables import per_row

ROOT = Path(__file__).parents[2]
PATTERNS = ("*.md", "docs/**/*.md", "benchmarks/*.md", "examples/**/*.md")
PAGES = sorted(path for pattern in PATTERNS for path in ROOT.glob(pattern))
WIDTH = 100


def unnamed(page: str, words: Iterable[str]) -> set[str]:
    """Return the words that a page does not name."""
    named = re.findall(r"`(\w+)", (ROOT / page).read_text())
    return set(words) - set(named)


@per_row("values", [Platform, ContentType, Length, ReplyNeeded, Confidence, ResultWarning])
def test_every_value_of_a_result_is_named(values: Iterable[str]) -> None:
    assert unnamed("docs/requests.md", values) == set()


@per_row("fields", [Options, Result, Option, ReplyingTo])
def test_every_key_is_named(fields: type[Options | Result | Option | ReplyingTo]) -> None:
    assert unnamed("docs/requests.md", fields.model_fields) == set()


def test_the_function_for_clients_takes_the_columns_that_a_client_may_set() -> None:
    functions = "".join(path.read_text() for path in sorted((ROOT / "alembic/versions").glob("*.py")))
    *_, accepted = re.findall(r"WHERE k NOT IN \((.*?)\)", functions, re.DOTALL)
    assert set(re.findall(r"'(\w+)'", accepted)) == {column.name for column in CLIENT_COLUMNS}


@per_row("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_line_of_a_page_fits_the_width(page: Path) -> None:
    """Rows of tables are as long as they need to be, and so is one long word."""
    lines = [line for line in page.read_text().splitlines() if not line.startswith("|") and " " in line.strip()]
    assert [line for line in lines if len(line) > WIDTH] == []


def prose(page: str) -> str:
    """Return a page without its line breaks."""
    return " ".join((ROOT / page).read_text().split())


@per_row("page", ["README.md", "docs/requests.md", "docs/operations.md"])
def test_roles_get_what_they_need_by_draftd_grants_and_never_the_owners_role(page: str) -> None:
    assert "draftd grants --" in prose(page)
    assert not re.search(r"GRANT \"?draftd\"? TO", prose(page), re.IGNORECASE)


@per_row(
    "told",
    [prose("README.md"), prose("docs/requests.md"), ImageFetchFailed.__doc__],
    ids=["README.md", "docs/requests.md", "the error's sentence"],
)
def test_how_long_an_address_must_live_is_told_with_what_avoids_the_question(told: str) -> None:
    until = r"URL must work until the request('s `?expires_at`?| expires \(`expires_at`\))"
    assert re.search(until + r".{0,400}\bdata:`? URL", told)


@per_row("page", ["README.md", "docs/settings.md"])
def test_every_setting_has_a_default_that_can_be_read(page: str) -> None:
    defaults = re.findall(r"^\| `DRAFTD_\w+` \| (.*?) \|", (ROOT / page).read_text(), re.MULTILINE)
    assert len(defaults) == len(Settings.model_fields)
    assert not {"", "``"} & set(defaults)


def test_every_status_is_named() -> None:
    assert unnamed("docs/requests.md", STATUSES) == set()


def test_every_metric_is_named() -> None:
    counted = ("_total", "")  # a counter's family is called without its ending
    names = {family.name + counted[family.type != "counter"] for family in Metrics().registry.collect()}
    assert unnamed("docs/operations.md", names) == set()


def test_every_event_of_the_log_is_named_with_its_level() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    source = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    logged = re.findall(r'\blog\.(info|warning|error|critical|exception)\(\s*"([^"]+)"', source)
    assert len(logged) > 40
    missing = {
        event for level, event in logged if f"| `{event}` | {'error' if level == 'exception' else level} |" not in page
    }
    assert missing == set()
