"""Statements kept as SQL: how they are read, and that rules which several spell out read the same in each."""

import re
from collections.abc import Mapping
from importlib.resources import files

import pytest

from draftd.db.statements import statements
from draftd.providers.holds import KEEP_INTERVAL_S, UNUSED_S
from draftd.providers.throttles import RECOVERY_S
from draftd.queue.leases import BEATS_PER_LEASE
from draftd.queue.reaping import REAP_BATCH
from draftd.queue.wakeup import CHANNEL
from tables import per_row

MODULES = [
    f"draftd.{package}.{file.name.removesuffix('.sql')}"
    for package in ("queue", "providers")
    for file in files(f"draftd.{package}").joinpath("sql").iterdir()
]


def flat(text: str) -> str:
    """Return a statement without its layout."""
    return re.sub(r"(?<=\() | (?=\))", "", " ".join(text.split()))


def between(statement: str, first: str, last: str) -> str:
    """Return a part of a statement without its layout, by how it begins and ends."""
    found = re.search(f"{re.escape(first)}.*?{re.escape(last)}", flat(statement))
    assert found is not None, f"{first} … {last}"
    return found[0]


def parts(module: str, names: str, first: str, last: str) -> list[str]:
    """Return the same part of several statements."""
    return [between(statements(module)[name], first, last) for name in names.split()]


@per_row("module", MODULES)
def test_each_file_holds_whole_statements(module: str) -> None:
    found = statements(module)
    assert found
    for text in found.values():
        assert text.startswith(("SELECT ", "WITH ", "INSERT ", "UPDATE ", "DELETE ", "(SELECT "))
        assert ";" not in text
        # psycopg looks for parameters in comments, too.
        assert not re.search(r"--.*%", text)


def test_a_name_that_is_given_twice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pathlib.Path.read_text", lambda *_: "-- name: one\nSELECT 1;\n\n-- name: one\nSELECT 2;\n")
    with pytest.raises(ValueError, match="twice"):
        statements("draftd.queue.claims")


def test_a_statement_is_sent_without_its_header() -> None:
    found: Mapping[str, str] = statements("draftd.queue.refused_rows")
    assert found["end_row"].startswith("UPDATE draft_requests AS r SET\n    status = 'failed'")


REAPERS = "reap reap_these find_reapable"


@per_row(
    ("module", "names", "first", "last"),
    [
        ("queue.claiming", "claim claim_probe claim_these", "UPDATE draft_requests", "AS expires_in_s"),
        (
            "queue.claiming",
            "claim find_claimable",
            "r.status = 'pending' AND NOT r.limited AND r.agent",
            "r.id LIMIT %(n)s",
        ),
        (
            "queue.claiming",
            "claim claim_probe find_claimable",
            "WHERE NOT EXISTS (SELECT FROM draft_pauses",
            "'model')",
        ),
        (
            "queue.claiming",
            "claim claim_probe claim_these find_claimable",
            "AND r.requester_id NOT IN (",
            "'requester')",
        ),
        ("queue.claiming", "release_strays find_strays", "r.status = 'processing'", "= r.lease_token)"),
        ("queue.reaping", REAPERS, "pass AS MATERIALIZED (", "AS now) AS p"),
        ("queue.reaping", REAPERS, "(coalesce(least(r.lease_until", "> pass.furthest"),
        ("queue.reaping", REAPERS, "served AS MATERIALIZED (", "IS NOT NULL"),
        ("queue.reaping", REAPERS, "r.expires_at IS NOT NULL", "<= pass.now"),
        ("queue.reaping", REAPERS, "r.available_at <=", "'5 s'"),
        ("queue.reaping", "reap find_reapable", "asked AS (", "orphaned AS"),
        ("queue.reaping", "reap reap_these", "UPDATE draft_requests", "AS worker_id"),
        (
            "queue.retention",
            "prune find_prunable count_prunable",
            "refined AS MATERIALIZED (",
            "processing' AND c.parent_id IS NOT NULL)",
        ),
        ("queue.retention", "prune find_prunable count_prunable", "r.status IN (", "FROM refined)"),
        ("queue.retention", "prune find_prunable", "r.created_at >= coalesce", "SKIP LOCKED"),
        ("queue.admin", "find_cancellable cancel", "FROM draft_requests AS r", "LIMIT %(batch)s"),
        ("queue.admin", "find_retryable retry", "FROM draft_requests AS r", "LIMIT %(batch)s"),
        ("queue.admin", "list_workers is_unserved", "w.heartbeat_at BETWEEN", "'1 min'"),
        ("providers.holds", "hold read_holds", "CASE WHEN h.until > now()", "AS until_s"),
        ("providers.throttles", "halve list_throttles", "least(1, greatest(0.015625", "AS share"),
    ],
)
def test_a_rule_that_several_statements_spell_out_reads_the_same_in_each(
    module: str, names: str, first: str, last: str
) -> None:
    assert len(set(parts(f"draftd.{module}", names, first, last))) == 1


@per_row(
    ("module", "name", "literal"),
    [
        ("queue.reaping", "reap", f"LIMIT {REAP_BATCH} FOR"),
        ("queue.admin", "list_workers", f"secs => {BEATS_PER_LEASE} * "),
        ("providers.holds", "mark_used", f"interval '{KEEP_INTERVAL_S / 2:g} s'"),
        ("providers.holds", "forget_unused", f"interval '{UNUSED_S:g} s'"),
        ("providers.holds", "end_hold", f"pg_notify('{CHANNEL}', '')"),
        ("providers.holds", "forget", f"pg_notify('{CHANNEL}', '')"),
        ("providers.throttles", "halve", f"::float8 / {RECOVERY_S:g})"),
    ],
)
def test_a_number_that_python_shares_is_the_same_in_the_statement(module: str, name: str, literal: str) -> None:
    assert literal in statements(f"draftd.{module}")[name]


def test_the_lost_rows_are_the_same_wherever_the_reaper_looks_for_them() -> None:
    bounds = "make_interval(secs => %(older_than_s)s)", "86400) + 5.0 FROM draft_workers AS w)"
    for name, text in statements("draftd.queue.reaping").items():
        assert name == "fail_unpayable" or all(bound in flat(text) for bound in bounds)


def test_a_renewal_is_the_same_with_and_without_the_beat() -> None:
    found = statements("draftd.queue.leases")
    beat = f", beat AS ({flat(found['beat'])})"
    assert flat(found["renew_and_beat"]).replace(beat, "") == flat(found["renew"])


def test_what_is_read_of_agents_models_and_holds_is_the_same_whoever_reads_it() -> None:
    renew, catalog = statements("draftd.queue.leases")["renew"], statements("draftd.providers.catalog")["read"]
    configuration = [between(text, "jsonb_agg(to_jsonb(a)", "AS models") for text in (renew, catalog)]
    assert len(set(configuration)) == 1
    read_holds = statements("draftd.providers.holds")["read_holds"]
    assert len({between(text, "CASE WHEN h.until > now()", "ELSE 0 END") for text in (renew, read_holds)}) == 1


def test_an_error_joins_a_rows_errors_in_the_same_way_whatever_statement_adds_it() -> None:
    settle, reap = statements("draftd.queue.settlements")["settle"], statements("draftd.queue.reaping")["reap"]
    for first, last in (
        ("CASE WHEN jsonb_typeof(r.errors)", "ELSE r.errors END ||"),
        ("'attempt', r.attempt, 'at', now(),", "'model',"),
    ):
        assert len({between(text, first, last).replace("v.", "c.") for text in (settle, reap)}) == 1
