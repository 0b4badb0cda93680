"""What a call can cost at most: a true bound, whatever the provider counts."""

from decimal import Decimal
from typing import Any

from draftd.providers.estimate import (
    CALL_TOKENS,
    MESSAGE_TOKENS,
    MINI_PICTURE_TOKENS,
    MOST_OUTPUT_TOKENS,
    PICTURE_TOKENS,
    estimate,
)
from draftd.providers.registry import Registry
from draftd.providers.target import Target
from tables import per_row

MILLION = Decimal(1_000_000)
OWN_PRICES = {"input_usd_per_mtok": Decimal(3), "output_usd_per_mtok": Decimal(15)}
SCHEMA: dict[str, Any] = {}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,AAAA"}}


def registry(**entry: Any) -> Registry:
    return Registry(table={"openai/m": entry}, cost_per_token=lambda **_: (0.0, 0.0))


def target(**over: Any) -> Target:
    return Target(**{"name": "m", "model": "openai/m", "params": {"max_tokens": 1000}} | over)


def most_input(text: str = "", pictures: int = 0) -> int:
    return CALL_TOKENS + MESSAGE_TOKENS + len(text.encode()) + pictures * PICTURE_TOKENS + len("{}")


def test_each_byte_of_a_text_may_be_a_token_and_each_picture_the_dearest() -> None:
    text = "Grüße 👋"
    messages = [{"role": "user", "content": [{"type": "text", "text": text}, PICTURE, PICTURE]}]
    made = estimate(target(**OWN_PRICES), messages, SCHEMA, registry())
    assert made.usd == (most_input(text, 2) * 3 + 1000 * 15) / MILLION
    assert made.output_usd == 1000 * 15 / MILLION
    assert made.output_tokens == 1000
    assert made.prompt_usd is not None
    assert made.prompt_usd < made.usd - made.output_usd


def test_the_schema_is_a_part_of_the_prompt() -> None:
    without, with_it = (
        estimate(target(**OWN_PRICES), [], schema, registry()) for schema in ({}, {"description": "x" * 1000})
    )
    assert without.usd is not None
    assert with_it.usd is not None
    assert with_it.usd - without.usd >= 1000 * 3 / MILLION


def test_a_small_model_may_count_a_picture_as_many_tokens() -> None:
    """gpt-4o-mini costs little for a token, and counts 33 times as many."""
    messages = [{"role": "user", "content": [PICTURE]}]
    mini = estimate(target(model="openai/gpt-4o-mini", **OWN_PRICES), messages, SCHEMA, registry())
    other = estimate(target(**OWN_PRICES), messages, SCHEMA, registry())
    assert mini.usd is not None
    assert other.usd is not None
    assert mini.usd - other.usd == (MINI_PICTURE_TOKENS - PICTURE_TOKENS) * 3 / MILLION


@per_row(
    ("params", "entry", "limit"),
    [
        ({"max_tokens": 300}, {}, 300),
        ({"max_completion_tokens": 400}, {"max_output_tokens": 9_000}, 400),
        ({}, {"max_output_tokens": 9_000}, 9_000),
        ({}, {}, MOST_OUTPUT_TOKENS),
    ],
)
def test_the_answer_is_as_long_as_its_limit(params: dict[str, Any], entry: dict[str, Any], limit: int) -> None:
    assert estimate(target(params=params), [], SCHEMA, registry(**entry)).output_tokens == limit


def test_the_dearest_price_that_may_be_charged_counts() -> None:
    known = registry(
        input_cost_per_token=1e-6,
        cache_creation_input_token_cost=2e-6,
        cache_creation_input_token_cost_above_1hr=9e-6,
        cache_read_input_token_cost=1e-7,
        input_cost_per_token_above_200k_tokens=5e-6,
        input_cost_per_token_priority=7e-6,
        output_cost_per_token=4e-6,
        output_cost_per_reasoning_token=6e-6,
        output_cost_per_token_batches=2e-6,
    )
    assert known.highest_prices(target(), input_tokens=1_000) == (Decimal("2e-6"), Decimal("6e-6"))
    assert known.highest_prices(target(), input_tokens=200_001) == (Decimal("5e-6"), Decimal("6e-6"))
    paid = target(params={"service_tier": "priority"})
    assert known.highest_prices(paid, input_tokens=1_000) == (Decimal("7e-6"), Decimal("6e-6"))


def test_cached_input_that_costs_more_counts() -> None:
    own = target(**OWN_PRICES, cached_input_usd_per_mtok=Decimal(4))
    assert registry().highest_prices(own, input_tokens=1) == (4 / MILLION, 15 / MILLION)


def test_without_a_price_nothing_is_known_of_the_cost() -> None:
    made = estimate(target(), [], SCHEMA, registry())
    assert (made.usd, made.prompt_usd, made.output_usd) == (None, None, None)
    assert made.tokens == 1000
