"""Which model answers which agent: the operator's choice, followed without a restart, and what of it can be asked now.

``model_configs`` rides on the heartbeat's statement and costs no query of its own. An agent whose key is not set on this machine
is not claimed here: another machine may have it, and one machine's gap is no reason to hold the model for all.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import structlog

from draftd import db
from draftd.errors import Kind, ModelMisconfigured
from draftd.holds import Holds
from draftd.llm import Target
from draftd.queue.claims import Portion, Probe
from draftd.throttles import Throttles

log = structlog.get_logger(__name__)

LIST = "SELECT * FROM model_configs ORDER BY agent"
SET = """
INSERT INTO model_configs (agent, model, fallback_models, params, api_base, api_key_env, price_in, price_out)
VALUES (%(agent)s, %(model)s, %(fallback_models)s, %(params)s, %(api_base)s, %(api_key_env)s, %(price_in)s, %(price_out)s)
ON CONFLICT (agent) DO UPDATE SET
    model = excluded.model, fallback_models = excluded.fallback_models, params = excluded.params,
    api_base = excluded.api_base, api_key_env = excluded.api_key_env,
    price_in = excluded.price_in, price_out = excluded.price_out, updated_at = now()
"""
CHOSEN = "SELECT model, fallback_models FROM model_configs WHERE agent = %(agent)s"
UNSET = "DELETE FROM model_configs WHERE agent = %(agent)s RETURNING agent"
WAITING = "SELECT FROM draft_requests WHERE status = 'pending' AND agent = ANY (%(agents)s) LIMIT 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The models of one agent, in the order in which they are asked."""

    models: tuple[str, ...]
    params: Mapping[str, Any]
    api_base: str | None = None
    api_key_env: str | None = None
    price_in: Decimal | None = None
    price_out: Decimal | None = None


def choice_of(row: Mapping[str, Any]) -> Choice:
    """Read a row of ``model_configs``."""

    def price(value: Any) -> Decimal | None:
        return None if value is None else Decimal(str(value))

    return Choice(
        models=(row["model"], *row["fallback_models"]),
        params=row["params"] if isinstance(row["params"], dict) else {},
        api_base=row["api_base"],
        api_key_env=row["api_key_env"],
        price_in=price(row["price_in"]),
        price_out=price(row["price_out"]),
    )


