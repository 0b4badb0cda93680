"""The catalog: which models answer an agent (``draft_agents``), and what a model's name means (``draft_models``).

Owns the statements of both tables, how a row is read, and what a name comes to here: a target that can be asked, or a refusal. A
name without a row is litellm's own name. Invariant: a row that cannot be used harms its own name alone.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from draftd import db
from draftd.db.statements import statements
from draftd.providers import parameters
from draftd.providers.llm import Target
from draftd.providers.permits import Permits

_SQL = statements(__name__)
READ = _SQL["read"]
LIST_AGENTS, SET_AGENT, UNSET_AGENT, CHOSEN = (
    _SQL[name] for name in ("list_agents", "set_agent", "unset_agent", "chosen")
)
LIST_MODELS, SET_MODEL, UNSET_MODEL = _SQL["list_models"], _SQL["set_model"], _SQL["unset_model"]
DEFINED, USERS = _SQL["defined"], _SQL["users"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The models of one agent by name, in the order in which they are asked."""

    models: tuple[str, ...]
    params: Any = field(default_factory=dict)
    """As it stands in the row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What a model's name means."""

    model: str
    """litellm's name."""
    api_base: str | None = None
    api_key_env: str | None = None
    params: Any = field(default_factory=dict)
    """As it stands in the row."""
    input_usd_per_mtok: Decimal | None = None
    output_usd_per_mtok: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotAskedHere:
    """A model that is not asked."""

    name: str
    reason: str
    """For the operator: which setting would allow it, or what is wrong with its row."""

    @property
    def message(self) -> str:
        """The name and the reason."""
        return f"{self.name}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedModels:
    """What an agent's choice comes to in this process."""

    models: tuple[str, ...] = ()
    """The names of all, refused ones too."""
    targets: tuple[Target, ...] = ()
    refused: tuple[NotAskedHere, ...] = ()


class Catalog:
    """Both tables, as they were read.

    Args:
        choices: agent → its models.
        meanings: name → what it means; other names are litellm's own.
    """

    def __init__(
        self, *, choices: Mapping[str, Choice] | None = None, meanings: Mapping[str, Meaning] | None = None
    ) -> None:
        self._choices = dict(choices or {})
        self._meanings = dict(meanings or {})

    @classmethod
    def read(cls, agents: Iterable[Mapping[str, Any]], models: Iterable[Mapping[str, Any]]) -> "Catalog":
        """Take in what a heartbeat or ``READ`` returned."""
        return cls(
            choices={row["agent"]: _choice(row) for row in agents},
            meanings={row["name"]: _meaning(row) for row in models},
        )

    def choice(self, agent: str) -> Choice | None:
        """Return the models of an agent; None for one without a row."""
        return self._choices.get(agent)

    def meaning(self, name: str) -> Meaning:
        """Return what a name means; without a row it is litellm's own."""
        return self._meanings.get(name) or Meaning(model=name)

    def resolve(
        self, choice: Choice | None, *, permits: Permits, variable: Callable[[str], str | None]
    ) -> ResolvedModels:
        """Return what a choice comes to here.

        Args:
            choice: an agent's.
            permits: where a key or a picture may go.
            variable: looks up a key by the name of its environment variable.
        """
        if choice is None:
            return ResolvedModels()
        found = [self._resolve_name(name, choice, permits, variable) for name in choice.models]
        return ResolvedModels(
            models=choice.models,
            targets=tuple(one for one in found if isinstance(one, Target)),
            refused=tuple(one for one in found if isinstance(one, NotAskedHere)),
        )

    def _resolve_name(
        self, name: str, choice: Choice, permits: Permits, variable: Callable[[str], str | None]
    ) -> Target | NotAskedHere:
        meaning = self.meaning(name)
        why = permits.refusal(model=meaning.model, api_base=meaning.api_base, api_key_env=meaning.api_key_env)
        key = variable(meaning.api_key_env) if meaning.api_key_env and not why else None
        if meaning.api_key_env and not why and not key:
            why = f"the environment variable {meaning.api_key_env} is not set here"
        try:
            params = parameters.overlay(parameters.read(meaning.params), parameters.read(choice.params))
        except ValueError as error:
            why = why or str(error)
        if why:
            return NotAskedHere(name=name, reason=why)
        return Target(
            name=name,
            model=meaning.model,
            params=params,
            api_base=meaning.api_base,
            api_key=key,
            input_usd_per_mtok=meaning.input_usd_per_mtok,
            output_usd_per_mtok=meaning.output_usd_per_mtok,
        )


def fallback_names(row: Mapping[str, Any]) -> list[str]:
    """Return the fallbacks of a row of ``draft_agents``; its owner may write nulls and arrays of arrays."""
    names: Sequence[Any] = row["fallback_models"]
    return [name for name in names if isinstance(name, str)]


def _choice(row: Mapping[str, Any]) -> Choice:
    return Choice(models=(row["model"], *fallback_names(row)), params=_params(row["params"]))


def _meaning(row: Mapping[str, Any]) -> Meaning:
    return Meaning(
        model=row["model"] or row["name"],
        api_base=row["api_base"],
        api_key_env=row["api_key_env"],
        params=_params(row["params"]),
        input_usd_per_mtok=_price(row["input_usd_per_mtok"]),
        output_usd_per_mtok=_price(row["output_usd_per_mtok"]),
    )


def _params(text: str) -> Any:
    try:
        return db.loads(text)
    except ValueError:
        return None  # cut off: far longer than any parameters are


def _price(value: Any) -> Decimal | None:
    return None if value is None else Decimal(str(value))
