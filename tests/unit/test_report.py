"""The report on a period: its figures, its plots and its page, without a database."""

import json
import re
from datetime import UTC, date, datetime, timedelta
from html import unescape
from html.parser import HTMLParser
from typing import Any
from uuid import UUID

import pytest

from draftd.report import page, plots
from draftd.report.document import environment
from draftd.report.figures import Cost, Figures, figures_of, total
from draftd.report.intervals import Share, difference
from draftd.report.reading import STEPS_S, Period, step_of
from tables import per_row

UNTIL = datetime(2026, 11, 28, 21, 30, tzinfo=UTC)
SINCE = UNTIL - timedelta(days=1)
HOSTILE = "{{ 7*7 }}</style><script>alert(1)</script><img src=x onerror=alert(1)>\"'><svg onload=alert(1)>https://evil.example"


def make_period(**over: Any) -> Period:
    rows = ("volume", "latency", "drafted", "usage", "feedback", "angles", "drafts")
    empty: dict[str, Any] = {name: [] for name in rows}
    moments: dict[str, Any] = {"since": SINCE, "until": UNTIL, "step_s": 3_600, "timed_share": 1.0}
    return Period(**moments | empty | over)


def drafted(n: int, version: str = "v1", *, at: datetime = SINCE, **over: Any) -> dict[str, Any]:
    given = {"platform": "email", "agent": "comment_generator", "prompt_version": version, "n": n, "first_at": at}
    return given | over


def feedback(n: int, outcome: str | None, version: str = "v1", **over: Any) -> dict[str, Any]:
    similarity = {"sent": 1.0, "edited": 0.75}.get(outcome or "")
    given = {
        "platform": "email", "agent": "comment_generator", "prompt_version": version, "option": "short", "stance": "open",
        "rating": None, "outcome": outcome, "n": n, "tenth": None if similarity is None else int(similarity * 10),
        "similarity": 0.0 if similarity is None else n * similarity,
    }  # fmt: skip
    return given | over


def usage(day: date, model: str = "m", **over: Any) -> dict[str, Any]:
    given = {
        "day": day, "model": model, "calls": 3, "failed": 0, "input_tokens": 30, "cached_tokens": 10, "output_tokens": 6,
        "cost_usd": 0.5, "unpriced": 0,
    }  # fmt: skip
    return given | over


def draft(**over: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "id": UUID(int=7), "created_at": UNTIL, "status": "completed", "agent": "comment_generator", "model": "m",
        "prompt_version": "v1", "error_code": None, "error_message": None, "cost_usd": None, "result_s": 4.2, "option": None,
        "outcome": None, "rating": None, "similarity": None, "sent_text": None, "is_rated": False,
        "result": {"platform": "email", "platform_name": "E-mail",
                   "replying_to": {"author": "Ottilie", "gist": "asks for 4 items"},
                   "options": [{"length": "short", "angle": "agrees", "stance": "accept", "text": "Yes, 4 items.",
                                "unsupported": [{"quote": "4", "kind": "number"}]}]},
    }  # fmt: skip
    return given | over


