"""What a judge is asked, how its answer is read, and that a comparison is blind."""

import asyncio
import json
from decimal import Decimal
from typing import Any, cast

import pytest

from draftd.errors import ConfigurationError, ModelMisconfigured, ModelRateLimited, ModelRefused, Spent, TryAgain
from draftd.evals import judging, stand_in
from draftd.evals.criteria import Failure
from draftd.evals.judge import TRIES, Judge, JudgeFailed
from draftd.evals.judging import MARKER, UnreadableVerdict
from draftd.providers.llm import Completion, Llm
from draftd.providers.target import Target
from fix_evals import TEXTS, make_case
from tables import per_row

OTHERS = {"short": "No.", "medium": "Not on Thursday.", "detailed": "Not on Thursday, I am afraid."}
SPENT = Spent(input_tokens=100, output_tokens=10, cost_usd=Decimal("0.25"))
CASE = make_case(me="Ines", answer_to="Tomas", context="Thursday suits me.", good="confirms", must_not_say=["Monday"])


class CannedLlm:
    """Answers from a list; an exception in it is raised."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[list[dict[str, Any]]] = []

    async def complete(self, _target: Target, messages: list[dict[str, Any]], **_: Any) -> Completion:
        self.asked.append(messages)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return Completion(text=answer, model="b", finish_reason="stop", spent=SPENT, mode="json_schema", elapsed_s=0.0)


def judge(llm: CannedLlm) -> Judge:
    return Judge(llm=cast("Llm", llm), target=Target(name="b", model="openai/b"), time_s=1.0)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(_delay_s: float) -> None:
        return

    monkeypatch.setattr(asyncio, "sleep", at_once)


def verdict_answer(**failures: list[str]) -> str:
    asked: dict[str, Any] = {failure.value: [] for failure in Failure}
    return json.dumps(asked | failures | {f"{length}_reason": f"because of {length}" for length in TEXTS})


def judged_in(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the case that a judge was asked about."""
    text: str = messages[1]["content"][-1]["text"]
    found: dict[str, Any] = json.loads(text.removeprefix(MARKER))
    return found


async def test_the_judge_is_asked_about_every_failure_with_the_labels() -> None:
    llm = CannedLlm(verdict_answer(invented=["medium"]))
    verdict = await judge(llm).verdict(CASE, TEXTS, [])
    assert verdict.failures[Failure.INVENTED] == ["medium"]
    assert verdict.reasons["short"] == "because of short"
    assert judged_in(llm.asked[0]) == {
        "me": "Ines",
        "message_to_answer": "Tomas",
        "wish": "Thursday suits me.",
        "good_reply": "confirms",
        "must_not_say": ["Monday"],
        "replies": TEXTS,
    }
    assert all(f"`{failure}`" in llm.asked[0][0]["content"] for failure in Failure)


def test_what_has_no_label_is_not_asked_about() -> None:
    _, _, schema = judging.verdict_request(make_case(), TEXTS)
    assert set(schema["properties"]).isdisjoint({"misses_good", "says_forbidden"})
    assert schema["required"] == list(schema["properties"])


def test_a_reply_with_any_failure_is_not_send_ready_whatever_the_judge_says() -> None:
    verdict = judging.read_verdict(CASE, TEXTS, verdict_answer(evasive=["detailed"], not_send_ready=["short"]))
    assert verdict.failures[Failure.NOT_SEND_READY] == ["short", "detailed"]


@per_row("answer", ["", "no", "[]", "{}", '{"invented": "short"}', "[" * 100_000])
def test_an_unreadable_verdict_is_none(answer: str) -> None:
    with pytest.raises(UnreadableVerdict):
        judging.read_verdict(CASE, TEXTS, answer)


@per_row("winner", [["first"], {"is": "first"}, None, 1, "First"])
def test_a_winner_of_another_kind_is_none(winner: object) -> None:
    with pytest.raises(UnreadableVerdict):
        judging.read_comparison(json.dumps({"reason": "", "winner": winner}))


def test_a_reason_with_half_a_character_is_kept_without_it() -> None:
    answer = json.loads(verdict_answer()) | {"short_reason": "so \ud83d\0"}
    assert judging.read_verdict(CASE, TEXTS, json.dumps(answer)).reasons["short"] == "so "
    looks = [judging.read_comparison(json.dumps({"winner": "tie", "reason": "so \ud83d"}))] * 2
    assert judging.pair_verdict(looks).reasons == ("so ", "so ")


def test_a_verdict_in_a_code_fence_is_read() -> None:
    assert judging.read_comparison('```json\n{"reason": "shorter", "winner": "second"}\n```') == ("second", "shorter")


