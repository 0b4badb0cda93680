"""Where a key or a picture may go: by the operator's environment, whatever a table says."""

import functools

import pytest

from draftd.errors import ConfigurationError
from draftd.providers.known_providers import PROVIDERS, is_litellm_name
from draftd.providers.permits import Address, Permits
from draftd.settings import Settings
from tables import per_row


def make_permits(*, environment: dict[str, str] | None = None, **settings: object) -> Permits:
    return Permits.of(make_settings(**settings), (environment or {}).get)


@functools.cache
def make_settings(**settings: object) -> Settings:
    return Settings.model_validate(settings)


def refusal(
    permits: Permits, *, model: str = "openai/m", api_base: str | None = None, api_key_env: str | None = None
) -> str:
    return permits.refusal(model=model, api_base=api_base, api_key_env=api_key_env) or ""


@per_row(
    ("entry", "api_base"),
    [
        ("http://gpu1:8000", "http://gpu1:8000"),
        ("http://gpu1:8000", "http://gpu1:8000/v1"),
        ("http://gpu1:8000/", "HTTP://GPU1:8000/v1/"),
        ("http://gpu1", "http://gpu1:80/v1"),
        ("https://gw.example:443/team", "https://gw.example/team/v1"),
        ("http://[::1]:8000", "http://[0:0:0:0:0:0:0:1]:8000/v1"),
    ],
)
def test_an_address_of_the_operators_may_be_used_with_what_lies_below_it(entry: str, api_base: str) -> None:
    assert refusal(make_permits(model_api_bases=entry), api_base=api_base) == ""


@per_row(
    "api_base",
    [
        "http://gpu1:8000.evil.example",
        "http://gpu1:80001",
        "http://gpu1:8001/team",
        "http://gpu1/team",
        "https://gpu1:8000/team",
        "http://gpu1:8000",
        "http://gpu1:8000/teams",
        "http://gpu1:8000/other/team",
        "http://gpu1:8000/team/../other",
        "http://gpu1:8000/team/%2e%2e/other",
        "http://gpu1:8000/team?x=1",
        "http://gpu1:8000/team#x",
        "http://gpu1.:8000/team",
        "http://gpu11:8000/team",
        "http://gpu1:8000@evil.example/team",
        "http://evil.example@gpu1:8000/team",
        "http://evil.example\\@gpu1:8000/team",
        "http://evil.example#@gpu1:8000/team",
        "http://gpu1:8000/team\nHost: evil.example",
        " http://gpu1:8000/team",
        "//gpu1:8000/team",
        "gpu1:8000/team",
        "file://gpu1:8000/team",
        "http://gpu\uff11:8000/team",
        "http://[::1%25gpu1]:8000/team",
        "http://[gpu1]:8000/team",
        "http://:8000/team",
        "http://gpu1:0/team",
        "",
    ],
)
def test_no_other_address_may_be_used(api_base: str) -> None:
    why = refusal(make_permits(model_api_bases="http://gpu1:8000/team"), api_base=api_base)
    assert "DRAFTD_MODEL_API_BASES" in why
    assert "team" not in why


def test_a_refused_address_is_named_by_its_host_alone() -> None:
    why = refusal(make_permits(), api_base="https://evil.example:8443/bot123/secret")
    assert "evil.example" in why
    assert "secret" not in why


@per_row("entry", ["gpu1:8000", "http://user:hunter2@gpu1", "http://gpu1?key=hunter2", "http://", "*"])
def test_an_entry_that_is_no_address_is_a_configuration_error_that_does_not_repeat_it(entry: str) -> None:
    with pytest.raises(ConfigurationError, match="DRAFTD_MODEL_API_BASES: entry 2 is not an address") as caught:
        make_permits(model_api_bases=f"http://ok, {entry}")
    assert "hunter2" not in caught.value.message


def test_the_addresses_in_the_providers_own_variables_are_the_operators_too() -> None:
    moved = make_permits(environment={"OPENAI_BASE_URL": "http://gpu1:8000/v1", "LANGFUSE_BASE_URL": "http://traces"})
    assert refusal(moved, model="anthropic/m", api_base="http://gpu1:8000/v1", api_key_env="GROQ_API_KEY") == ""
    assert refusal(moved, model="openai/m", api_key_env="GROQ_API_KEY")
    assert "traces" in refusal(moved, api_base="http://traces")


@per_row(
    ("model", "api_base", "api_key_env"),
    [
        ("openai/m", None, None),
        ("gpt-5-mini", None, None),
        ("openai/m", None, "OPENAI_API_KEY"),
        ("gemini/m", None, "GOOGLE_API_KEY"),
        ("openai/m", "https://api.openai.com/v1", "OPENAI_API_KEY"),
        ("openai/m", "https://api.deepseek.com", "DEEPSEEK_API_KEY"),
        ("cohere_chat/m", "https://api.cohere.ai/v2", None),
    ],
)
def test_a_key_goes_to_its_own_provider(model: str, api_base: str | None, api_key_env: str | None) -> None:
    assert refusal(make_permits(), model=model, api_base=api_base, api_key_env=api_key_env) == ""


