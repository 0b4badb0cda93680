"""Which model answers which agent: the operator's choice, followed without a restart, and what of it can be asked now.

``draft_agents`` and ``draft_models`` ride on the heartbeat's statement and cost no query of their own. A model that may not be
asked here, or whose key is not set on this machine, is skipped; an agent with no other is not claimed here. Another machine may
allow it, so one machine's gap is no reason to hold the model for all.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog

from draftd import db
from draftd.errors import ModelMisconfigured, NoModelHere
from draftd.providers.catalog import Catalog, Choice, ResolvedModels
from draftd.providers.holds import Holds
from draftd.providers.llm import Target
from draftd.providers.permits import Permits
from draftd.providers.throttles import Throttles
from draftd.queue.claims import ClaimGroup, Probe

log = structlog.get_logger(__name__)

WAITING = "SELECT FROM draft_requests WHERE status = 'pending' AND agent = ANY (%(agents)s) LIMIT 1"


class Models:
    """Chooses models.

    Args:
        holds: what is on hold.
        throttles: what may be used in part only.
        agents: the agents with a prompt here.
        default: the models of an agent without a row of its own; None when ``DRAFTD_MODEL`` is not set.
        permits: where a key or a picture may go.
        variable: looks up a key by the name of its environment variable.
    """

    def __init__(
        self,
        *,
        holds: Holds,
        throttles: Throttles,
        agents: Sequence[str],
        default: Choice | None,
        permits: Permits,
        variable: Callable[[str], str | None],
    ) -> None:
        self._holds = holds
        self._throttles = throttles
        self._agents = tuple(agents)
        self._default = default
        self._permits = permits
        self._variable = variable
        self._is_known = False
        self._resolved = self._resolve_all(Catalog())

    def update(
        self,
        catalog: Catalog,
        holds: Sequence[Mapping[str, Any]],
        throttles: Sequence[Mapping[str, Any]],
        *,
        as_of: float,
    ) -> bool:
        """Take in what a beat read that began at ``as_of``; return whether more may be claimable now than before."""
        before = set(self.claimable_agents())
        self.choose(catalog)
        self._holds.update(holds, as_of=as_of)
        self._throttles.update(throttles, as_of=as_of)
        return bool(set(self.claimable_agents()) - before)

    def choose(self, catalog: Catalog) -> None:
        """Set the agents' models, and say what changed and what may not be asked."""
        before, self._resolved = self._resolved, self._resolve_all(catalog)
        was_known, self._is_known = self._is_known, True
        for agent, resolved in self._resolved.items():
            if was_known and resolved == before[agent]:
                continue
            if was_known:
                log.info("model changed", agent=agent, models=", ".join(resolved.models))
            for one in resolved.refused:
                log.error("model skipped", agent=agent, model=one.name, code=ModelMisconfigured.code, reason=one.reason)

    def names(self) -> set[str]:
        """Return the names of the models that this process asks."""
        return {target.name for resolved in self._resolved.values() for target in resolved.targets}

    def resolved(self, agent: str) -> ResolvedModels:
        """Return the models of an agent: what can be asked, on hold or not, and what may not."""
        return self._resolved.get(agent) or ResolvedModels()

    def agents_without_model(self) -> list[str]:
        """Return the agents without a model: no row of ``draft_agents`` and no ``DRAFTD_MODEL``."""
        return [agent for agent in self._agents if not self.resolved(agent).models]

    def claimable_agents(self) -> list[str]:
        """Return the agents with at least one model that may be asked here and is not on hold."""
        return [agent for agent in self._served() if any(model not in self._holds for model in self._models_of(agent))]

    def claim_groups(self) -> list[ClaimGroup]:
        """Return the claimable agents: a group for each throttled model, and those with all of the concurrency together.

        The throttled first, because their room is small and the others would leave none of it.
        """
        by_model: dict[str | None, list[str]] = {}
        for agent in self.claimable_agents():
            model = next(model for model in self._models_of(agent) if model not in self._holds)
            by_model.setdefault(model if self._throttles.share(model) < 1 else None, []).append(agent)
        free = by_model.pop(None, [])
        throttled = [
            ClaimGroup(agents=agents, share=self._throttles.share(str(model))) for model, agents in by_model.items()
        ]
        return [*throttled, ClaimGroup(agents=free)] if free else throttled

    def held_agents(self) -> list[str]:
        """Return the agents that could be answered here if their models were not on hold."""
        claimable = self.claimable_agents()
        return [agent for agent in self._served() if agent not in claimable]

    def are_limited(self) -> bool:
        """Return whether anything is on hold or throttled, whoever uses it."""
        return bool(self._holds.codes()) or self._throttles.are_any()

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

    async def refresh(self, link: db.Link) -> None:
        """Find out whether holds that keep agents from being claimed have ended elsewhere."""
        if self.held_agents():
            await self._holds.look(link)

    def configured(self, agent: str) -> list[Target]:
        """Return the models of an agent that may be asked here, in order, on hold or not; none when nobody chose one.

        Raises:
            NoModelHere: none of those that were chosen may be asked here.
        """
        resolved = self.resolved(agent)
        if resolved.refused and not resolved.targets:
            first = resolved.refused[0]
            raise NoModelHere(first.message, model=first.name)
        return list(resolved.targets)

    def targets(self, agent: str, *, probe: str | None = None) -> list[Target]:
        """Return what to call for this agent, in order: the model that is probed, then those that are not on hold.

        Raises:
            NoModelHere: see ``configured``.
        """
        targets = self.configured(agent)
        usable = [target for target in targets if target.name not in self._holds or target.name == probe]
        # A hold that began after the claim leaves none: the first one is asked then, and says why not.
        return sorted(usable, key=lambda target: target.name != probe) or targets[:1]

    def left_out(self, agent: str) -> bool:
        """Return whether a model of this agent is on hold: a refusal by the others is not the last word then."""
        return any(model in self._holds for model in self._models_of(agent))

    def _served(self) -> list[str]:
        return [agent for agent in self._agents if self.resolved(agent).targets]

    def _models_of(self, agent: str) -> list[str]:
        return [target.name for target in self.resolved(agent).targets]

    def _resolve_all(self, catalog: Catalog) -> dict[str, ResolvedModels]:
        def resolve(agent: str) -> ResolvedModels:
            choice = catalog.choice(agent) or self._default
            return catalog.resolve(choice, permits=self._permits, variable=self._variable)

        return {agent: resolve(agent) for agent in self._agents}
