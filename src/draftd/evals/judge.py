"""The calls of the judge, through the one door to the models.

Owns the judge's patience: what a provider's bad moment refuses is asked again, and what it refuses for good is a case without a
verdict, which is counted. A judge that cannot be used at all ends the evaluation.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from draftd.backoff import Backoff
from draftd.errors import (
    ConfigurationError,
    Kind,
    ModelError,
    ModelMisconfigured,
    ModelRateLimited,
    Spent,
    TryAgain,
)
from draftd.evals import judging
from draftd.evals.cases import Case
from draftd.evals.judging import UnreadableVerdict
from draftd.evals.results import PairVerdict, Verdict
from draftd.evals.stand_in import JUDGE, MODEL
from draftd.providers.catalog import AgentModels, Catalog
from draftd.providers.llm import Llm
from draftd.providers.permits import Permits
from draftd.providers.target import Target
from draftd.reply.prompts import PicturePart
from draftd.settings import Settings, environment_value

PARAMS = {"max_tokens": 4_096, "temperature": 0.0}
"""Of the calls; a model that refuses one is asked without it."""
TRIES = 6
_MOST_WAIT_S = 60.0
_T = TypeVar("_T")


class JudgeFailed(Exception):
    """The judge gave no verdict on a case."""


class Judge:
    """Asks a model for the verdicts on one case, and sums up what that costs.

    Args:
        llm: the door to the models.
        target: the judge.
        time_s: time limit of one call, in seconds.
    """

    def __init__(self, *, llm: Llm, target: Target, time_s: float) -> None:
        self._llm = llm
        self._target = target
        self._time_s = time_s
        self.tokens = 0
        self.cost_usd: float | None = 0.0
        """None if a price is not known."""

    async def verdict(self, case: Case, replies: Mapping[str, str], pictures: Sequence[PicturePart]) -> Verdict:
        """Return what the judge says of the replies to a case.

        Args:
            case: with its labels.
            replies: length → text.
            pictures: the screenshots as models get them.

        Raises:
            JudgeFailed: there is no readable verdict.
            CommandError: the judge cannot be used.
        """
        request = judging.verdict_request(case, replies)
        return await self._ask(request, pictures, lambda answer: judging.read_verdict(case, replies, answer))

    async def compare(
        self, case: Case, tested: Mapping[str, str], other: Mapping[str, str], pictures: Sequence[PicturePart]
    ) -> PairVerdict:
        """Compare two sets of replies blindly, twice with the sides swapped.

        Raises:
            JudgeFailed: one look gave no readable verdict.
            CommandError: the judge cannot be used.
        """
        looks = [
            await self._ask(judging.comparison_request(case, first, second), pictures, judging.read_comparison)
            for first, second in ((tested, other), (other, tested))
        ]
        return judging.pair_verdict(looks)

    async def _ask(
        self, request: tuple[str, str, dict[str, Any]], pictures: Sequence[PicturePart], read: Callable[[str], _T]
    ) -> _T:
        system, text, schema = request
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": system},
            {"role": "user", "content": [*pictures, {"type": "text", "text": text}]},
        ]
        backoff, why = Backoff(cap_s=_MOST_WAIT_S), ""
        for _ in range(TRIES):
            try:
                answered = await self._llm.complete(self._target, messages, schema=schema, time_s=self._time_s)
                self._charge(answered.spent)
                return read(answered.text)
            except UnreadableVerdict as error:
                why = f"unreadable: {error}"
            except ModelError as error:
                why = error.code
                self._charge(error.spent)
                await asyncio.sleep(_wait_s(error, backoff))
        raise JudgeFailed(why)

    def _charge(self, spent: Spent) -> None:
        self.tokens += (spent.input_tokens or 0) + (spent.output_tokens or 0)
        if spent.input_tokens:
            known = self.cost_usd is not None and spent.cost_usd is not None
            self.cost_usd = float(self.cost_usd or 0) + float(spent.cost_usd or 0) if known else None


def target_of(name: str, settings: Settings, stand_in_url: str | None) -> Target:
    """Return the judge as it is called.

    Args:
        name: litellm's, or the stand-in's.
        settings: the operator's.
        stand_in_url: the stand-in's address, if there is one.

    Raises:
        ConfigurationError: it may not be called, or its key is missing.
    """
    if name == JUDGE:
        return Target(name=name, model=f"openai/{name}", params=PARAMS, api_base=stand_in_url, api_key=MODEL)
    permits = Permits.of(settings.model_copy(update={"model": name}), environment_value)
    resolved = Catalog().resolve(AgentModels(models=(name,), params=PARAMS), permits=permits, getenv=environment_value)
    if resolved.unusable:
        raise ConfigurationError(f"the judge cannot be used: {resolved.unusable[0].message}")
    return resolved.targets[0]


def _wait_s(error: ModelError, backoff: Backoff) -> float:
    """Return how long to wait before the same question.

    Raises:
        JudgeFailed: waiting does not help.
        CommandError: the judge cannot be used at all.
    """
    if isinstance(error, ModelMisconfigured):
        raise ConfigurationError(f"the judge cannot be used: {error.message}") from error
    if isinstance(error, ModelRateLimited) and error.is_quota:
        raise TryAgain(f"the judge: {error.message}") from error
    if error.kind is Kind.FINAL:
        raise JudgeFailed(error.code) from error
    return max(backoff.next_s(), min(error.retry_after_s or 0.0, _MOST_WAIT_S))
