"""Which models answer which agent, and which of them can be called now. Configuration changes apply without a restart.

The heartbeat's statement also reads ``draft_agents`` and ``draft_models``, so they cost no query of their own. A model that this
process may not call, or whose key is not set here, is skipped; an agent without another model is not claimed here. Other machines
may be able to call it, so this never puts the model on hold.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from draftd import db
from draftd.errors import ModelMisconfigured, NoModelHere
from draftd.providers.catalog import AgentModels, Catalog, ResolvedModels
from draftd.providers.holds import Holds
from draftd.providers.pauses import Pauses
from draftd.providers.permits import Permits
from draftd.providers.target import Target
from draftd.providers.throttles import Throttles
from draftd.queue.claims import ClaimGroup, Probe

log = structlog.get_logger(__name__)

WAITING = "SELECT FROM draft_requests WHERE status = 'pending' AND NOT limited AND agent = ANY (%(agents)s) LIMIT 1"


class Models:
    """The models of this process's agents.

    Args:
        holds: the models on hold.
        throttles: the throttled models.
        agents: the agents that have a prompt here.
        default: the models of agents without a row; None if ``DRAFTD_MODEL`` is not set.
        permits: where keys and pictures may be sent.
        getenv: returns an environment variable, or None.
        is_budget_used_up: returns whether only models that cost nothing may be called.
    """

    def __init__(
        self,
        *,
        holds: Holds,
        throttles: Throttles,
        agents: Sequence[str],
        default: AgentModels | None,
        permits: Permits,
        getenv: Callable[[str], str | None],
        is_budget_used_up: Callable[[], bool] = lambda: False,
    ) -> None:
        self._is_budget_used_up = is_budget_used_up
        self._holds = holds
        self._throttles = throttles
        self._pauses = Pauses()
        self._agents = tuple(agents)
        self._default = default
        self._permits = permits
        self._getenv = getenv
        self._is_known = False
        self._resolved = self._resolve_all(Catalog())

    def update(
        self,
        catalog: Catalog,
        holds: Sequence[Mapping[str, Any]],
        throttles: Sequence[Mapping[str, Any]],
        pauses: Sequence[Mapping[str, Any]] = (),
        *,
        as_of: float,
    ) -> bool:
        """Apply what a heartbeat that began at ``as_of`` read; return whether more agents may be claimable than before."""
        before = set(self.claimable_agents())
        self.apply(catalog)
        self._holds.update(holds, as_of=as_of)
        self._throttles.update(throttles, as_of=as_of)
        self._pauses.update(pauses, as_of=as_of)
        return bool(set(self.claimable_agents()) - before)

    def apply(self, catalog: Catalog) -> None:
        """Replace the agents' models; log what changed and which models are unusable."""
        before, self._resolved = self._resolved, self._resolve_all(catalog)
        was_known, self._is_known = self._is_known, True
        for agent, resolved in self._resolved.items():
            if was_known and resolved == before[agent]:
                continue
            if was_known:
                log.info("model changed", agent=agent, models=", ".join(resolved.models))
            for model in resolved.unusable:
                log.error(
                    "model skipped", agent=agent, model=model.name, code=ModelMisconfigured.code, reason=model.reason
                )

    def all_targets(self) -> list[Target]:
        """Return the models that this process calls; one that several agents use, several times."""
        return [target for resolved in self._resolved.values() for target in resolved.targets]

    def names(self) -> set[str]:
        """Return the names of the models that this process calls."""
        return {target.name for target in self.all_targets()}

    def resolved(self, agent: str) -> ResolvedModels:
        """Return an agent's models, both usable ones (on hold or not) and unusable ones."""
        return self._resolved.get(agent) or ResolvedModels()

    def agents_without_model(self) -> list[str]:
        """Return the agents without a model: no row of ``draft_agents`` and no ``DRAFTD_MODEL``."""
        return [agent for agent in self._agents if not self.resolved(agent).models]

    def claimable_agents(self) -> list[str]:
        """Return the agents with at least one usable model that is neither on hold nor paused, and that can be paid."""
        unpayable = self.unpayable_agents()
        return [
            agent
            for agent in self._served()
            if not all(map(self._is_out, self._models_of(agent))) and agent not in unpayable
        ]

    def unpayable_agents(self) -> list[str]:
        """Return the agents that are not claimed for because the fleet's budget is used up."""
        if not self._is_budget_used_up():
            return []

        def costs(agent: str) -> bool:
            targets = self.resolved(agent).targets
            return not next((one for one in targets if not self._is_out(one.name)), targets[0]).is_free

        return [agent for agent in self._served() if costs(agent)]

    def admissible_agents(self) -> list[str]:
        """Return the claimable agents, and those with a model that may be probed."""
        lapsed = {model for model in self._holds.lapsed() if model not in self._pauses}
        claimable = self.claimable_agents()
        return [agent for agent in self._served() if agent in claimable or lapsed & {*self._models_of(agent)}]

    def models_for(self, agents: Sequence[str]) -> list[str]:
        """Return the first model of each of these agents that is neither on hold nor paused, or an empty name."""
        return [next((one for one in self._models_of(agent) if not self._is_out(one)), "") for agent in agents]

    def published(self) -> dict[str, dict[str, bool]]:
        """Return what the heartbeat publishes: by agent and model, whether this process can call it.

        Empty before the configuration has been read. Safe to call from any thread.
        """
        if not self._is_known:
            return {}
        return {
            agent: {one.name: False for one in resolved.unusable} | {one.name: True for one in resolved.targets}
            for agent, resolved in self._resolved.items()
        }

    def claim_groups(self) -> list[ClaimGroup]:
        """Return the claimable agents, grouped by model if it is throttled or has ceilings, plus one group for all others.

        The limited groups come first: they may use few slots, and the others would take them all.
        """
        free: list[str] = []
        limited: dict[str, tuple[Target, list[str]]] = {}
        for agent in self.claimable_agents():
            first = next(one for one in self.resolved(agent).targets if not self._is_out(one.name))
            is_limited = first.has_ceilings or self._throttles.share(first.name) < 1
            (limited.setdefault(first.name, (first, []))[1] if is_limited else free).append(agent)
        groups = [
            ClaimGroup(agents=agents, share=self._throttles.share(name), ceiling=name if first.has_ceilings else None)
            for name, (first, agents) in limited.items()
        ]
        return [*groups, ClaimGroup(agents=free)] if free else groups

    def held_agents(self) -> list[str]:
        """Return the agents that this process cannot serve only because of holds, pauses or a budget that is used up."""
        claimable = self.claimable_agents()
        return [agent for agent in self._served() if agent not in claimable]

    def are_limited(self) -> bool:
        """Return whether any model of the fleet is on hold or throttled."""
        return bool(self._holds.codes()) or self._throttles.are_any()

    async def take_probe(self, link: db.Link) -> Probe | None:
        """Win the right to probe a model whose pause is over; return it with its agents, or None."""
        for model in self._holds.lapsed():
            if model in self._pauses:
                continue
            agents = [agent for agent in self._served() if model in self._models_of(agent)]
            if agents and await self._holds.take_probe(link, model, agents):
                return Probe(model=model, agents=agents)
        return None

    async def return_probe(self, model: str) -> None:
        """Give up the right to probe a model."""
        await self._holds.return_probe(model)

    async def refresh(self, link: db.Link) -> None:
        """If holds or pauses keep agents from being claimed, check whether they have ended."""
        if self.held_agents():
            await self._holds.refresh(link)
            await self._pauses.refresh(link)

    def configured(self, agent: str) -> list[Target]:
        """Return an agent's usable models in order, on hold or not; empty if none is configured.

        Raises:
            NoModelHere: models are configured, but none is usable here.
        """
        resolved = self.resolved(agent)
        if resolved.unusable and not resolved.targets:
            first = resolved.unusable[0]
            raise NoModelHere(first.message, model=first.name)
        return list(resolved.targets)

    def targets(self, agent: str, *, probe: str | None = None) -> list[Target]:
        """Return the models to call for an agent, in order: the probed model, then those that are neither on hold nor paused.

        Raises:
            NoModelHere: see ``configured``.
        """
        targets = self.configured(agent)
        usable = [target for target in targets if not self._is_out(target.name) or target.name == probe]
        # All may have gone on hold since the claim; calling the first then reports the reason. An attempt claimed before a pause
        # continues.
        return sorted(usable, key=lambda target: target.name != probe) or targets[:1]

    def has_held_model(self, agent: str) -> bool:
        """Return whether one of the agent's models is on hold, so that a refusal by the others is not final."""
        return any(model in self._holds for model in self._models_of(agent))

    def _is_out(self, model: str) -> bool:
        return model in self._holds or model in self._pauses

    def _served(self) -> list[str]:
        return [agent for agent in self._agents if self.resolved(agent).targets]

    def _models_of(self, agent: str) -> list[str]:
        return [target.name for target in self.resolved(agent).targets]

    def _resolve_all(self, catalog: Catalog) -> dict[str, ResolvedModels]:
        def resolve(agent: str) -> ResolvedModels:
            chosen = catalog.models_of(agent) or self._default
            return catalog.resolve(chosen, permits=self._permits, getenv=self._getenv)

        return {agent: resolve(agent) for agent in self._agents}
