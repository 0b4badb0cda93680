"""What litellm's table knows of a model, what a call of it costs, and how a call has to be asked because of it.

Owns how a model's name leads to its entry, and the peculiarities of litellm's ways to single providers. The table itself is
read: the functions around it ask an Ollama server over HTTP. Invariant: an unknown model has an empty entry, so that whatever is
asked about it is false or unknown.
"""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import structlog

from draftd.providers.known_providers import provider_of
from draftd.providers.response import cached_tokens
from draftd.providers.target import Target

if TYPE_CHECKING:
    from draftd.providers.response import RawAnswer

log = structlog.get_logger(__name__)

# A route of litellm's or a region, which stand between the provider and the model.
_ROUTES = re.compile(r"^(?:responses|converse|converse_like|invoke|[a-z]{2}(?:-[a-z]+)+-\d)/")
_MILLION = Decimal(1_000_000)
_ABOVE = re.compile(r"_above_(\d+)k_tokens")
# Prices of service tiers, of batches and of a cache that lives for an hour, which draftd does not ask for.
_OTHER_TERMS = re.compile(r"_(?:priority|flex|batches|above_1hr\w*)$")
CACHE_THE_SYSTEM_MESSAGE = [{"location": "message", "role": "system"}]
CostPerToken = Callable[..., tuple[float, float]]


class Registry:
    """litellm's table of models.

    Args:
        table: name → entry.
        cost_per_token: litellm's function.
    """

    def __init__(self, *, table: Mapping[str, Mapping[str, Any]], cost_per_token: CostPerToken) -> None:
        self._table = table
        self._cost_per_token = cost_per_token

    def entry(self, model: str) -> Mapping[str, Any]:
        """Return what is known of a model; nothing of an unknown one.

        Args:
            model: litellm's name.
        """
        return self._table.get(self._name(model), {})

    def has_price(self, model: str) -> bool:
        """Return whether both prices of a model are known."""
        entry = self.entry(model)
        return bool(entry.get("input_cost_per_token")) and bool(entry.get("output_cost_per_token"))

    def cost_usd(self, target: Target, answer: "RawAnswer", counted: tuple[int, int]) -> Decimal | None:
        """Return what a call cost: by the operator's prices, as the provider says, or by the table; None when nobody knows.

        Args:
            target: the model.
            answer: what it answered; its usage also knows what came from the cache.
            counted: input and output tokens.
        """
        if target.input_usd_per_mtok is not None and target.output_usd_per_mtok is not None:
            from_cache = cached_tokens(answer.usage, at_most=counted[0]) or 0
            cached_usd = target.cached_input_usd_per_mtok
            input_usd = (counted[0] - from_cache) * target.input_usd_per_mtok
            input_usd += from_cache * (target.input_usd_per_mtok if cached_usd is None else cached_usd)
            return (input_usd + counted[1] * target.output_usd_per_mtok) / _MILLION
        if (said := _said_by_provider(target.model, answer)) is not None:
            return said
        return self._computed(target, answer, counted) if self.has_price(target.model) else None

    def highest_prices(self, target: Target, *, input_tokens: int) -> tuple[Decimal, Decimal] | None:
        """Return the most that an input and an output token of a call can cost, in USD; None if a price is not known.

        Args:
            target: the model.
            input_tokens: the most that the call has; some models cost more from a number on.
        """
        if target.input_usd_per_mtok is not None and target.output_usd_per_mtok is not None:
            input_usd = max(target.input_usd_per_mtok, target.cached_input_usd_per_mtok or Decimal(0))
            return input_usd / _MILLION, target.output_usd_per_mtok / _MILLION
        if not self.has_price(target.model):
            return None
        entry, tier = self.entry(target.model), str(target.params.get("service_tier", ""))

        def highest(*prefixes: str) -> Decimal:
            prices = [
                Decimal(str(price))
                for name, price in entry.items()
                if name.startswith(prefixes) and isinstance(price, int | float) and _applies(name, tier, input_tokens)
            ]
            return max(prices)

        # A prompt that is written to the cache costs more than one that is not.
        input_usd = highest("input_cost_per_token", "input_cost_per_image_token", "cache_creation_input_token_cost")
        return input_usd, highest("output_cost_per_token", "output_cost_per_reasoning_token")

    def early_rung(self, model: str) -> int:
        """Return the strictest rung of ``forms.MODES`` that litellm streams.

        It asks Groq for every format, and Bedrock for a schema that the model does not take natively, in one piece, and cuts the
        answer up afterwards: the first reply would come with the last.
        """
        match provider_of(model):
            case "groq":
                return 2
            case "bedrock":
                return 0 if self.entry(model).get("supports_native_structured_output") else 1
            case _:
                return 0

    def marks_cache(self, model: str) -> bool:
        """Return whether the part of the prompt that never changes is marked for the provider's cache."""
        match provider_of(model):
            case "anthropic" | "openrouter":
                return True
            case "bedrock" | "vertex_ai":
                takes_a_mark = "claude" in model or "nova" in model  # others cache by themselves
                return takes_a_mark and bool(self.entry(model).get("supports_prompt_caching"))
            case _:
                return False

    def drops_pictures(self, model: str) -> bool:
        """Return whether litellm leaves out pictures without a word, so that the model would make a message up."""
        return provider_of(model) == "deepseek" and not self.entry(model).get("supports_vision")

    def _name(self, model: str) -> str:
        """Return the name under which the table has a model, which may be another provider's prefix, or none."""
        if model in self._table:
            return model
        provider, separator, name = model.partition("/")
        while separator and (shorter := _ROUTES.sub("", name)) != name:
            name = shorter
        if f"{provider}/{name}" in self._table:
            return f"{provider}/{name}"
        owner = str(self._table.get(name, {}).get("litellm_provider", ""))
        # Bedrock's are priced as "bedrock_converse", Vertex's as "vertex_ai-language-models".
        return name if re.fullmatch(rf"{re.escape(provider)}(?:[_-].+)?", owner) else model

    def _computed(self, target: Target, answer: "RawAnswer", counted: tuple[int, int]) -> Decimal | None:
        # Of an answer that broke off, what the provider has counted is not all.
        by = {"prompt_tokens": counted[0], "completion_tokens": counted[1]}
        used = by if answer.broke_off else {"usage_object": answer.usage}
        provider = provider_of(target.model)
        try:
            cost_usd = sum(self._cost_per_token(model=self._name(target.model), custom_llm_provider=provider, **used))
        except Exception as error:  # noqa: BLE001 - litellm raises bare Exceptions here; an answer is worth more than its price
            log.warning("price not computed", model=target.name, error=type(error).__name__)
            return None
        return Decimal(f"{cost_usd:.9f}") if cost_usd else None


def _applies(name: str, tier: str, input_tokens: int) -> bool:
    """Return whether a price of the table may be charged for a call of this service tier with at most so many tokens."""
    if (above := _ABOVE.search(name)) and input_tokens <= int(above[1]) * 1000:
        return False
    return not _OTHER_TERMS.search(name) or (bool(tier) and name.endswith(f"_{tier}"))


def _said_by_provider(model: str, answer: "RawAnswer") -> Decimal | None:
    """Return what OpenRouter says that the call cost; what litellm writes in the same place for others is its own guess."""
    cost = getattr(answer.usage, "cost", None) if provider_of(model) == "openrouter" else None
    if isinstance(cost, bool) or not isinstance(cost, int | float):
        return None
    return Decimal(f"{cost:.9f}") if 0 <= cost < float(_MILLION) else None