class Models:
    """Chooses models.

    Args:
        holds: what is on hold.
        throttles: what may be used in part only.
        agents: the agents with a prompt here.
        default: the models of an agent without a row of its own; None when ``DRAFTD_MODEL`` is not set.
        variable: looks up a key by the name of its environment variable.
    """

    def __init__(
        self,
        *,
        holds: Holds,
        throttles: Throttles,
        agents: Sequence[str],
        default: Choice | None,
        variable: Callable[[str], str | None],
    ) -> None:
        self._holds = holds
        self._throttles = throttles
        self._agents = tuple(agents)
        self._default = default
        self._variable = variable
        self._choices: dict[str, Choice] | None = None

    def update(
        self,
        configs: Sequence[Mapping[str, Any]] | None,
        holds: Sequence[Mapping[str, Any]],
        throttles: Sequence[Mapping[str, Any]],
        *,
        as_of: float,
    ) -> bool:
        """Take in what a beat read that began at ``as_of``; return whether more may be claimable now than before."""
        before = set(self.claimable_agents())
        if configs is not None:
            self.choose({row["agent"]: choice_of(row) for row in configs})
        self._holds.update(holds, as_of=as_of)
        self._throttles.update(throttles, as_of=as_of)
        return bool(set(self.claimable_agents()) - before)

    def choose(self, choices: Mapping[str, Choice]) -> None:
        """Set the agents' models, and say what changed."""
        before, self._choices = self._choices, dict(choices)
        for agent in self._agents:
            choice = self._choice(agent)
            if before is not None and choice != before.get(agent, self._default):
                log.info("model changed", agent=agent, models=", ".join(self._models_of(agent)))
            elif before is not None:
                continue
            if choice and not self._has_key(choice):
                log.error("not claimed here: its key is not set", agent=agent, variable=choice.api_key_env)

    def agents_without_model(self) -> list[str]:
        """Return the agents that nobody answers: no row of ``model_configs`` and no ``DRAFTD_MODEL``."""
        return [agent for agent in self._agents if self._choice(agent) is None]

    def claimable_agents(self) -> list[str]:
        """Return the agents with a key here and at least one model that is not on hold."""
        return [agent for agent in self._served() if any(model not in self._holds for model in self._models_of(agent))]

    def portions(self) -> list[Portion]:
        """Return the claimable agents: a portion for each throttled model, and those with all of the concurrency together.

        The throttled first, because their room is small and the others would leave none of it.
        """
        by_model: dict[str | None, list[str]] = {}
        for agent in self.claimable_agents():
            model = next(model for model in self._models_of(agent) if model not in self._holds)
            by_model.setdefault(model if self._throttles.share(model) < 1 else None, []).append(agent)
        free = by_model.pop(None, [])
        throttled = [
            Portion(agents=agents, share=self._throttles.share(str(model))) for model, agents in by_model.items()
        ]
        return [*throttled, Portion(agents=free)] if free else throttled

    def held_agents(self) -> list[str]:
        """Return the agents that could be answered here if their models were not on hold."""
        claimable = self.claimable_agents()
        return [agent for agent in self._served() if agent not in claimable]

    async def take_probe(self, link: db.Link) -> Probe | None:
        """Return one model whose hold has lapsed, with its agents, if this process won its probe."""
        for model in self._holds.lapsed():
            agents = [agent for agent in self._served() if model in self._models_of(agent)]
            if agents and await self._holds.take_probe(link, model, agents):
                return Probe(model=model, agents=agents)
        return None

    async def return_probe(self, model: str) -> None:
        """Give up the right to probe a model."""
        await self._holds.return_probe(model)

    async def look_again(self, link: db.Link) -> None:
        """Find out whether holds that keep agents from being claimed have ended elsewhere."""
        if self.held_agents():
            await self._holds.look(link)

    def configured(self, agent: str) -> list[Target]:
        """Return the models of an agent in order, on hold or not; none when nobody chose one.

        Raises:
            ModelMisconfigured: the variable that holds the key is not set here; a retry, maybe on a machine that has it.
        """
        choice = self._choice(agent)
        if choice is None:
            return []
        if not self._has_key(choice):
            missing = f"the environment variable {choice.api_key_env} is not set here"
            raise ModelMisconfigured(missing, model=choice.models[0], kind=Kind.RETRY)
        key = self._variable(choice.api_key_env) if choice.api_key_env else None
        return [_target(model, choice, key) for model in choice.models]

    def targets(self, agent: str, *, probe: str | None = None) -> list[Target]:
        """Return what to call for this agent, in order: the model that is probed, then those that are not on hold.

        Raises:
            ModelMisconfigured: see ``configured``.
        """
        targets = self.configured(agent)
        usable = [target for target in targets if target.model not in self._holds or target.model == probe]
        # A hold that began after the claim leaves none: the first one is asked then, and says why not.
        return sorted(usable, key=lambda target: target.model != probe) or targets[:1]

    def left_out(self, agent: str) -> bool:
        """Return whether a model of this agent is on hold: a refusal by the others is not the last word then."""
        return any(model in self._holds for model in self._models_of(agent))

    def _served(self) -> list[str]:
        return [agent for agent in self._agents if (choice := self._choice(agent)) and self._has_key(choice)]

    def _has_key(self, choice: Choice) -> bool:
        return choice.api_key_env is None or bool(self._variable(choice.api_key_env))

    def _choice(self, agent: str) -> Choice | None:
        return (self._choices or {}).get(agent, self._default)

    def _models_of(self, agent: str) -> tuple[str, ...]:
        choice = self._choice(agent)
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
