"""models list, set, unset."""

import json
from typing import Any

import psycopg
import pytest

from fix_daemon import Call, Client, environment

AGENT, NAME = "comment_generator", "mine"
GATEWAY: dict[str, Any] = {"DRAFTD_MODEL_API_BASES": "http://gateway:8000", "DRAFTD_MODEL_KEY_VARIABLES": "GATEWAY_KEY"}


def test_a_name_is_set_listed_and_unset(call: Call, database: str) -> None:
    env = environment(database, **GATEWAY)
    chosen = [
        "models", "set", NAME, "--model", "openai/a", "--api-base", "http://gateway:8000/v1", "--api-key-env", "GATEWAY_KEY",
        "--input-usd", "1", "--output-usd", "2.5", "--cached-input-usd", "0.1",
        "--rpm", "60", "--tpm", "90000", "--max-in-flight", "4",
        "--param", "temperature=0.2", "--param", "user=draftd",
    ]  # fmt: skip
    result = call(*chosen, env=env)
    assert (result.returncode, result.stdout) == (0, "")
    (row,) = json.loads(call("models", "list", "--json", env=env).stdout)["models"]
    del row["updated_at"]
    assert row == {
        "name": NAME,
        "model": "openai/a",
        "api_base": "http://gateway:8000/v1",
        "api_key_env": "GATEWAY_KEY",
        "params": {"temperature": 0.2, "user": "draftd"},
        "input_usd_per_mtok": 1.0,
        "output_usd_per_mtok": 2.5,
        "cached_input_usd_per_mtok": 0.1,
        "rpm": 60,
        "tpm": 90_000,
        "max_in_flight": 4,
    }
    listed = call("models", "list", env=env).stdout
    assert listed.startswith(f"{NAME}\topenai/a\thttp://gateway:8000/v1\tGATEWAY_KEY\t")
    assert listed.endswith("\t1\t0.1\t2.5\t60\t90000\t4\n")
    assert call("models", "set", NAME, "--model", "openai/b", env=env).returncode == 0
    (row,) = json.loads(call("models", "list", "--json", env=env).stdout)["models"]
    assert (row["model"], row["api_base"], row["api_key_env"], row["params"]) == ("openai/b", None, None, {}), "reset"
    assert call("models", "unset", NAME, env=env).returncode == 0
    assert call("models", "unset", NAME, env=env).returncode == 1
    assert json.loads(call("models", "list", "--json", env=env).stdout) == {"models": []}


def test_without_a_model_a_name_means_itself(call: Call, database: str) -> None:
    env = environment(database)
    assert call("models", "set", "openai/a", "--input-usd", "1", "--output-usd", "2", env=env).returncode == 0
    (row,) = json.loads(call("models", "list", "--json", env=env).stdout)["models"]
    assert (row["name"], row["model"]) == ("openai/a", "openai/a")