async def test_a_pair_is_judged_twice_with_the_sides_swapped() -> None:
    llm = CannedLlm('{"reason": "", "winner": "first"}', '{"reason": "", "winner": "second"}')
    pair = await judge(llm).compare(CASE, TEXTS, OTHERS, [])
    assert pair.outcome == "won"
    first, second = map(judged_in, llm.asked)
    assert (first["first"], first["second"]) == (TEXTS, OTHERS)
    assert (second["first"], second["second"]) == (OTHERS, TEXTS)


async def test_the_two_looks_at_a_pair_tell_the_judge_nothing_but_the_order() -> None:
    llm = CannedLlm('{"reason": "", "winner": "first"}', '{"reason": "", "winner": "first"}')
    await judge(llm).compare(CASE, TEXTS, OTHERS, [])
    (one_system, _), (two_system, _) = llm.asked
    assert one_system == two_system
    one, two = map(judged_in, llm.asked)
    assert one | {"first": two["first"], "second": two["second"]} == two
    asked = json.dumps(llm.asked).casefold()
    assert not [word for word in ("draftd", "tested", "baseline", "naive", "against") if word in asked]


@per_row(
    ("looks", "outcome"),
    [
        (("first", "second"), "won"),
        (("second", "first"), "lost"),
        (("first", "first"), "tied"),
        (("second", "second"), "tied"),
        (("first", "tie"), "tied"),
        (("tie", "tie"), "tied"),
    ],
)
def test_only_a_winner_from_both_sides_wins(looks: tuple[str, str], outcome: str) -> None:
    assert judging.pair_verdict([(looks[0], ""), (looks[1], "")]).outcome == outcome


async def test_the_judge_is_asked_again_after_what_passes() -> None:
    llm = CannedLlm("not JSON", ModelRateLimited("slow down"), verdict_answer())
    await judge(llm).verdict(CASE, TEXTS, [])
    assert llm.answers == []


async def test_a_judge_that_never_answers_readably_leaves_the_case_without_a_verdict() -> None:
    with pytest.raises(JudgeFailed, match="unreadable"):
        await judge(CannedLlm(*["no"] * TRIES)).verdict(CASE, TEXTS, [])


async def test_what_the_judge_costs_is_summed_up_over_all_tries() -> None:
    asked_twice = judge(CannedLlm("not JSON", verdict_answer()))
    await asked_twice.verdict(CASE, TEXTS, [])
    assert (asked_twice.tokens, asked_twice.cost_usd) == (220, 0.5)
    unknown = judge(CannedLlm(ModelRateLimited("slow down", spent=Spent(input_tokens=1)), verdict_answer()))
    await unknown.verdict(CASE, TEXTS, [])
    assert (unknown.tokens, unknown.cost_usd) == (111, None)


@per_row(
    ("error", "ends_with"),
    [
        (ModelRefused("no"), JudgeFailed),
        (ModelMisconfigured("no such model"), ConfigurationError),
        (ModelRateLimited("no money", is_quota=True), TryAgain),
    ],
)
async def test_waiting_is_for_what_passes_only(error: Exception, ends_with: type[Exception]) -> None:
    llm = CannedLlm(error)
    with pytest.raises(ends_with):
        await judge(llm).verdict(CASE, TEXTS, [])
    assert len(llm.asked) == 1


def asked(request: tuple[str, str, dict[str, Any]]) -> dict[str, Any]:
    """Return a judge's call as its server sees it."""
    system, text, _ = request
    content = [{"type": "text", "text": text}]
    return {
        "model": stand_in.JUDGE,
        "messages": [{"role": "system", "content": system}, {"role": "user", "content": content}],
    }


def test_the_stand_in_judges_by_simple_rules() -> None:
    replies = {"short": "On MONDAY.", "medium": "Really? When?", "detailed": "Fine."}
    answer = stand_in.StandIn([]).answer(asked(judging.verdict_request(CASE, replies)), {})
    verdict = judging.read_verdict(CASE, replies, json.dumps(answer))
    assert {failure: lengths for failure, lengths in verdict.failures.items() if lengths} == {
        Failure.SAYS_FORBIDDEN: ["short"],
        Failure.EVASIVE: ["medium"],
        Failure.NOT_SEND_READY: ["short", "medium"],
    }


def test_the_stand_in_prefers_the_same_side_wherever_it_stands() -> None:
    looks = [
        judging.read_comparison(
            json.dumps(stand_in.StandIn([]).answer(asked(judging.comparison_request(CASE, *sides)), {}))
        )
        for sides in ((TEXTS, OTHERS), (OTHERS, TEXTS))
    ]
    assert judging.pair_verdict(looks).outcome in {"won", "lost"}


def test_the_stand_in_answers_no_other_calls() -> None:
    with pytest.raises(ValueError, match="cases of its evaluation"):
        stand_in.StandIn([CASE]).answer({"model": stand_in.MODEL, "messages": []}, {"traceparent": "00"})
