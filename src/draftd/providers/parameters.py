"""The allowlist of model parameters that a prompt, an agent or a model may set.

Everything else is refused, because litellm accepts more than parameters through the same arguments: addresses, keys, headers,
files to read, mock responses. The parameters below change an answer's quality and price, and nothing else. ``stop`` is missing
because answers are JSON, which must not end in the middle.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

LIMITS = ("max_tokens", "max_completion_tokens")
"""The two names of the output token limit; a provider that knows both refuses a call with both."""
MAX_NAME_CHARS = 64

# Reasoning models spend output tokens before they write; a lower limit would cut many answers off.
_OutputTokens = Annotated[int, Field(ge=256, le=128_000)]
_Penalty = Annotated[float, Field(ge=-2, le=2)]
_Word = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
_Label = Annotated[str, Field(min_length=1, max_length=128)]
_Forbidding = ConfigDict(extra="forbid", frozen=True)


class Thinking(BaseModel):
    """Anthropic's ``thinking`` parameter."""

    model_config = _Forbidding

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Annotated[int, Field(ge=0, le=128_000)] | None = None


class Params(BaseModel):
    """The parameters of a model call."""

    model_config = _Forbidding

    max_tokens: _OutputTokens | None = None
    max_completion_tokens: _OutputTokens | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=10_000)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    frequency_penalty: _Penalty | None = None
    presence_penalty: _Penalty | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    thinking: Thinking | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    service_tier: _Word | None = None
    num_ctx: Annotated[int, Field(ge=512, le=1_048_576)] | None = None
    prompt_cache_key: _Label | None = None
    user: _Label | None = None
    chat_template_kwargs: Annotated[dict[_Word, bool | int | float | _Label], Field(max_length=8)] | None = None


ALLOWED = tuple(Params.model_fields)


def read(params: object) -> dict[str, Any]:
    """Return the validated parameters; a null removes the parameter, even if a lower layer sets it.

    Args:
        params: a JSON object from an untrusted source.

    Raises:
        ValueError: it is not an object, or a parameter is not allowed or out of range; the message names the parameter, but
            contains no value.
    """
    if not isinstance(params, Mapping):
        raise ValueError("the parameters are not a JSON object")  # noqa: TRY004  # callers handle ValueError alone
    try:
        return Params.model_validate(dict(params)).model_dump(exclude_unset=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        name = ".".join(str(part) for part in first["loc"])[:MAX_NAME_CHARS]
        if first["type"] == "extra_forbidden":
            raise ValueError(f"the parameter {name!r} is not allowed; allowed: {', '.join(ALLOWED)}") from None
        raise ValueError(f"the parameter {name!r}: {first['msg']}") from None


def overlay(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge layers of parameters; later layers win. The two names of the output token limit count as one parameter."""
    merged: dict[str, Any] = {}
    for layer in layers:
        if not layer.keys().isdisjoint(LIMITS):
            merged = {name: value for name, value in merged.items() if name not in LIMITS}
        merged |= layer
    return merged


def limit_of(params: Mapping[str, Any]) -> int | None:
    """Return the limit of output tokens; None without one."""
    return next((limit for name in LIMITS if isinstance(limit := params.get(name), int)), None)


def with_limit_of_at_least(least: int, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters with a limit of output tokens that is not below this one, if there is a limit."""
    return {name: max(one, least) if name in LIMITS and isinstance(one, int) else one for name, one in params.items()}


def with_limit_of_at_most(most: int | None, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters with a limit of output tokens that is not above what the model can write, if that is known."""
    if most is None:
        return dict(params)
    return {name: min(one, most) if name in LIMITS and isinstance(one, int) else one for name, one in params.items()}
