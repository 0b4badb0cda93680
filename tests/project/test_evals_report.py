"""The report of an evaluation."""

import re
from html import unescape
from html.parser import HTMLParser
from typing import Any

from draftd.evals import baseline, report
from draftd.evals.criteria import Failure
from fix_evals import TEXTS, make_case, make_drafted, make_pair, make_result, make_results, make_verdict

HOSTILE = "</style><script>alert(1)</script><img src=x onerror=alert(1)>\"'><svg onload=alert(1)>{{ 7*7 }}"
PIXEL = "data:image/png;base64,AAAA"


class Elements(HTMLParser):
    """The elements and attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def page(**over: Any) -> str:
    result = make_result(**over)
    case = make_case(platform="email", context="Thursday suits me.")
    return report.render(make_results([result]), {"1": case}, {"1": [PIXEL]})


def test_hostile_text_is_text_wherever_it_stands() -> None:
    drafted = make_drafted(
        {"short": HOSTILE, HOSTILE: HOSTILE},
        seen=dict.fromkeys(("platform", "platform_name", "language", "summary", "me"), HOSTILE),
    )
    verdict = make_verdict().model_copy(update={"reasons": {"short": HOSTILE, HOSTILE: HOSTILE}})
    pair = make_pair("won").model_copy(update={"reasons": (HOSTILE, HOSTILE)})
    result = make_result(
        HOSTILE,
        drafted=drafted,
        other=make_drafted({"short": HOSTILE}, message=HOSTILE),
        verdict=verdict,
        pair=pair,
        judge_error=HOSTILE,
        checks={"platform": False, "outcome": True},
        labels={"platform": [HOSTILE]},
    )
    case = make_case(
        n=HOSTILE,
        me=HOSTILE,
        context=HOSTILE,
        answer_to=HOSTILE,
        good=HOSTILE,
        must_not_say=[HOSTILE],
        options={"facts": [HOSTILE]},
    )
    results = make_results([result], model=HOSTILE, judge=HOSTILE, prompt_version=HOSTILE, against=HOSTILE)
    found = Elements(report.render(results, {HOSTILE: case}, {HOSTILE: [PIXEL]}))
    assert "script" not in found.names
    assert not [name for name in found.attributes if name.startswith("on")]
    assert found.text.count("alert(1)") >= 10
    assert "{{ 7*7 }}" in found.text


def test_a_page_has_no_script_loads_nothing_and_forbids_both() -> None:
    shown = page(verdict=make_verdict())
    assert "<script" not in shown
    assert "default-src 'none'; img-src data:;" in unescape(shown)
    assert not re.findall(r'(?:src|href)="(?!data:|#)', shown)


def test_a_stand_in_is_named_where_the_figures_are() -> None:
    case = {"1": make_case()}
    results = make_results([make_result()], is_stand_in=True, is_judge_stand_in=True)
    told = Elements(report.render(results, case, {})).text
    assert "No model wrote these replies." in told
    assert "No model judged these replies." in told
    assert "No model" not in Elements(report.render(make_results([make_result()]), case, {})).text


def test_each_reply_is_shown_with_its_failures() -> None:
    told = Elements(page(verdict=make_verdict({Failure.INVENTED: ["short"], Failure.NOT_SEND_READY: ["short"]}))).text
    assert all(text in told for text in TEXTS.values())
    assert "something invented" in told
    assert "send-ready" in told


def test_a_fact_without_a_source_is_marked() -> None:
    drafted = make_drafted()
    replies = [drafted.replies[0], drafted.replies[1].model_copy(update={"unsupported": ["14:00"]})]
    shown = page(drafted=drafted.model_copy(update={"replies": replies}))
    assert 'Thursday at <mark title="stands in no source">14:00</mark> works.' in shown


def test_an_evaluation_that_is_not_complete_says_so() -> None:
    results = make_results([make_result()]).model_copy(update={"complete": False})
    assert "Not complete." in report.render(results, {"1": make_case()}, {})


def test_the_baseline_is_shown_with_its_rule() -> None:
    results = make_results([make_result()])
    comparison = baseline.compare(results, results)
    told = Elements(report.render(results, {"1": make_case()}, {}, comparison=comparison)).text
    assert "not worse" in told
    assert "divided by the number of measures" in told


def test_a_case_that_failed_shows_its_code() -> None:
    drafted = make_drafted({}, outcome="nothing_open", seen={}, message="No message is open.", model_calls=0)
    told = Elements(page(drafted=drafted, checks={"outcome": False}, labels={"outcome": ["completed"]})).text
    assert "nothing_open" in told
    assert "No message is open." in told
