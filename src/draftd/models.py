"""Which model answers which agent, and which models are on hold: the fleet's shared knowledge, as this process sees it.

``model_configs`` and ``model_holds`` ride on the heartbeat's statement, so this is at most a third of a lease old and costs no
query of its own. A hold keeps every daemon from claiming for a model until a probe succeeded; a probe is one request of one
daemon, chosen by an update of the hold's row that only one can win. A failing probe doubles the pause.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import structlog

from draftd import db
from draftd.backoff import full_jitter_s
from draftd.errors import ContextTooLong, Kind, ModelError, ModelMisconfigured, ModelRefused, OutputInvalid
from draftd.llm import Target
from draftd.queue.claims import Probe
from draftd.sanitize import redact, storable_text

log = structlog.get_logger(__name__)

FIRST_PAUSE_S = 5.0
LONGEST_PAUSE_S = 300.0
LONGEST_RETRY_AFTER_S = 3600.0
PROBE_S = 15.0
"""How long a probe keeps the others away. One that says nothing about the model (its picture was broken) costs this time."""

HOLD = """
INSERT INTO model_holds AS h (model, code, until, reason)
VALUES (%(model)s, %(code)s, now() + make_interval(secs => greatest(%(first_s)s, %(retry_after_s)s)), %(reason)s)
ON CONFLICT (model) DO UPDATE SET
    -- Many requests fail of one outage: only the failure that comes after the pause counts as another.
    failures = h.failures + %(is_probe)s::int,
    until = CASE WHEN %(is_probe)s
                 THEN now() + make_interval(secs => greatest(
                      %(retry_after_s)s, least(%(longest_s)s, %(first_s)s * 2 ^ least(h.failures, 10))))
                 ELSE greatest(h.until, now() + make_interval(secs => %(retry_after_s)s)) END,
    code = excluded.code, reason = excluded.reason
RETURNING extract(epoch FROM until - now())::float8 AS until_s
"""

TAKE_PROBE = """
UPDATE model_holds SET until = now() + make_interval(secs => %(probe_s)s)
 WHERE model = %(model)s AND until <= now()
   AND EXISTS (SELECT FROM unnest(%(agents)s::text[]) AS a(agent) CROSS JOIN LATERAL (
        SELECT FROM draft_requests AS r WHERE r.status = 'pending' AND r.agent = a.agent AND r.available_at <= now()
         LIMIT 1) AS x)
RETURNING model
"""

END_HOLD = "DELETE FROM model_holds WHERE model = %(model)s"

LIST = "SELECT * FROM model_configs ORDER BY agent"
HOLDS = "SELECT model, code, since, until, reason FROM model_holds ORDER BY since"
SET = """
INSERT INTO model_configs (agent, model, fallback_models, params, api_base, api_key_env, price_in, price_out)
VALUES (%(agent)s, %(model)s, %(fallback_models)s, %(params)s, %(api_base)s, %(api_key_env)s, %(price_in)s, %(price_out)s)
ON CONFLICT (agent) DO UPDATE SET
    model = excluded.model, fallback_models = excluded.fallback_models, params = excluded.params,
    api_base = excluded.api_base, api_key_env = excluded.api_key_env,
    price_in = excluded.price_in, price_out = excluded.price_out, updated_at = now()
"""
WAITING = "SELECT FROM draft_requests WHERE status = 'pending' AND agent = ANY (%(agents)s) LIMIT 1"
UNSET = "DELETE FROM model_configs WHERE agent = %(agent)s RETURNING agent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The models of one agent, in the order in which they are asked."""

    models: tuple[str, ...]
    params: Mapping[str, Any]
    api_base: str | None = None
    api_key_env: str | None = None
    price_in: Decimal | None = None
    price_out: Decimal | None = None


@dataclass(frozen=True, slots=True)
class _Held:
    code: str
    until: float
    """On the monotonic clock of this process, in seconds."""


def choice_of(row: Mapping[str, Any]) -> Choice:
    """Read a row of ``model_configs``."""

    def price(value: Any) -> Decimal | None:
        return None if value is None else Decimal(str(value))

    return Choice(
        models=(row["model"], *row["fallback_models"]),
        params=row["params"] or {},
        api_base=row["api_base"],
        api_key_env=row["api_key_env"],
        price_in=price(row["price_in"]),
        price_out=price(row["price_out"]),
    )


