"""How a model's name leads to what is known of it, and what a call costs."""

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

from draftd.providers.registry import Registry
from draftd.providers.response import RawAnswer
from draftd.providers.target import Target
from tables import per_row

PRICED = {"input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}
CACHED = {"supports_prompt_caching": True}
TABLE: dict[str, dict[str, Any]] = {
    "gpt-5-pro": {"litellm_provider": "openai", **PRICED},
    "azure/gpt-4o": {"litellm_provider": "azure", **PRICED},
    "us.amazon.nova-pro-v1:0": {"litellm_provider": "bedrock_converse", **CACHED, **PRICED},
    "eu.mistral.pixtral-large": {"litellm_provider": "bedrock_converse", **CACHED, **PRICED},
    "old.anthropic.claude": {"litellm_provider": "bedrock_converse"},
    "us.anthropic.claude": {"litellm_provider": "bedrock_converse", "supports_native_structured_output": True},
    "gemini-2.5-flash": {"litellm_provider": "vertex_ai-language-models", **PRICED},
    "vertex_ai/claude-sonnet-4-5": {"litellm_provider": "vertex_ai-anthropic_models", **CACHED, **PRICED},
    "deepseek/blind": {"litellm_provider": "deepseek"},
    "deepseek/flash": {"litellm_provider": "deepseek", "supports_vision": True},
}


def cost_per_token(*, model: str, custom_llm_provider: str | None, **used: Any) -> tuple[float, float]:
    assert model in TABLE
    assert custom_llm_provider in {None, "openai", "azure", "bedrock", "vertex_ai"}
    assert used
    return 0.25, 0.5


REGISTRY = Registry(table=TABLE, cost_per_token=cost_per_token)


@per_row(
    "model",
    [
        "openai/gpt-5-pro",
        "openai/responses/gpt-5-pro",
        "azure/gpt-4o",
        "azure/responses/gpt-4o",
        "bedrock/us.amazon.nova-pro-v1:0",
        "bedrock/converse/us.amazon.nova-pro-v1:0",
        "bedrock/us-east-1/us.amazon.nova-pro-v1:0",
        "bedrock/converse/us-gov-west-1/us.amazon.nova-pro-v1:0",
        "vertex_ai/gemini-2.5-flash",
        "vertex_ai/claude-sonnet-4-5",
        "gpt-5-pro",
    ],
)
def test_a_price_is_found_under_the_name_that_the_table_has(model: str) -> None:
    assert REGISTRY.has_price(model)
    assert cost(model) == Decimal("0.75")


@per_row(
    "model",
    ["anthropic/gpt-5-pro", "gemini/gpt-5-pro", "ollama_chat/gpt-4o", "openai/unknown", "hosted_vllm/gemini-2.5-flash"],
)
def test_a_name_of_another_provider_has_none(model: str) -> None:
    assert not REGISTRY.has_price(model)
    assert cost(model) is None


def cost(model: str, *, said: object = None, **over: Any) -> Decimal | None:
    answer = RawAnswer(usage=SimpleNamespace(cost=said))
    return REGISTRY.cost_usd(Target(name="m", model=model, **over), answer, (1_000, 500))


@per_row(
    ("said", "known"),
    [(0.0123, Decimal("0.012300000")), (0, Decimal(0)), (None, None), (-1, None), (True, None), (float("nan"), None)],
)
def test_openrouter_says_itself_what_a_call_cost(said: object, known: Decimal | None) -> None:
    assert cost("openrouter/x/y", said=said) == known


def test_what_another_provider_has_in_the_same_place_is_litellms_guess() -> None:
    assert cost("openai/unknown", said=0.5) is None


@per_row(("cached_usd", "known"), [(None, "2.5"), ("100", "1.78"), ("0", "1.7")])
def test_input_from_the_cache_costs_what_the_operator_says_and_else_what_other_input_costs(
    cached_usd: str | None, known: str
) -> None:
    usage = SimpleNamespace(prompt_tokens_details=SimpleNamespace(cached_tokens=800))
    to = Target(
        name="m",
        model="openai/unknown",
        input_usd_per_mtok=Decimal(1_000),
        output_usd_per_mtok=Decimal(3_000),
        cached_input_usd_per_mtok=None if cached_usd is None else Decimal(cached_usd),
    )
    assert REGISTRY.cost_usd(to, RawAnswer(usage=usage), (1_000, 500)) == Decimal(known)


def test_the_operators_prices_go_before_what_a_provider_says() -> None:
    prices = {"input_usd_per_mtok": Decimal(1_000), "output_usd_per_mtok": Decimal(0)}
    assert cost("openrouter/x/y", said=0.5, **prices) == 1


@per_row(
    ("model", "rung"),
    [
        ("groq/qwen", 2),
        ("bedrock/us.amazon.nova-pro-v1:0", 1),
        ("bedrock/converse/us.anthropic.claude", 0),
        ("openai/gpt-5-pro", 0),
        ("gpt-5-pro", 0),
    ],
)
def test_the_strictest_rung_is_one_that_litellm_streams(model: str, rung: int) -> None:
    assert REGISTRY.early_rung(model) == rung


@per_row(
    ("model", "marked"),
    [
        ("anthropic/whatever", True),
        ("openrouter/x/y", True),
        ("bedrock/us.amazon.nova-pro-v1:0", True),
        ("bedrock/eu.mistral.pixtral-large", False),
        ("bedrock/old.anthropic.claude", False),
        ("vertex_ai/claude-sonnet-4-5", True),
        ("vertex_ai/gemini-2.5-flash", False),
        ("openai/gpt-5-pro", False),
    ],
)
def test_the_cache_is_marked_where_the_provider_takes_a_mark(model: str, *, marked: bool) -> None:
    assert REGISTRY.marks_cache(model) is marked


def test_a_model_whose_pictures_litellm_drops_is_known() -> None:
    assert [REGISTRY.drops_pictures(f"deepseek/{name}") for name in ("blind", "flash", "unknown")] == [
        True,
        False,
        True,
    ]
