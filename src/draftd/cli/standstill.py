"""Why nothing is being drafted: the first line of ``draftd status``.

Owns which fact is the reason when several apply. Each check returns a reason or None, and the first one counts: what stops
everything comes before what stops some requests.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from draftd.cli.console import age

Facts = Mapping[str, Any]
"""What ``status`` reads: requests, workers, pauses, pending, limited, budgets, ceilings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why nothing is being drafted, or that something is."""

    code: str
    """``running``, ``idle``, or one of those of ``draft_request_wait``."""
    message: str
    until: datetime | None = None
    """When that ends by itself, if known."""

    def as_json(self) -> dict[str, Any]:
        """Return what ``status --json`` prints."""
        return {"code": self.code, "message": self.message, "until": self.until}


def reason(facts: Facts) -> Reason:
    """Return the reason."""
    found = (check(facts) for check in CHECKS)
    return next(one for one in found if one is not None)


def _running(facts: Facts) -> Reason | None:
    count = facts["requests"]["processing"]
    if not count or not any(one["alive"] for one in facts["workers"]):
        return None
    return Reason(code="running", message=f"{_requests(count)} being drafted")


def _idle(facts: Facts) -> Reason | None:
    if facts["requests"]["pending"] or facts["requests"]["processing"]:
        return None
    return Reason(code="idle", message="nothing is pending")


def _everything_paused(facts: Facts) -> Reason | None:
    found = [one for one in facts["pauses"] if one["what"] == "all"]
    return Reason(code="paused", message=paused("everything is paused", found[0])) if found else None


def _no_worker(facts: Facts) -> Reason | None:
    if any(one["alive"] and one["state"] == "running" for one in facts["workers"]):
        return None
    message, count = "no daemon is running: start `draftd run`", facts["requests"]["processing"]
    if count:
        message += f"; {_requests(count)} stuck in processing, which `draftd reap-stale` requeues"
    return Reason(code="no_worker", message=message)


def _used_up(facts: Facts) -> Reason | None:
    """Return that the fleet's budget is used up, if something is due that waits for the next day's."""
    until = next((one["used_up_until"] for one in facts["budgets"] if one["payer"] == "fleet"), None)
    if until is None or not any(one["due"] for one in facts["pending"]):
        return None
    return Reason(code="budget", message="the fleet's budget for today is used up; see `draftd settings`", until=until)


def _full(facts: Facts) -> Reason | None:
    """Return the ceiling that keeps due requests back; None if there is room."""
    full = [one for one in facts["ceilings"] if one["ceiling"]]
    if not full or not any(one["due"] for one in facts["pending"]):
        return None
    model, ceiling, wait_s = full[0]["model"], full[0]["ceiling"], full[0]["wait_s"]
    message = f"the model {model} is at the fleet's ceiling of {ceiling}; there may be room in {age(wait_s or 1)}"
    return Reason(code="model", message=message)


def _unable(facts: Facts) -> Reason | None:
    """Return why no daemon can work on the due requests; None if one can."""
    due = [one for one in facts["pending"] if one["due"]]
    if not due or any(one["is_served"] and one["state"] == "ok" for one in due):
        return None
    most = due[0]
    agent, model, n = most["agent"], most["model"], _requests(most["due"])
    if not most["is_served"]:
        return Reason(code="no_worker", message=f"no running daemon has a prompt for the agent {agent} ({n} due)")
    match most["state"]:
        case "no_key":
            return Reason(
                code="no_worker", message=f"no running daemon has a model that it can call for {agent} ({n} due)"
            )
        case "paused":
            found = [one for one in facts["pauses"] if one["what"] == "model" and one["name"] == model]
            said = f"the model {model} is paused"
            return Reason(code="paused", message=paused(said, found[0]) if found else said)
        case _:
            message = f"the model {model} is on hold: {most['code']} ({next_probe(most['until'])})"
            return Reason(code="model", message=message, until=most["until"])


def _due(facts: Facts) -> Reason | None:
    due = sum(one["due"] for one in facts["pending"])
    return Reason(code="turn", message=f"{_requests(due)} due, which a daemon will claim next") if due else None


def _limited(facts: Facts) -> Reason | None:
    """Return why the requests wait that a limit or a pause of their requesters keeps back."""
    if not facts["limited"]:
        return None
    most = facts["limited"][0]
    requester, n, until = most["requester_id"], _requests(most["n"]), most["blocked_until"]
    found = [one for one in facts["pauses"] if one["what"] == "requester" and one["name"] == requester]
    if found:
        return Reason(code="paused", message=paused(f"the requester {requester!r} is paused ({n} waiting)", found[0]))
    if until is not None:
        message = f"the requester {requester!r} has spent the day's budget ({n} waiting)"
        return Reason(code="budget", message=message, until=until)
    return Reason(
        code="limit", message=f"the requester {requester!r} is at a limit ({n} waiting); see `draftd limits list`"
    )


def _later(facts: Facts) -> Reason:
    moments = [one["next_at"] for one in facts["pending"] if one["next_at"] is not None]
    if not moments:
        return Reason(code="turn", message="what was pending has just been claimed")
    in_s = (min(moments) - datetime.now(UTC)).total_seconds()
    return Reason(
        code="later", message=f"nothing is due; the next request is in {age(max(0.0, in_s))}", until=min(moments)
    )


CHECKS: tuple[Callable[[Facts], Reason | None], ...] = (
    _running,
    _idle,
    _everything_paused,
    _no_worker,
    _used_up,
    _unable,
    _full,
    _due,
    _limited,
    _later,
)


def _requests(count: int) -> str:
    return f"{count} request{'' if count == 1 else 's'}"


def paused(what: str, pause: Mapping[str, Any]) -> str:
    """Return what is paused, by whom, since when and why."""
    since_s = (datetime.now(UTC) - pause["since"]).total_seconds()
    why = f": {pause['reason']}" if pause["reason"] else ""
    return f"{what}, by {pause['by']} {age(max(0.0, since_s))} ago{why}"


def next_probe(until: datetime | None) -> str:
    """Return when a model on hold is probed next."""
    remaining_s = (until - datetime.now(UTC)).total_seconds() if until else 0.0
    return f"next probe in {age(remaining_s)}" if remaining_s > 0 else "probe due"