class Models:
    """Chooses models and keeps holds.

    Args:
        link: for the statements on holds.
        agents: the agents with a prompt here.
        default: the models of an agent without a row of its own; None when ``DRAFTD_MODEL`` is not set.
        variable: looks up a key by the name of its environment variable.
    """

    def __init__(
        self,
        *,
        link: db.Link,
        agents: Sequence[str],
        default: Choice | None,
        variable: Callable[[str], str | None],
    ) -> None:
        self._link = link
        self._agents = tuple(agents)
        self._default = default
        self._variable = variable
        self._choices: dict[str, Choice] = {}
        self._holds: dict[str, _Held] = {}
        self._updated = False
        self._succeeded_at: dict[str, float] = {}

    def update(self, configs: Sequence[Mapping[str, Any]], holds: Sequence[Mapping[str, Any]]) -> bool:
        """Take in what the heartbeat read; return whether more may be claimable now than before."""
        before = set(self.claimable_agents())
        choices = {row["agent"]: choice_of(row) for row in configs}
        for agent in self._agents:
            if self._updated and choices.get(agent) != self._choices.get(agent):
                log.info("model changed", agent=agent, models=", ".join(self._models_of(agent, choices)))
        self._choices, self._updated = choices, True
        now = time.monotonic()
        self._holds = {row["model"]: _Held(row["code"], now + float(row["until_s"])) for row in holds}
        return bool(set(self.claimable_agents()) - before)

    def choose(self, choices: Mapping[str, Choice]) -> None:
        """Set the agents' models by hand."""
        self._choices = dict(choices)

    def agents_without_model(self) -> list[str]:
        """Return the agents that nobody answers: no row of ``model_configs`` and no ``DRAFTD_MODEL``."""
        return [agent for agent in self._agents if self._choice(agent) is None]

    def claimable_agents(self) -> list[str]:
        """Return the agents with at least one model that is not on hold."""
        return [agent for agent in self._agents if any(model not in self._holds for model in self._models_of(agent))]

    async def take_probe(self) -> Probe | None:
        """Return one model whose hold has lapsed, with its agents, if this process won its probe."""
        now = time.monotonic()
        for model in [model for model, held in self._holds.items() if held.until <= now]:
            agents = [agent for agent in self._agents if model in self._models_of(agent)]
            params = {"model": model, "agents": agents, "probe_s": PROBE_S}
            if agents and await self._link.run(TAKE_PROBE, params):
                log.info("probing a held model", model=model, code=self._holds[model].code)
                self._holds[model] = _Held(self._holds[model].code, now + PROBE_S)
                return Probe(model=model, agents=agents)
        return None

    def configured(self, agent: str) -> list[Target]:
        """Return the models of an agent in order, on hold or not; none when nobody chose one.

        Raises:
            ModelMisconfigured: the variable that holds the key is not set here.
        """
        choice = self._choice(agent)
        if choice is None:
            return []
        key = self._variable(choice.api_key_env) if choice.api_key_env else None
        if choice.api_key_env and not key:
            missing = f"the environment variable {choice.api_key_env} is not set here"
            raise ModelMisconfigured(missing, model=choice.models[0])
        return [_target(model, choice, key) for model in choice.models]

    async def targets(self, agent: str, *, probe: str | None = None) -> list[Target]:
        """Return what to call for this agent, in order: its models that are not on hold, and the one that is probed.

        Raises:
            ModelMisconfigured: see ``configured``; the model is on hold then.
        """
        try:
            targets = self.configured(agent)
        except ModelMisconfigured as error:
            await self.failed(error, began=time.monotonic(), probe=probe)
            raise
        usable = [target for target in targets if target.model not in self._holds or target.model == probe]
        # A hold that began after the claim leaves none: the first one is asked then, and says why not.
        return usable or targets[:1]

    async def succeeded(self, model: str) -> None:
        """Note that a model answered; end its hold."""
        self._succeeded_at[model] = time.monotonic()
        if model in self._holds:
            await self._link.run_until_done(END_HOLD, {"model": model})
            self._holds.pop(model, None)
            log.info("hold ended", model=model)

    async def failed(self, error: ModelError, *, began: float, probe: str | None = None) -> None:
        """Note that a request failed at a model, and hold the model if the error is of that kind.

        An error of a hold's kind says nothing about the model when another request succeeded meanwhile: it becomes a retry
        of this row alone. An answer that cannot be used is an answer all the same: it ends a hold.

        Args:
            error: why; its kind may be lowered to a retry.
            began: when this request first asked the model, a moment of ``time.monotonic``.
            probe: the model that this request probes.
        """
        if error.model is None:
            return
        if error.kind is not Kind.HOLD:
            if isinstance(error, ModelRefused | OutputInvalid | ContextTooLong):
                await self.succeeded(error.model)
            return
        if self._succeeded_at.get(error.model, 0.0) > began:
            error.kind = Kind.RETRY
            return
        await self._hold(error, is_probe=probe == error.model)

    async def _hold(self, error: ModelError, *, is_probe: bool) -> None:
        model = str(error.model)
        params = {
            "model": model,
            "code": error.code,
            "reason": storable_text(redact(error.message), 300),
            "is_probe": is_probe,
            "retry_after_s": min(error.retry_after_s or 0.0, LONGEST_RETRY_AFTER_S),
            "first_s": FIRST_PAUSE_S + full_jitter_s(1, base_s=0.5),
            "longest_s": LONGEST_PAUSE_S,
        }
        rows = await self._link.run_until_done(HOLD, params)
        until_s = rows[0]["until_s"]
        self._holds[model] = _Held(error.code, time.monotonic() + until_s)
        log.warning("model on hold", model=model, code=error.code, for_s=round(until_s, 1), reason=error.message)

    def held_agents(self) -> list[str]:
        """Return the agents that have a model, all of whose models are on hold."""
        claimable = self.claimable_agents()
        return [agent for agent in self._agents if self._models_of(agent) and agent not in claimable]

    def holds(self) -> dict[str, str]:
        """Return model → code of what is on hold."""
        return {model: held.code for model, held in self._holds.items()}

    def _choice(self, agent: str) -> Choice | None:
        return self._choices.get(agent, self._default)

    def _models_of(self, agent: str, choices: Mapping[str, Choice] | None = None) -> tuple[str, ...]:
        choice = (self._choices if choices is None else choices).get(agent, self._default)
        return choice.models if choice else ()


def _target(model: str, choice: Choice, key: str | None) -> Target:
    return Target(
        model=model,
        params=choice.params,
        api_base=choice.api_base,
        api_key=key,
        price_in=choice.price_in,
        price_out=choice.price_out,
    )
