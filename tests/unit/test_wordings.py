"""What the texts of providers mean, every one with its source."""

import functools
import json
import re
from types import SimpleNamespace
from typing import Any

import pytest

from draftd.errors import Kind, ModelRateLimited
from draftd.providers.errors import translate
from draftd.providers.exchange import Exchange
from draftd.providers.report import Report
from draftd.providers.wordings import TABLE, Meaning
from provider_errors import ROWS, WIRES, Row
from tables import per_row

SENT = {"max_tokens": 8192, "temperature": 0.3, "top_p": 0.9}
WRAPPED = [
    row for row in ROWS if isinstance(row.said, str) and row.status == 400 and row.wire not in {"openrouter", "proxy"}
]


class RaisedByLiteLlm(Exception):
    """Says nothing: what counts is what was seen on the wire."""


def report_of(status: int, body: Any) -> Report:
    text = body if isinstance(body, str) else json.dumps(body)
    response = SimpleNamespace(status_code=status, headers={"Content-Type": "application/json"}, text=text)
    exchange = Exchange(address="https://provider.example", response=response)
    return Report(error=RaisedByLiteLlm(), exchange=exchange)


def body_of(row: Row) -> Any:
    return WIRES[row.wire](row.said) if isinstance(row.said, str) else row.said


def done_about(report: Report) -> str:
    """Return what is done about it, in the words of the table."""
    if report.is_format_refused:
        return "format"
    if report.is_stream_refused:
        return "stream"
    if report.ceiling is not None:
        return f"at most {report.ceiling}"
    if names := report.refused_parameters(SENT):
        return "without " + ", ".join(names)
    error = translate(report.error, model="m", exchange=report.exchange)
    return "quota" if isinstance(error, ModelRateLimited) and error.is_quota else error.code


def is_as_expected(report: Report, means: str) -> bool:
    if means == "hold":
        return translate(report.error, model="m", exchange=report.exchange).kind is Kind.HOLD
    return done_about(report) == means


def assert_as_expected(row: Row, report: Report) -> None:
    assert is_as_expected(report, row.means), f"{row}: {done_about(report)}: {report.meaning} {report.told()}"


@functools.cache
def reports() -> list[Report]:
    return [report_of(row.status, body_of(row)) for row in ROWS]


def test_a_providers_text_means_what_its_source_says() -> None:
    for row, report in zip(ROWS, reports(), strict=True):
        assert_as_expected(row, report)


@pytest.mark.parametrize("step", [8, pytest.param(1, marks=pytest.mark.long)])
@per_row("wire", ["openrouter", "proxy"])
def test_a_gateway_that_wraps_a_text_changes_nothing_about_it(wire: str, step: int) -> None:
    for row in WRAPPED[::step]:
        assert_as_expected(row, report_of(400, WIRES[wire](str(row.said))))


def test_the_texts_are_many_and_have_sources() -> None:
    assert len(ROWS) >= 150
    assert all("/" in row.source for row in ROWS)


def test_no_wording_is_without_a_text() -> None:
    texts = [report.said.words for report in reports()]
    wordings = [wording for _, wordings in TABLE for wording in wordings]
    assert [one for one in wordings if not any(map(re.compile(one, re.IGNORECASE).search, texts))] == []


@per_row("meaning", Meaning)
def test_every_meaning_has_a_wording(meaning: Meaning) -> None:
    assert meaning in {one for one, _ in TABLE}
