"""A model to call."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A model to call, as the operator configured it."""

    name: str
    """The operator's name for it, used in holds, throttles, usage and errors."""
    model: str
    """The litellm name, e.g. ``anthropic/…``, ``ollama_chat/…``."""
    params: Mapping[str, Any] = field(default_factory=dict)
    api_base: str | None = None
    api_key: str | None = field(default=None, repr=False)
    input_usd_per_mtok: Decimal | None = None
    """USD per 1,000,000 input tokens; with the output's price, it overrides litellm's registry."""
    output_usd_per_mtok: Decimal | None = None
    """USD per 1,000,000 output tokens."""
    cached_input_usd_per_mtok: Decimal | None = None
    """USD per 1,000,000 input tokens from the provider's cache; None: the price of other input."""
    has_ceilings: bool = False
    """Whether the fleet may call it only so often, use only so many tokens, or make only so many calls at a time."""

    @property
    def is_free(self) -> bool:
        """Whether the operator says that it costs nothing."""
        return self.input_usd_per_mtok == 0 and self.output_usd_per_mtok == 0