def test_whoever_still_uses_a_name_that_is_unset_is_said(call: Call, database: str) -> None:
    env = environment(database)
    call("models", "set", NAME, "--model", "openai/a", env=env)
    call("agents", "set", AGENT, "openai/b", "--fallback", NAME, env=env)
    result = call("models", "unset", NAME, env=env)
    assert result.returncode == 0
    assert f"warning: still used by {AGENT}" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--param", "temperature"],
        ["--param", "=1"],
        ["--param", "\udcff=1"],
        ["--param", 'user="\\u0000"'],
        ["--param", 'chat_template_kwargs={"b": "\\ud800"}'],
        ["--param", "seed=1e400"],
        ["--param", "stop=" + "[" * 20 + "]" * 20],
        *(
            ["--param", f"{name}=hunter2"]
            for name in (
                "api_base", "base_url", "api_key", "API-Key", "extra_headers", "extra_body", "organization", "model",
                "custom_llm_provider", "mock_response", "fallbacks", "aws_secret_access_key", "vertex_credentials",
            )
        ),
        ["--param", "user=sk-proj-hunter2hunter2"],
        ["--param", "user=Bearer hunter2"],
        ["--param", "prompt_cache_key=https://user:hunter2@gateway/v1"],
        ["--param", "temperature=hunter2"],
        ["--input-usd", "1"],
        ["--cached-input-usd", "1"],
        ["--input-usd", "1", "--output-usd", "1", "--cached-input-usd", "-1"],
        ["--input-usd", "-1", "--output-usd", "1"],
        ["--input-usd", "1e400", "--output-usd", "1"],
        ["--input-usd", "1", "--output-usd", "1e30"],
        ["--input-usd", "nan", "--output-usd", "1"],
        ["--input-usd", "inf", "--output-usd", "1"],
        ["--input-usd", "1", "--output-usd", "1e-30"],
        ["--input-usd", "none", "--output-usd", "1"],
        ["--api-base", "gateway:8000"],
        ["--api-base", "http://"],
        ["--api-base", "http://:8000/v1"],
        ["--api-base", "http://[::1"],
        ["--api-base", "http://gateway:http"],
        ["--api-base", "http://user:hunter2@gateway:8000/v1"],
        ["--api-base", "http://hunter2@gateway:8000/v1"],
        ["--api-base", "http://gateway:8000/v1?key=hunter2"],
        ["--model", ""],
        ["--model", "openai/http://hunter2"],
        ["--api-key-env", "sk-hunter2 hunter2"],
    ],
)  # fmt: skip
def test_what_makes_no_model_is_refused_and_a_key_never_repeated(
    call: Call, database: str, arguments: list[str]
) -> None:
    given = arguments if "--model" in arguments else ["--model", "openai/a", *arguments]
    result = call("models", "set", NAME, *given, env=environment(database, **GATEWAY))
    assert (result.returncode, result.stdout) == (2, "")
    assert "hunter2" not in result.stderr
    assert "Traceback" not in result.stderr
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT FROM draft_models").fetchall() == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--api-base", "http://evil.example:8000/x"], "evil.example: DRAFTD_MODEL_API_BASES does not name it"),
        (["--api-base", "http://gateway:8000.evil.example"], "not an address"),
        (["--api-key-env", "APP_SECRET"], "DRAFTD_MODEL_KEY_VARIABLES does not name it"),
        (["--api-key-env", "ANTHROPIC_API_KEY"], "DRAFTD_MODEL_KEY_VARIABLES does not name it"),
        (["--api-key-env", "DRAFTD_DATABASE_URL"], "may never be sent"),
        (["--model", "github_copilot/gpt-4o"], "DRAFTD_FALLBACK_MODELS"),
    ],
)
def test_what_this_environment_does_not_allow_is_refused_with_the_setting_that_would(
    call: Call, client: Client, database: str, arguments: list[str], said: str
) -> None:
    given = arguments if "--model" in arguments else ["--model", "openai/a", *arguments]
    result = call("models", "set", NAME, *given, env=environment(database, **GATEWAY))
    assert (result.returncode, result.stdout) == (2, "")
    assert said in result.stderr
    assert client.query("SELECT FROM draft_models") == []


def test_the_address_in_a_providers_own_variable_is_allowed(call: Call, database: str) -> None:
    env = environment(database, OPENAI_BASE_URL="http://gpu1:8000/v1")
    given = ["--model", "hosted_vllm/qwen", "--api-base", "http://gpu1:8000/v1", "--api-key-env", "OPENAI_API_KEY"]
    assert call("models", "set", NAME, *given, env=env).returncode == 0


@pytest.mark.parametrize(
    "param", ["max_tokens=4096", "prompt_cache_key=drafts", 'thinking={"type": "enabled", "budget_tokens": 9}']
)
def test_a_parameter_that_only_sounds_like_a_secret_is_taken(call: Call, database: str, param: str) -> None:
    assert (
        call("models", "set", NAME, "--model", "openai/a", "--param", param, env=environment(database)).returncode == 0
    )


def test_a_new_meaning_is_tried_at_once_whatever_was_wrong_before(call: Call, client: Client, database: str) -> None:
    env = environment(database)
    for then in (["set", NAME, "--model", "openai/a"], ["unset", NAME]):
        client.query("INSERT INTO draft_holds (model, code) SELECT m, 'x' FROM unnest(ARRAY['mine', 'other']) AS m")
        client.query("INSERT INTO draft_throttles (model) VALUES ('mine'), ('other')")
        assert call("models", *then, env=env).returncode == 0
        assert [row["model"] for row in client.query("DELETE FROM draft_holds RETURNING model")] == ["other"]
        assert [row["model"] for row in client.query("DELETE FROM draft_throttles RETURNING model")] == ["other"]
