"""What a model call can use at most, and what it is likely to use, before it is made.

The most is what a budget reserves, so it must be a true bound. A tokenizer makes at most one token of each byte of a text. What a
picture costs is its provider's matter; the bounds are for the largest picture that is sent.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal
from typing import Any

from draftd.providers import parameters
from draftd.providers.registry import Registry
from draftd.providers.response import estimated_tokens
from draftd.providers.target import Target

CALL_TOKENS = 1_000
"""What a provider adds to a call to hold the answer to its schema, at most: Anthropic's tools take 350."""
MESSAGE_TOKENS = 32
"""What a chat template puts around a message, at most."""
PICTURE_TOKENS = 6_000
"""The most for a picture with a long edge of 1,568 px or a slice of 768 by 1,536 px: Claude counts up to 4,784, Gemini 1,120,
GPT-5 3,800, Qwen 3,200."""
MINI_PICTURE_TOKENS = 48_169
"""gpt-4o-mini counts 2,833 and 5,667 for each of up to 8 tiles."""
MOST_OUTPUT_TOKENS = 128_000
"""For a call without a limit to a model of which nothing is known."""
_CENT_PARTS = Decimal("0.000001")


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a call can use."""

    usd: Decimal | None
    """The most that it can cost; None if a price is not known."""
    prompt_usd: Decimal | None
    """What its prompt is likely to cost."""
    output_usd: Decimal | None
    """What an answer of ``output_tokens`` costs."""
    output_tokens: int
    """The limit of the answer."""
    tokens: int
    """The likely prompt and the longest answer."""


def estimate(
    target: Target, messages: Sequence[Mapping[str, Any]], schema: Mapping[str, Any], registry: Registry
) -> Estimate:
    """Return what a call can use.

    Args:
        target: the model, with the parameters of the call.
        messages: in OpenAI's format.
        schema: the JSON schema of the answer, which is sent with the messages in one form or another.
        registry: knows prices.
    """
    schema_bytes = len(json.dumps(schema, ensure_ascii=False).encode())
    most_input = _most_tokens(target, messages) + schema_bytes
    likely_input = estimated_tokens(messages) + schema_bytes // 4
    output_tokens = _output_limit(target, registry)
    usd = prompt_usd = output_usd = None
    if (prices := registry.highest_prices(target, input_tokens=most_input)) is not None:
        prompt_usd, output_usd = _rounded_up(likely_input * prices[0]), _rounded_up(output_tokens * prices[1])
        usd = _rounded_up(most_input * prices[0] + output_tokens * prices[1])
    return Estimate(
        usd=usd,
        prompt_usd=prompt_usd,
        output_usd=output_usd,
        output_tokens=output_tokens,
        tokens=likely_input + output_tokens,
    )


def _most_tokens(target: Target, messages: Sequence[Mapping[str, Any]]) -> int:
    picture = MINI_PICTURE_TOKENS if "gpt-4o-mini" in target.model else PICTURE_TOKENS
    total = CALL_TOKENS
    for message in messages:
        content = message.get("content")
        parts = content if isinstance(content, list) else [{"type": "text", "text": content or ""}]
        total += MESSAGE_TOKENS
        for part in parts:
            total += len(str(part["text"]).encode()) if part.get("type") == "text" else picture
    return total


def _output_limit(target: Target, registry: Registry) -> int:
    limit = parameters.limit_of(target.params)
    if limit is None:
        known = registry.entry(target.model).get("max_output_tokens")
        limit = known if isinstance(known, int) and known > 0 else MOST_OUTPUT_TOKENS
    return limit


def _rounded_up(usd: Decimal) -> Decimal:
    return usd.quantize(_CENT_PARTS, rounding=ROUND_UP)
