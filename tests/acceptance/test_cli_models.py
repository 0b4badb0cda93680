"""models list, set, unset."""

import json

import psycopg
import pytest

from draftd.cli.models import RESERVED
from fix_daemon import Call, Client, environment

AGENT = "comment_generator"


def test_a_model_is_set_listed_and_unset(call: Call, database: str) -> None:
    env = environment(database)
    chosen = [
        "models", "set", AGENT, "openai/a", "--fallback", "openai/b", "--fallback", "openai/c",
        "--param", "temperature=0.2", "--param", "user=draftd", "--price-in", "1", "--price-out", "2.5",
        "--api-base", "http://gateway:8000/v1", "--api-key-env", "GATEWAY_KEY",
    ]  # fmt: skip
    result = call(*chosen, env=env)
    assert (result.returncode, result.stdout) == (0, "")
    (row,) = json.loads(call("models", "list", "--json", env=env).stdout)
    assert (row["agent"], row["model"], row["fallback_models"]) == (AGENT, "openai/a", ["openai/b", "openai/c"])
    assert row["params"] == {"temperature": 0.2, "user": "draftd"}
    assert (row["price_in"], row["price_out"], row["api_key_env"]) == (1.0, 2.5, "GATEWAY_KEY")
    assert call("models", "list", env=env).stdout.startswith(f'{AGENT}\topenai/a\topenai/b, openai/c\tuser="draftd" ')
    assert call("models", "unset", AGENT, env=env).returncode == 0
    assert call("models", "unset", AGENT, env=env).returncode == 1
    assert call("models", "list", "--json", env=env).stdout == "[]\n"


def test_an_agent_without_a_prompt_anywhere_is_mentioned(call: Call, database: str) -> None:
    result = call("models", "set", "comment_genrator", "openai/a", "--json", env=environment(database))
    assert (result.returncode, json.loads(result.stdout)["model"]) == (0, "openai/a")
    assert "'comment_genrator'" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--param", "temperature"],
        ["--param", "=1"],
        ["--param", "\udcff=1"],
        ["--price-in", "-1", "--price-out", "1"],
        ["--param", 'a="\\u0000"'],
        ["--param", 'a={"b": ["\\ud800"]}'],
        ["--param", "a=1e400"],
        ["--param", "a=" + "[" * 20 + "]" * 20],
        *(["--param", f"{name}=hunter2"] for name in [*sorted(RESERVED), "API-Key"]),
        *(
            ["--param", f"{name}=hunter2"]
            for name in (
                "aws_secret_access_key",
                "aws_session_token",
                "azure_ad_token",
                "vertex_credentials",
                "client_secret",
                "clientSecret",
                "azure_password",
                "watsonx_zenapikey",
                "subscription-key",
            )
        ),
        ["--param", 'extra_body={"api_key": "hunter2"}'],
        ["--param", 'extra_body={"plugins": [{"Authorization": "Basic hunter2"}]}'],
        ["--param", 'metadata={"note": "Bearer hunter2"}'],
        ["--param", "azure_endpoint=https://user:hunter2@gateway/v1"],
        ["--price-in", "1"],
        ["--price-in", "1e400", "--price-out", "1"],
        ["--price-in", "1", "--price-out", "1e30"],
        ["--price-in", "nan", "--price-out", "1"],
        ["--api-base", "gateway:8000"],
        ["--api-base", "http://"],
        ["--api-base", "http://:8000/v1"],
        ["--api-base", "http://[::1"],
        ["--api-base", "http://gateway:http"],
        ["--api-base", "https://user:hunter2@gateway/v1"],
        ["--api-base", "https://hunter2@gateway/v1"],
        ["--api-base", "https://gateway/v1?key=hunter2"],
        ["--fallback", ""],
        ["--api-key-env", "sk-hunter2 hunter2"],
    ],
)
def test_what_makes_no_model_is_refused_and_a_key_never_repeated(
    call: Call, database: str, arguments: list[str]
) -> None:
    result = call("models", "set", AGENT, "openai/a", *arguments, env=environment(database))
    assert (result.returncode, result.stdout) == (2, "")
    assert "hunter2" not in result.stderr
    assert "Traceback" not in result.stderr
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT FROM model_configs").fetchall() == []


@pytest.mark.parametrize(
    "param",
    [
        "max_tokens=4096",
        "prompt_cache_key=drafts",
        "stop_token_ids=[1]",
        'extra_body={"thinking": {"budget_tokens": 9}}',
    ],
)
def test_a_parameter_that_only_sounds_like_a_secret_is_taken(call: Call, database: str, param: str) -> None:
    assert call("models", "set", AGENT, "openai/a", "--param", param, env=environment(database)).returncode == 0


def test_a_new_choice_is_tried_at_once_whatever_was_wrong_before(call: Call, client: Client, database: str) -> None:
    client.query(
        "INSERT INTO draft_holds (model, code) SELECT m, 'model_misconfigured' FROM unnest(ARRAY['a', 'b', 'c']) AS m"
    )
    client.query("INSERT INTO draft_throttles (model) VALUES ('a'), ('c')")
    assert call("models", "set", "comment_generator", "a", "--fallback", "b", env=environment(database)).returncode == 0
    assert [row["model"] for row in client.query("SELECT model FROM draft_holds")] == ["c"]
    assert [row["model"] for row in client.query("SELECT model FROM draft_throttles")] == ["c"]


def test_what_nobody_uses_any_more_is_not_on_hold(call: Call, client: Client, database: str) -> None:
    env = environment(database)
    for then in (["set", "comment_generator", "right"], ["unset", "comment_generator"]):
        call("models", "set", "comment_generator", "typo", env=env)
        client.query("INSERT INTO draft_holds (model, code) VALUES ('typo', 'model_misconfigured')")
        assert call("models", *then, env=env).returncode == 0
        assert client.query("SELECT model FROM draft_holds") == []
