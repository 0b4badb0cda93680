"""What every scenario ends with: no request lost, each final once, no result accepted twice, nothing paid without a reason.

Owns the one judgement and the line of figures. It believes nothing but the trigger's record, the stand-in's log and
``draft_usage``.
"""

import sys
from collections import Counter
from dataclasses import dataclass
from typing import Any

from chaos.scene import FINAL, Scene

REPAIR = "Your last answer cannot be used"
"""How the message begins that asks a model to mend its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What came of one scenario."""

    requests: int
    completed: int
    failed: int
    cancelled: int
    calls: int
    repairs: int
    leases_lost: int
    given_back: int


def verdict(scene: Scene, *, recovery_s: float, interrupts_calls: bool = False, note: str = "") -> Figures:
    """Judge a scene in which every request should be final, and print its figures.

    Args:
        scene: what was played.
        recovery_s: from the end of the disturbance until all was well again, in seconds; for the figures.
        interrupts_calls: whether rows were given back in the middle of a model call (a shutdown); each is one call more.
        note: more for the figures.
    """
    rows, audit = scene.rows(), scene.audit()
    assert {str(row["id"]) for row in rows} == set(scene.request_ids), "requests were lost"
    open_rows = [row for row in rows if row["status"] not in FINAL]
    assert not open_rows, open_rows
    _assert_final_once(scene, audit)
    _assert_one_result_each(rows, audit)
    figures = _figures(scene, rows, audit)
    allowed = figures.requests + figures.repairs + figures.leases_lost + figures.given_back * interrupts_calls
    (usage,) = scene.client.query("SELECT count(*) AS n FROM draft_usage")
    assert figures.calls <= allowed, figures
    assert usage["n"] <= allowed, figures
    _print(scene, figures, recovery_s, note)
    return figures


def _assert_final_once(scene: Scene, audit: list[dict[str, Any]]) -> None:
    ends = Counter(str(one["request_id"]) for one in audit if one["became"] in FINAL and one["was"] not in FINAL)
    assert ends == dict.fromkeys(scene.request_ids, 1), "a request was not final exactly once"
    touched = [one for one in audit if one["was"] in FINAL]
    assert not touched, f"written after its end: {touched}"


def _assert_one_result_each(rows: list[dict[str, Any]], audit: list[dict[str, Any]]) -> None:
    accepted = Counter(one["request_id"] for one in audit if one["brings_result"])
    assert accepted == {row["id"]: 1 for row in rows if row["status"] == "completed"}, "results and ends do not agree"


def _figures(scene: Scene, rows: list[dict[str, Any]], audit: list[dict[str, Any]]) -> Figures:
    statuses = Counter(row["status"] for row in rows)
    log = scene.stand_in.log
    return Figures(
        requests=len(rows),
        completed=statuses["completed"],
        failed=statuses["failed"],
        cancelled=statuses["cancelled"],
        calls=len(log),
        repairs=sum(REPAIR in call["prompt"] for call in log),
        leases_lost=sum(1 for one in audit if is_connection_loss(one)),
        given_back=sum(1 for one in audit if one["was"] == "processing" and one["attempt"] < one["attempt_was"]),
    )


def is_connection_loss(one: dict[str, Any]) -> bool:
    """Say whether a recorded update took a row away from its worker."""
    if one["was"] != "processing":
        return False
    reaped = one["became"] in {"pending", "failed"} and one["code"] == "worker_lost"
    return bool(reaped or one["became"] == "cancelled")


def _print(scene: Scene, figures: Figures, recovery_s: float, note: str) -> None:
    ends = ", ".join(
        f"{count} {status}"
        for status, count in (
            ("completed", figures.completed),
            ("failed", figures.failed),
            ("cancelled", figures.cancelled),
        )
        if count
    )
    line = (
        f"chaos: {scene.name}: seed {scene.seed}: {figures.requests} requests ({ends}), {figures.calls} calls, "
        f"{figures.repairs} repairs, {figures.leases_lost} leases lost, {figures.given_back} given back, "
        f"recovery {recovery_s:.1f} s{'; ' if note else ''}{note}"
    )
    sys.stdout.write(f"\n{line}\n")
    sys.stdout.flush()
