"""The catalog: the models of each agent (``draft_agents``) and the definitions of model names (``draft_models``).

Owns the statements of both tables, the parsing of their rows, and the resolution of a name in this process: a target that can be
called, or a reason why not. A name without a row is a litellm name. Invariant: an invalid row affects its own name only.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from draftd import db
from draftd.db.statements import statements
from draftd.providers import parameters
from draftd.providers.permits import Permits
from draftd.providers.target import Target

_SQL = statements(__name__)
READ = _SQL["read"]
LIST_AGENTS, SET_AGENT, UNSET_AGENT, CHOSEN = (
    _SQL[name] for name in ("list_agents", "set_agent", "unset_agent", "chosen")
)
LIST_MODELS, SET_MODEL, UNSET_MODEL = _SQL["list_models"], _SQL["set_model"], _SQL["unset_model"]
DEFINED, USERS = _SQL["defined"], _SQL["users"]
CEILINGS = ("rpm", "tpm", "max_in_flight")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentModels:
    """The names of an agent's models, in the order in which they are called."""

    models: tuple[str, ...]
    params: Any = field(default_factory=dict)
    """As stored in the row, unchecked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDefinition:
    """What a model name stands for."""

    model: str
    """The litellm name."""
    api_base: str | None = None
    api_key_env: str | None = None
    params: Any = field(default_factory=dict)
    """As stored in the row, unchecked."""
    input_usd_per_mtok: Decimal | None = None
    output_usd_per_mtok: Decimal | None = None
    cached_input_usd_per_mtok: Decimal | None = None
    has_ceilings: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UnusableModel:
    """A model that this process does not call."""

    name: str
    reason: str
    """For the operator: the setting that would allow it, or what is wrong with its row."""

    @property
    def message(self) -> str:
        """The name and the reason."""
        return f"{self.name}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedModels:
    """An agent's models, resolved in this process."""

    models: tuple[str, ...] = ()
    """All names, including unusable ones."""
    targets: tuple[Target, ...] = ()
    unusable: tuple[UnusableModel, ...] = ()


class Catalog:
    """Both tables, as last read.

    Args:
        agents: agent → its models.
        definitions: model name → its definition; other names are litellm names.
    """

    def __init__(
        self,
        *,
        agents: Mapping[str, AgentModels] | None = None,
        definitions: Mapping[str, ModelDefinition] | None = None,
    ) -> None:
        self._agents = dict(agents or {})
        self._definitions = dict(definitions or {})

    @classmethod
    def read(cls, agents: Iterable[Mapping[str, Any]], models: Iterable[Mapping[str, Any]]) -> "Catalog":
        """Parse the rows that a heartbeat or ``READ`` returned."""
        return cls(
            agents={row["agent"]: _agent_models(row) for row in agents},
            definitions={row["name"]: _definition(row) for row in models},
        )

    def models_of(self, agent: str) -> AgentModels | None:
        """Return an agent's models, or None if it has no row."""
        return self._agents.get(agent)

    def definition(self, name: str) -> ModelDefinition:
        """Return a name's definition; a name without a row is a litellm name."""
        return self._definitions.get(name) or ModelDefinition(model=name)

    def resolve(
        self, chosen: AgentModels | None, *, permits: Permits, getenv: Callable[[str], str | None]
    ) -> ResolvedModels:
        """Resolve an agent's models in this process.

        Args:
            chosen: the agent's models, if any.
            permits: where keys and pictures may be sent.
            getenv: returns an environment variable, or None.
        """
        if chosen is None:
            return ResolvedModels()
        found = [self._resolve_name(name, chosen, permits, getenv) for name in chosen.models]
        return ResolvedModels(
            models=chosen.models,
            targets=tuple(one for one in found if isinstance(one, Target)),
            unusable=tuple(one for one in found if isinstance(one, UnusableModel)),
        )

    def _resolve_name(
        self, name: str, chosen: AgentModels, permits: Permits, getenv: Callable[[str], str | None]
    ) -> Target | UnusableModel:
        definition = self.definition(name)
        why = permits.refusal(model=definition.model, api_base=definition.api_base, api_key_env=definition.api_key_env)
        key = getenv(definition.api_key_env) if definition.api_key_env and not why else None
        if definition.api_key_env and not why and not key:
            why = f"the environment variable {definition.api_key_env} is not set here"
        try:
            params = parameters.overlay(parameters.read(definition.params), parameters.read(chosen.params))
        except ValueError as error:
            why = why or str(error)
        if why:
            return UnusableModel(name=name, reason=why)
        return Target(
            name=name,
            model=definition.model,
            params=params,
            api_base=definition.api_base,
            api_key=key,
            input_usd_per_mtok=definition.input_usd_per_mtok,
            output_usd_per_mtok=definition.output_usd_per_mtok,
            cached_input_usd_per_mtok=definition.cached_input_usd_per_mtok,
            has_ceilings=definition.has_ceilings,
        )


def fallback_names(row: Mapping[str, Any]) -> list[str]:
    """Return the fallbacks of a ``draft_agents`` row, without the nulls and nested arrays that its column permits."""
    names: Sequence[Any] = row["fallback_models"]
    return [name for name in names if isinstance(name, str)]


def _agent_models(row: Mapping[str, Any]) -> AgentModels:
    return AgentModels(models=(row["model"], *fallback_names(row)), params=_params(row["params"]))


def _definition(row: Mapping[str, Any]) -> ModelDefinition:
    return ModelDefinition(
        model=row["model"] or row["name"],
        api_base=row["api_base"],
        api_key_env=row["api_key_env"],
        params=_params(row["params"]),
        input_usd_per_mtok=_price(row["input_usd_per_mtok"]),
        output_usd_per_mtok=_price(row["output_usd_per_mtok"]),
        cached_input_usd_per_mtok=_price(row["cached_input_usd_per_mtok"]),
        has_ceilings=any(row[name] is not None for name in CEILINGS),
    )


def _params(text: str) -> Any:
    try:
        return db.loads(text)
    except ValueError:
        return None  # truncated: far longer than any real parameters


def _price(value: Any) -> Decimal | None:
    return None if value is None else Decimal(str(value))