@per_row(
    ("model", "api_base", "api_key_env"),
    [
        ("openai/m", None, "ANTHROPIC_API_KEY"),
        ("gpt-5-mini", None, "OPENAI_API_KEY"),
        ("openai/m", "https://api.deepseek.com", "OPENAI_API_KEY"),
        ("openai/m", "https://api.deepseek.com", None),
        ("gpt-5-mini", "https://api.together.ai", None),
        ("gpt-5-mini", "https://api.openai.com", "OPENAI_API_KEY"),
        ("vertex_ai/m", "https://api.deepseek.com", None),
        ("vertex_ai/m", "https://api.deepseek.com", "DEEPSEEK_API_KEY"),
        ("azure/m", "https://api.openai.com/v1", "OPENAI_API_KEY"),
        ("openai/m", "https://api.deepseek.com", "GROQ_API_KEY"),
        ("openai/m", "http://api.openai.com/v1", None),
        ("openai/m", "https://api.openai.com:8443/v1", None),
    ],
)
def test_a_key_goes_to_no_other_provider(model: str, api_base: str | None, api_key_env: str | None) -> None:
    assert refusal(make_permits(), model=model, api_base=api_base, api_key_env=api_key_env)


@per_row("variable", ["GATEWAY_KEY", "STRIPE_API_KEY", "AWS_SECRET_ACCESS_KEY", "openai_api_key"])
def test_a_variable_that_is_no_providers_key_has_to_be_named(variable: str) -> None:
    bases = "http://gpu1:8000"
    assert "DRAFTD_MODEL_KEY_VARIABLES" in refusal(
        make_permits(model_api_bases=bases), api_base=bases, api_key_env=variable
    )
    allowed = make_permits(model_api_bases=bases, model_key_variables=f"OTHER, {variable}")
    assert refusal(allowed, api_base=bases, api_key_env=variable) == ""
    assert refusal(allowed, api_key_env=variable) == ""


@per_row(
    "variable",
    [
        "DRAFTD_DATABASE_URL",
        "draftd_database_url",
        "PGPASSWORD",
        "PGPASSFILE",
        "LANGFUSE_SECRET_KEY",
        "DRAFTD_X_API_KEY",
    ],
)
def test_some_variables_are_never_sent_whatever_the_list_says(variable: str) -> None:
    permits = make_permits(model_api_bases="http://gpu1", model_key_variables=variable)
    assert refusal(permits, api_base="http://gpu1", api_key_env=variable).startswith(f"{variable} may never be sent")


def test_what_may_be_a_key_itself_is_not_repeated() -> None:
    assert "sk-" not in refusal(make_permits(), api_key_env="sk-proj-abcdefgh12345678")


@per_row(
    "model",
    [
        "huggingface/https://evil.example/x",
        "openai/https://evil.example",
        "oobabooga/http://evil.example",
        "openai/m?x=http://evil.example",
        "openai/m#x",
        "openai/../x",
        "openai/%2e%2e",
        "openai//evil.example",
        "openai/a b",
        "openai/m\n",
        "/etc/passwd",
        "bedrock/agentcore/arn:aws:bedrock-agentcore:us-west-2:666:runtime/x",
        "",
        "openai/" + "m" * 200,
    ],
)
def test_a_name_that_is_more_than_a_name_is_refused(model: str) -> None:
    assert "not a litellm name" in refusal(make_permits(), model=model)


@per_row("provider", ["github_copilot", "chatgpt", "custom", "huggingface", "sagemaker", "oci", "a2a"])
def test_a_provider_that_is_not_listed_may_be_named_by_the_environment_alone(provider: str) -> None:
    model = f"{provider}/m"
    assert "DRAFTD_MODEL" in refusal(make_permits(), model=model)
    assert refusal(make_permits(model="openai/a", fallback_models=model), model=model) == ""


@per_row(
    "model",
    [
        "anthropic/claude-sonnet-4-5",
        "ollama_chat/llava:13b",
        "ollama_chat/hf.co/team/model-GGUF:Q4_K_M",
        "openrouter/anthropic/claude-3.5-sonnet:beta",
        "bedrock/eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "fireworks_ai/accounts/fireworks/models/qwen3-vl",
        "vertex_ai/claude-sonnet-4@20250514",
        "gpt-5-mini",
    ],
)
def test_names_as_providers_write_them_are_names(model: str) -> None:
    assert is_litellm_name(model)
    assert refusal(make_permits(), model=model) == ""


def test_a_providers_own_address_is_https_and_no_two_share_a_host_and_differ() -> None:
    owners: dict[str, set[tuple[str, ...]]] = {}
    for provider in PROVIDERS.values():
        for host in provider.hosts:
            assert Address.parse(f"https://{host}/v1")
            owners.setdefault(host, set()).add(provider.keys)
    assert [host for host, keys in owners.items() if len(keys) > 1] == []