class Elements(HTMLParser):
    """The elements, attributes and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "


def shown(period: Period, *, with_content: bool = True) -> str:
    return page.render(figures_of(period), period.drafts, with_content=with_content)


def words(html: str) -> str:
    return re.sub(r"\s+", " ", Elements(html).text)


@per_row(("count", "of", "low", "high"), [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0)])
def test_a_share_has_wilsons_interval(count: int, of: int, low: float, high: float) -> None:
    found = Share(count, of).interval
    assert found is not None
    assert found[0] == pytest.approx(low, abs=1e-4)
    assert found[1] == pytest.approx(high, abs=1e-4)


def test_a_difference_has_newcombes_interval() -> None:
    # Newcombe 1998, table II, example (a), method 10.
    found = difference(Share(56, 70), Share(48, 80))
    assert found is not None
    assert (round(found.value, 4), round(found.low, 4), round(found.high, 4)) == (0.2, 0.0524, 0.3339)
    assert found.is_clear
    few = difference(Share(3, 4), Share(2, 4))
    assert few is not None
    assert not few.is_clear


def test_nothing_has_no_share_and_no_difference() -> None:
    assert (Share(0, 0).value, Share(0, 0).interval) == (None, None)
    assert difference(Share(0, 0), Share(1, 2)) is None


@per_row("since_s", [1, 3_600, 86_400, 7 * 86_400, 30 * 86_400, 365 * 86_400, 100 * 365 * 86_400])
def test_any_period_has_a_bounded_number_of_steps(since_s: float) -> None:
    assert step_of(since_s) in STEPS_S
    assert since_s / step_of(since_s) <= 101


@per_row(("value", "top"), [(0, 1), (0.3, 0.5), (1, 1), (1.01, 2), (7, 10), (50, 50), (51, 100)])
def test_an_axis_ends_at_a_round_number(value: float, top: float) -> None:
    assert plots.nice_top(value) == pytest.approx(top)


def test_bars_stand_on_each_other_and_fill_their_share() -> None:
    plot = plots.stacked([("a", [("x", 3.0), ("y", 2.0)]), ("b", [("x", 0.0), ("y", 0.0)])])
    assert plot.top == 5
    assert [(bar.kind, bar.y, bar.height, bar.title) for bar in plot.bars] == [("x", 40, 60, "a"), ("y", 0, 40, "a")]


def test_a_line_is_broken_where_nothing_is_known() -> None:
    columns: list[tuple[str, list[tuple[str, float | None]]]] = [
        ("", [("x", value)]) for value in (1.0, 1.0, None, 0.5, None)
    ]
    plot = plots.lines(columns)
    assert plot.lines == [("x", "M100.0 0.0L300.0 0.0M700.0 50.0")]
    assert [(dot.x, dot.y) for dot in plot.dots] == [(700.0, 50.0)]


def test_every_step_of_the_period_is_there() -> None:
    row: dict[str, Any] = {"at": UNTIL.replace(minute=0), "status": "completed", "code": None, "n": 4}
    for volume in ([], [row], [row | {"at": SINCE.replace(minute=0)}]):
        steps = figures_of(make_period(volume=volume)).steps
        assert steps[0].at <= SINCE < steps[1].at
        assert steps[-1].at < UNTIL <= steps[-1].at + timedelta(hours=1)
        assert sum(step.counts["completed"] for step in steps) == sum(one["n"] for one in volume)


def test_requests_are_counted_by_status_and_failures_by_code() -> None:
    rows = [
        ("completed", None, 5),
        ("failed", "expired", 2),
        ("failed", None, 1),
        ("pending", None, 1),
        ("processing", None, 1),
    ]
    volume = [{"at": SINCE, "status": status, "code": code, "n": n} for status, code, n in rows]
    found = figures_of(make_period(volume=volume))
    assert found.requests == {"completed": 5, "failed": 3, "cancelled": 0, "open": 2}
    assert found.failures == {"expired": 2, "unknown": 1}


def judged() -> Figures:
    return figures_of(
        make_period(
            drafted=[drafted(40, "v1"), drafted(30, "v2", at=SINCE + timedelta(hours=3))],
            feedback=[
                feedback(10, "sent", "v1"), feedback(6, "edited", "v1", option="medium"), feedback(4, "rejected", "v1"),
                feedback(20, "sent", "v2", rating=1), feedback(2, None, "v2", rating=-1, option=None, stance=None),
            ],
        )
    )  # fmt: skip


def test_prompt_versions_are_judged_by_what_became_of_their_drafts() -> None:
    found = judged()
    newer, older = found.by_prompt["comment_generator", "v2"], found.by_prompt["comment_generator", "v1"]
    assert list(found.by_prompt) == [("comment_generator", "v2"), ("comment_generator", "v1")]
    assert (older.drafted, older.taken, older.unchanged) == (40, Share(16, 20), Share(10, 16))
    assert older.similarity == pytest.approx((10 + 6 * 0.75) / 16)
    assert (newer.taken, newer.unchanged, newer.liked) == (Share(20, 20), Share(20, 20), Share(20, 22))
    (comparison,) = found.comparisons
    assert (comparison.newer, comparison.older, comparison.liked) == ("v2", "v1", None)
    assert comparison.taken is not None
    assert comparison.taken.value == pytest.approx(0.2)


def test_lengths_and_edits_count_what_was_sent() -> None:
    found = judged()
    assert {name: group.taken.count for name, group in found.lengths.items()} == {
        "short": 30,
        "medium": 6,
        "detailed": 0,
    }
    assert (found.tenths[7], found.tenths[10], sum(found.tenths)) == (6, 30, 36)


def test_many_groups_become_one() -> None:
    found = figures_of(make_period(drafted=[drafted(n + 1, platform=f"p{n}") for n in range(50)]))
    assert len(found.by_platform) == 20
    assert sum(group.drafted for group in found.by_platform.values()) == 50 * 51 / 2
    assert list(found.by_platform)[-1] == "all others"


def test_an_unknown_price_is_not_0() -> None:
    day = date(2026, 11, 28)
    rows = [usage(day), usage(day, "free", cost_usd=0.0), usage(day, "new", cost_usd=0.0, unpriced=3)]
    found = figures_of(make_period(usage=rows))
    assert found.by_model["free"].cost == Cost(0.0, 0)
    assert found.by_model["new"].cost == Cost(None, 3)
    assert found.usage.cost == Cost(0.5, 3)
    assert total([Cost(None, 1), Cost(0.5, 0)]) == Cost(0.5, 1)
    told = words(shown(make_period(usage=rows)))
    assert "$0.500 cost without 3 calls at unknown prices" in told
    assert "unknown cost of 3 calls at unknown prices" in words(shown(make_period(usage=rows[2:])))


@per_row(
    ("amount", "text"), [(0, "$0.00"), (0.000_4, "$0.0004"), (0.25, "$0.250"), (1.5, "$1.50"), (12_345, "$12,345.00")]
)
def test_amounts_have_the_digits_that_they_need(amount: float, text: str) -> None:
    assert page.usd(amount) == text


@per_row(
    ("seconds", "text"),
    [(None, "\N{EN DASH}"), (0.04, "0.0 s"), (9.9, "9.9 s"), (9.96, "10 s"), (200, "3 min"), (9_000, "2 h")],
)
def test_durations_are_for_people(seconds: float | None, text: str) -> None:
    assert page.duration(seconds) == text


@per_row(
    ("length", "text"),
    [
        (timedelta(hours=24), "24 hours"), (timedelta(hours=1), "1 hour"), (timedelta(days=30), "30 days"),
        (timedelta(seconds=90), "90 seconds"), (timedelta(minutes=90), "90 minutes"),
    ],
)  # fmt: skip
def test_the_period_is_in_the_title(length: timedelta, text: str) -> None:
    assert f"Drafts of the last {text}" in shown(make_period(since=UNTIL - length))


def test_days_without_calls_are_there_and_long_periods_are_shown_by_month() -> None:
    days = [usage(date(2026, 11, 1)), usage(date(2026, 11, 4))]
    told = words(shown(make_period(usage=days)))
    assert "Nov 2 $0.00" in told
    assert "Cost per day" in told
    year = [usage(date(2025, 1, 1) + timedelta(days=number)) for number in range(365)]
    assert "Cost per month" in words(shown(make_period(usage=year)))


def test_an_empty_period_gives_a_readable_page() -> None:
    told = words(shown(make_period()))
    for sentence in ("0 requests", "No request was completed.", "No feedback with an outcome", "No model was called."):
        assert sentence in told


def hostile_period() -> Period:
    result = {
        "platform": HOSTILE, "platform_name": HOSTILE, "replying_to": {"author": HOSTILE, "gist": HOSTILE},
        "options": [{"length": "short", "angle": HOSTILE, "stance": HOSTILE, "text": HOSTILE,
                     "unsupported": [{"quote": HOSTILE}, 3]}, 7, {"length": {}, "text": [], "unsupported": 1}],
    }  # fmt: skip
    names = dict.fromkeys(("platform", "agent", "prompt_version"), HOSTILE)
    return make_period(
        volume=[{"at": SINCE, "status": "failed", "code": HOSTILE, "n": 1}],
        drafted=[drafted(1) | names, drafted(1) | names | {"prompt_version": "v2"}],
        feedback=[feedback(1, "edited") | names | {"option": HOSTILE, "stance": HOSTILE}],
        usage=[usage(date(2026, 11, 28), HOSTILE)],
        angles=[{"angle": HOSTILE, "n": 1}],
        drafts=[
            draft(
                result=result, sent_text=HOSTILE, error_message=HOSTILE, model=HOSTILE, option="short", outcome="edited"
            ),
            draft(status="failed", error_code=HOSTILE, result=result),
            draft(result=[HOSTILE]),
            draft(result={"options": {}, "replying_to": HOSTILE}),
        ],
    )


@per_row("with_content", [True, False])
def test_hostile_text_is_text_wherever_it_stands(with_content: bool) -> None:  # noqa: FBT001 - a parameter of the test
    found = Elements(shown(hostile_period(), with_content=with_content))
    assert not found.names & {"script", "img", "a", "link", "iframe", "object", "form"}
    assert not [name for name in found.attributes if name.startswith("on") or name in {"src", "href"}]
    assert "{{ 7*7 }}" in found.text


def test_templates_are_compiled_once() -> None:
    shown(make_period())
    compiled = environment("draftd.report").get_template("report.html.j2")
    shown(make_period())
    assert environment("draftd.report").get_template("report.html.j2") is compiled


def test_a_page_runs_nothing_loads_nothing_and_forbids_both() -> None:
    html = shown(hostile_period())
    assert (
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        in html
    )
    assert not re.findall(r"<[^>]* (?:src|href|srcset|action)=", html)
    assert "@import" not in html
    assert "url(" not in html


def test_without_content_no_text_of_anybody_is_on_the_page() -> None:
    rated = draft(option="short", outcome="edited", sent_text="My own words.", similarity=0.4, rating=-1, is_rated=True)
    period = make_period(angles=[{"angle": "agrees", "n": 1}], drafts=[rated], feedback=[feedback(1, "sent")])
    private = ("Yes, ", "My own words", "agrees", "Ottilie", "asks for 4 items", "E-mail")
    told = words(shown(period))
    assert all(text in told for text in private)
    hidden = unescape(shown(period, with_content=False))
    assert not [text for text in private if text in hidden]
    assert "sent after edits" in hidden
    data = json.dumps(page.as_json(figures_of(make_period(drafts=[rated])), [rated], with_content=False), default=str)
    assert not [text for text in private if text in data]


def test_a_draft_is_shown_with_what_became_of_it() -> None:
    rated = draft(option="short", outcome="edited", sent_text="Yes, four.", similarity=0.4, rating=1, is_rated=True)
    told = words(shown(make_period(drafts=[rated])))
    for text in (
        "E-mail: Ottilie",
        "asks for 4 items",
        "Yes, 4 items.",
        "sent after edits",
        "rated good",
        "Yes, four.",
        "0.40",
    ):
        assert text in told
    assert '<mark title="stands in no source">4</mark>' in shown(make_period(drafts=[rated]))
    assert "no feedback" in words(shown(make_period(drafts=[draft()])))


def test_the_figures_are_data_as_well() -> None:
    latency = {"at": None, "n": 3, "wait_s": [0.1, 0.2], "first_s": [1.0, 2.0], "result_s": [3.0, 4.0]}
    found = figures_of(make_period(latency=[latency], drafted=[drafted(3)], feedback=[feedback(2, "sent")]))
    data = page.as_json(found, [draft()], with_content=True)
    json.dumps(data, default=str)
    assert data["latency"]["first_option_s"] == {"p50": 1.0, "p95": 2.0}
    assert data["prompts"][0]["taken"]["of"] == 2
    assert data["drafts"][0]["options"][0]["text"] == "Yes, 4 items."
