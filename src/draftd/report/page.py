"""A report on a period as one HTML file.

Owns how figures are worded and shown. Invariant: without content, nothing that a client, a person or a model wrote is on the
page, and no angle, which says what a conversation is about.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from draftd import __version__
from draftd.demo import marks
from draftd.json_values import json_list, json_object, json_objects
from draftd.report import plots
from draftd.report.document import environment
from draftd.report.figures import LENGTHS, STATUSES, Cost, Figures, Group, total
from draftd.report.intervals import Share

MAX_DAYS = 92
"""Bars of the cost per day; a longer period is shown by month."""
TEXT_CHARS = 2_000
"""Of a text on the page; the row has all of it."""
NAME_CHARS = 80
MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
FEW = 30
"""With fewer observations an interval is so wide that the page says so."""
_TONES = {"sent": "good", "edited": "fair", "rejected": "bad"}
_OUTCOMES = {"sent": "sent as drafted", "edited": "sent after edits", "rejected": "rejected"}


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionView:
    """An option of a draft as it is shown."""

    length: str
    angle: str
    stance: str
    pieces: Sequence[tuple[str, bool]]
    """The text in pieces, and whether each is a fact without a source; empty without content."""
    is_chosen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftView:
    """A request as it is shown."""

    row: Mapping[str, Any]
    place: str
    gist: str
    options: Sequence[OptionView]
    sent_text: str
    outcome: str
    tone: str


def render(figures: Figures, drafts: Sequence[Mapping[str, Any]], *, with_content: bool) -> str:
    """Return the page.

    Args:
        figures: of the period.
        drafts: the rows of the last drafts.
        with_content: whether to show texts, names and angles.
    """
    costs = _costs(figures.by_day)
    made = environment("draftd.report")
    made.filters |= {
        "count": _count, "percent": _percent, "points": _points, "duration": duration, "usd": usd, "cost": _cost,
        "moment": _moment, "name": _name,
    }  # fmt: skip
    return made.get_template("report.html.j2").render(
        figures=figures,
        drafts=[_draft(row, with_content=with_content) for row in drafts],
        with_content=with_content,
        period=_period(figures),
        volume=_volume(figures),
        latency=_latency(figures),
        costs=plots.stacked([(f"{day}: {_cost(cost)}", [("accent", cost.usd or 0.0)]) for day, cost in costs.items()]),
        cost_labels=[(day, _short_cost(cost)) for day, cost in costs.items()],
        cost_step="day" if len(figures.by_day) <= MAX_DAYS else "month",
        edits=_edits(figures.tenths),
        few=FEW,
        version=__version__,
    )


def duration(seconds: float | None) -> str:
    """Return a duration for a person."""
    if seconds is None:
        return "\N{EN DASH}"
    if seconds < 9.95:  # noqa: PLR2004 - what rounds to ten
        return f"{seconds:.1f} s"
    for limit_s, unit_s, unit in ((2 * MINUTE_S, 1, "s"), (2 * HOUR_S, MINUTE_S, "min"), (2 * DAY_S, HOUR_S, "h")):
        if seconds < limit_s:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds / DAY_S:.0f} d"


def usd(amount: float) -> str:
    """Return an amount with as many digits as it needs."""
    return f"${amount:,.2f}" if amount >= 1 or amount == 0 else f"${amount:.2g}" if amount < 0.01 else f"${amount:.3f}"  # noqa: PLR2004  # a cent and a dollar


def _cost(cost: Cost) -> str:
    """Return a cost; what is not known is said."""
    if cost.usd is None:
        return "unknown"
    return usd(cost.usd) + ("" if not cost.unpriced else f" + {_count(cost.unpriced)} calls at unknown prices")


def _count(number: float) -> str:
    return f"{number:,.0f}"


def _percent(share: float | None) -> str:
    return "\N{EN DASH}" if share is None else f"{100 * share:.0f} %"


def _points(difference: float) -> str:
    """Return a difference of shares in percentage points, with its sign."""
    text = f"{100 * difference:+.0f}"
    return "0" if text in {"+0", "-0"} else text.replace("-", "\N{MINUS SIGN}")


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%b %-d, %H:%M}"


def _name(text: Any) -> str:
    """Return a name that somebody else has chosen, at a length that fits."""
    return _cut(text, NAME_CHARS)


def _cut(text: Any, most: int = TEXT_CHARS) -> str:
    whole: str = text if isinstance(text, str) else ""
    return whole if len(whole) <= most else whole[: most - 1] + "…"


def _period(figures: Figures) -> str:
    """Return how long the period is: ``24 hours``, ``7 days``."""
    seconds = round((figures.until - figures.since).total_seconds())
    for unit_s, unit in ((DAY_S, "day"), (HOUR_S, "hour"), (MINUTE_S, "minute"), (1, "second")):
        # Up to two days are hours.
        if seconds % unit_s == 0 and seconds >= (2 * DAY_S if unit_s == DAY_S else unit_s):
            return f"{seconds // unit_s} {unit}{'' if seconds == unit_s else 's'}"
    return duration(seconds)


def _step_title(at: datetime, step_s: int) -> str:
    return f"{at.astimezone(UTC):%b %-d}" if step_s >= DAY_S else _moment(at)


def _volume(figures: Figures) -> plots.Plot:
    columns = []
    for step in figures.steps:
        told = ", ".join(f"{_count(step.counts[status])} {status}" for status in STATUSES if step.counts[status])
        parts = [(status, float(step.counts[status])) for status in STATUSES]
        columns.append((f"{_step_title(step.at, figures.step_s)}: {told or 'none'}", parts))
    return plots.stacked(columns, whole=True)


def _latency(figures: Figures) -> plots.Plot:
    columns = []
    for step in figures.steps:
        found = step.latency
        title = _step_title(step.at, figures.step_s)
        if found is not None:
            title += (
                f": first draft {duration(found.first_s.p50)}, result {duration(found.result_s.p50)}, "
                f"95 % within {duration(found.result_s.p95)}"
            )
        values = (
            ("slow", found.result_s.p95 if found else None),
            ("usual", found.result_s.p50 if found else None),
            ("first", found.first_s.p50 if found else None),
        )
        columns.append((title, values))
    return plots.lines(columns)


def _costs(by_day: Mapping[date, Cost]) -> dict[str, Cost]:
    """Return the cost of every day from the first call to the last, or of every month if there are too many days."""
    if not by_day:
        return {}
    if len(by_day) > MAX_DAYS:
        months: dict[str, list[Cost]] = {}
        for day, cost in by_day.items():
            months.setdefault(f"{day:%b %Y}", []).append(cost)
        return {month: total(costs) for month, costs in months.items()}
    first, last = min(by_day), max(by_day)
    days = [first + timedelta(days=number) for number in range((last - first).days + 1)][-MAX_DAYS:]
    return {f"{day:%b %-d}": by_day.get(day, Cost(0.0, 0)) for day in days}


def _short_cost(cost: Cost) -> str:
    return "unknown" if cost.usd is None else usd(cost.usd)


def _edits(tenths: Sequence[int]) -> plots.Plot:
    """Return how alike drafts and sent texts are, from other texts to equal ones."""
    columns = []
    for tenth, n in enumerate(tenths):
        told = "equal" if tenth == len(tenths) - 1 else f"similarity {tenth / 10:.1f} to {(tenth + 1) / 10:.1f}"
        columns.append((f"{told}: {_count(n)}", [("sent" if tenth == len(tenths) - 1 else "edited", float(n))]))
    return plots.stacked(columns, whole=True)


def _draft(row: Mapping[str, Any], *, with_content: bool) -> DraftView:
    result = json_object(row["result"])
    target = json_object(result.get("replying_to"))
    author = _name(target.get("author")) if with_content else ""
    place = _name(result.get("platform_name") if with_content else result.get("platform"))
    outcome = row["outcome"]
    return DraftView(
        row=row,
        place=f"{place}: {author}" if author else place,
        gist=_cut(target.get("gist") or result.get("summary")) if with_content else "",
        options=[_option(one, row["option"], with_content=with_content) for one in json_objects(result.get("options"))],
        sent_text=_cut(row["sent_text"]) if with_content and row["sent_text"] and row["similarity"] != 1 else "",
        outcome=_OUTCOMES.get(outcome, ""),
        tone=_TONES.get(outcome, ""),
    )


def _option(option: Mapping[str, Any], chosen: str | None, *, with_content: bool) -> OptionView:
    length = option.get("length")
    quotes = [one.get("quote") for one in json_objects(option.get("unsupported"))]
    text = _cut(option.get("text"))
    return OptionView(
        length=length if length in LENGTHS else "other",
        angle=_name(option.get("angle")) if with_content else "",
        stance=_name(option.get("stance")) if option.get("stance") != "none" else "",
        pieces=marks.split(text, [quote for quote in quotes if isinstance(quote, str)]) if with_content else (),
        is_chosen=length is not None and length == chosen,
    )


def as_json(figures: Figures, drafts: Sequence[Mapping[str, Any]], *, with_content: bool) -> dict[str, Any]:
    """Return what the page shows as data, for ``--json``."""
    return {
        "since": figures.since,
        "until": figures.until,
        "requests": dict(figures.requests),
        "failed": dict(figures.failures),
        "latency": _latency_json(figures),
        "usage": _usage_json(figures.usage),
        "models": [{"model": model} | _usage_json(usage) for model, usage in figures.by_model.items()],
        "days": [{"day": f"{day}"} | _cost_json(cost) for day, cost in figures.by_day.items()],
        "feedback": _group_json(figures.all) | {"similarity_tenths": list(figures.tenths)},
        "lengths": [{"length": name} | _group_json(group) for name, group in figures.lengths.items()],
        "stances": [{"stance": name} | _group_json(group) for name, group in figures.stances.items()],
        "angles": [{"angle": angle, "taken": n} for angle, n in figures.angles.items()],
        "platforms": [{"platform": name} | _group_json(group) for name, group in figures.by_platform.items()],
        "agents": [{"agent": name} | _group_json(group) for name, group in figures.by_agent.items()],
        "prompts": [
            {"agent": agent, "prompt_version": version} | _group_json(group)
            for (agent, version), group in figures.by_prompt.items()
        ],
        "with_content": with_content,
        "drafts": [_draft_json(row, with_content=with_content) for row in drafts],
    }


def _latency_json(figures: Figures) -> dict[str, Any] | None:
    found = figures.latency
    if found is None:
        return None
    named = {"queue_wait_s": found.wait_s, "first_option_s": found.first_s, "result_s": found.result_s}
    return {"n": found.n, "sampled": figures.timed_share < 1} | {
        name: {"p50": one.p50, "p95": one.p95} for name, one in named.items()
    }


def _usage_json(usage: Any) -> dict[str, Any]:
    names = ("calls", "failed", "input_tokens", "cached_tokens", "output_tokens")
    return {name: getattr(usage, name) for name in names} | _cost_json(usage.cost)


def _cost_json(cost: Cost) -> dict[str, Any]:
    return {"cost_usd": cost.usd, "unpriced_calls": cost.unpriced}


def _group_json(group: Group) -> dict[str, Any]:
    shares = {"taken": group.taken, "unchanged": group.unchanged, "liked": group.liked}
    return {
        "completed": group.drafted,
        "sent": group.sent,
        "edited": group.edited,
        "rejected": group.rejected,
        "similarity": group.similarity,
    } | {name: _share_json(share) for name, share in shares.items()}


def _share_json(share: Share) -> dict[str, Any]:
    low, high = share.interval or (None, None)
    return {"count": share.count, "of": share.of, "share": share.value, "low": low, "high": high}


_SHOWN = (
    "id", "created_at", "status", "agent", "model", "prompt_version", "error_code", "cost_usd", "result_s", "option", "outcome",
    "rating", "similarity",
)  # fmt: skip


def _draft_json(row: Mapping[str, Any], *, with_content: bool) -> dict[str, Any]:
    result = json_object(row["result"])
    shown = {name: row[name] for name in _SHOWN} | {"platform": result.get("platform")}
    if not with_content:
        return shown
    return shown | {
        "replying_to": result.get("replying_to"),
        "options": json_list(result.get("options")),
        "sent_text": row["sent_text"],
        "error_message": row["error_message"],
    }
