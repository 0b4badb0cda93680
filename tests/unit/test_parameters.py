import pytest

from draftd.providers.parameters import ALLOWED, overlay, read
from tables import per_row


def test_what_is_on_the_list_is_taken_as_it_is() -> None:
    params = {
        "temperature": 0.2,
        "max_tokens": 4_096,
        "reasoning_effort": "low",
        "thinking": {"type": "enabled", "budget_tokens": 2_000},
        "chat_template_kwargs": {"enable_thinking": False},
        "seed": None,
    }
    assert read(params) == params


@per_row(
    "name",
    [
        "api_base", "base_url", "api_key", "api_version", "model", "messages", "headers", "extra_headers", "extra_body",
        "extra_query", "organization", "custom_llm_provider", "mock_response", "mock_tool_calls", "fallbacks",
        "context_window_fallback_dict", "metadata", "litellm_metadata", "guardrails", "cache", "caching", "prompt_id",
        "callbacks", "success_callback", "model_list", "aws_secret_access_key", "aws_bedrock_runtime_endpoint",
        "aws_web_identity_token", "vertex_credentials", "vertex_location", "azure_ad_token", "azure_password", "region_name",
        "ssl_verify", "timeout", "num_retries", "max_retries", "stream", "stream_options", "drop_params", "input_cost_per_token",
        "tools", "functions", "response_format", "logger_fn", "proxy", "client", "hooks", "use_litellm_proxy", "API-Key",
        "Temperature", "_", "",
    ],
)  # fmt: skip
def test_nothing_else_may_be_set(name: str) -> None:
    with pytest.raises(ValueError, match="is not allowed; allowed: max_tokens") as caught:
        read({name: "hunter2"})
    assert "hunter2" not in str(caught.value)


@per_row(
    "params",
    [
        {"temperature": 3},
        {"temperature": float("nan")},
        {"temperature": "hunter2"},
        {"max_tokens": 10**9},
        {"seed": 10**30},
        {"top_p": {"hunter2": 1}},
        {"reasoning_effort": "hunter2"},
        {"thinking": {"type": "enabled", "base_url": "hunter2"}},
        {"chat_template_kwargs": {"a": {"b": "hunter2"}}},
        {"chat_template_kwargs": {f"a{n}": 1 for n in range(100)}},
        {"user": "hunter2" * 100},
        {"service_tier": "hunter2 hunter2"},
        [["temperature", 1]],
        "hunter2",
        None,
    ],
)
def test_a_value_out_of_its_range_is_refused_and_not_repeated(params: object) -> None:
    with pytest.raises(ValueError, match="parameter") as caught:
        read(params)
    assert "hunter2" not in str(caught.value)


def test_the_later_set_goes_before_the_earlier_and_the_limit_has_two_names() -> None:
    assert overlay({"max_tokens": 1, "seed": 1}, {"seed": 2}, {"max_completion_tokens": 3}) == {
        "seed": 2,
        "max_completion_tokens": 3,
    }
    assert overlay({"max_completion_tokens": 3}, {"max_tokens": None}) == {"max_tokens": None}


def test_the_list_names_no_address_no_key_and_no_header() -> None:
    assert not [
        name for name in ALLOWED if any(part in name for part in ("base", "url", "api", "header", "aws", "vertex"))
    ]
