"""The doctor: each check fails by itself, and names what is wrong."""

import asyncio
import json
import re
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from draftd.daemon import liveness
from draftd.db import dsn
from draftd.stand_in.threaded import ThreadedStandIn, run_in_thread
from draftd.stand_in.wires.dialects import DIALECTS
from fix_daemon import Call, Client, draftd, environment
from fix_roles import Roles

AWAY = "postgresql://127.0.0.1:1/app"
NO_FOREIGN_CODE = (True, "no other role can attach code to the tables")
ALL = [
    "configuration", "prompts", "database", "schema", "rights", "triggers", "write", "holds", "listen", "daemon", "model",
    "langfuse",
]  # fmt: skip


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as made:
        yield made


@pytest.fixture(autouse=True)
def _one_loop(runner: asyncio.Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every command of this module run on the same event loop: litellm binds itself to the first that it sees."""
    monkeypatch.setattr("draftd.cli.fleet.asyncio.run", runner.run)


@pytest.fixture(autouse=True)
def no_daemons(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the daemons that other tests run on this host at the same time, with settings of their own."""
    monkeypatch.setattr(liveness, "daemons", list)


def examined(call: Call, env: dict[str, str]) -> tuple[int, dict[str, Any]]:
    """Run the doctor; return its exit code, and check → detail of what is not well (all checks under ``checks``)."""
    result = call("doctor", "--json", env=env)
    findings = json.loads(result.stdout)["checks"]
    return result.returncode, {
        "checks": [one["check"] for one in findings],
        **{one["check"]: one["detail"] for one in findings if not one["ok"]},
    }


def test_all_is_well_and_each_check_is_a_line(database: str, stand_in: ThreadedStandIn) -> None:
    result = draftd("doctor", env=environment(database, stand_in))
    assert (result.returncode, result.stderr) == (0, "")
    assert [line.split()[:2] for line in result.stdout.splitlines()] == [["ok", check] for check in ALL]


def test_a_missing_database_url_leaves_the_other_checks(call: Call, stand_in: ThreadedStandIn) -> None:
    code, bad = examined(call, environment("", stand_in))
    assert (code, bad.pop("checks")) == (1, ["configuration", "prompts", "daemon", "model", "langfuse"])
    assert list(bad) == ["configuration"]
    assert "DRAFTD_DATABASE_URL" in bad["configuration"]


def test_a_slip_in_a_setting_is_named(call: Call, database: str) -> None:
    code, bad = examined(call, environment(database, DRAFTD_MODELL="x"))
    assert (code, bad["checks"]) == (1, ["configuration"])
    assert "DRAFTD_MODEL?" in bad["configuration"]


def test_a_list_of_private_hosts_that_run_would_refuse(call: Call, database: str, stand_in: ThreadedStandIn) -> None:
    code, bad = examined(call, environment(database, stand_in, DRAFTD_ALLOW_PRIVATE_IMAGE_HOSTS="10.2.0.0/33"))
    assert (code, bad.pop("checks")) == (1, ALL)
    assert list(bad) == ["configuration"]
    assert "10.2.0.0/33" in bad["configuration"]


def test_settings_that_cannot_be_read(call: Call, database: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xff")
    code, bad = examined(call, environment(database))
    assert (code, bad.pop("checks")) == (1, ["configuration"])
    assert bad["configuration"].startswith(".env cannot be read")


def test_a_database_that_is_away(call: Call, stand_in: ThreadedStandIn) -> None:
    code, bad = examined(call, environment(AWAY, stand_in))
    assert (code, bad.pop("checks")) == (1, ["configuration", "prompts", "database", "daemon", "model", "langfuse"])
    assert list(bad) == ["database"]


def test_a_listener_that_is_away(call: Call, database: str, stand_in: ThreadedStandIn) -> None:
    code, bad = examined(call, environment(database, stand_in, DRAFTD_LISTEN_DATABASE_URL=AWAY))
    assert (code, bad.pop("checks")) == (1, ALL)
    assert list(bad) == ["listen"]


def test_a_schema_that_is_missing(call: Call, empty_database: str, stand_in: ThreadedStandIn) -> None:
    code, bad = examined(call, environment(empty_database, stand_in))
    assert (code, bad.pop("checks")) == (
        1,
        [check for check in ALL if check not in {"rights", "triggers", "write", "holds"}],
    )
    assert bad == {"schema": "behind; run `draftd migrate`"}


@pytest.mark.parametrize(
    ("refuse", "says"),
    [
        ("ALTER DATABASE {database} SET default_transaction_read_only = on", "is read-only"),
        ("CREATE RULE no AS ON INSERT TO draft_workers DO INSTEAD SELECT 1/0", "refused that: division by zero"),
    ],
)
def test_a_database_that_takes_no_write(
    call: Call, client: Client, database: str, stand_in: ThreadedStandIn, refuse: str, says: str
) -> None:
    client.query(refuse.format(database=client.connection.info.dbname))
    code, bad = examined(call, environment(database, stand_in))
    assert (code, bad.pop("checks")) == (1, [check for check in ALL if check not in {"holds", "listen"}])
    assert list(bad) == ["write"]
    assert says in bad["write"]


def test_the_trial_of_a_write_leaves_nothing(call: Call, client: Client, database: str) -> None:
    assert "write" not in examined(call, environment(database))[1]
    assert client.query("SELECT * FROM draft_workers") == []


def test_a_database_that_was_restored_without_privileges(call: Call, client: Client, database: str) -> None:
    client.query("GRANT USAGE ON TYPE draft_worker, draft_trusted TO PUBLIC")
    bad = examined(call, environment(database))[1]
    assert "REVOKE ALL ON TYPE draft_trusted, draft_worker FROM PUBLIC" in bad["rights"]
    client.query("REVOKE ALL ON TYPE draft_trusted, draft_worker FROM PUBLIC")
    assert "rights" not in examined(call, environment(database))[1]


def about_triggers(call: Call, database: str) -> tuple[bool, str]:
    """Run the doctor; return whether the triggers are well, and what it says of them."""
    findings = json.loads(call("doctor", "--json", env=environment(database)).stdout)["checks"]
    (found,) = (one for one in findings if one["check"] == "triggers")
    return found["ok"], found["detail"]


def test_the_roles_that_could_run_code_as_the_daemon_are_named_with_the_cure(
    call: Call, client: Client, database: str, roles: Roles
) -> None:
    roles.client(), roles.worker()
    client.query("GRANT SELECT, UPDATE ON draft_requests TO public")
    client.query(f'GRANT ALL ON draft_requests TO "{roles.make("dba", "SUPERUSER")}"')  # may do it without the grant
    assert about_triggers(call, database) == NO_FOREIGN_CODE
    one = roles.make("a")
    client.query(f'GRANT ALL ON draft_profiles, draft_requests TO "{one}"')
    client.query("GRANT TRIGGER ON draft_usage TO public")
    ok, said = about_triggers(call, database)
    assert not ok
    assert said == (
        f'"{one}" may attach code that runs with the daemon\'s rights: '
        f'REVOKE TRIGGER ON public.draft_profiles, public.draft_requests FROM "{one}"; '
        "public may attach code that runs with the daemon's rights: REVOKE TRIGGER ON public.draft_usage FROM public"
    )
    for finding in said.split("; "):
        client.query(finding.partition("rights: ")[2])
    assert about_triggers(call, database) == NO_FOREIGN_CODE


def test_a_trigger_whose_code_is_another_roles_is_named_with_the_cure(
    call: Call, client: Client, database: str, roles: Roles
) -> None:
    client.query("CREATE FUNCTION own() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")
    client.query("CREATE FUNCTION theirs() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")
    for name in ("own", "theirs"):
        client.query(f"CREATE TRIGGER app_{name} BEFORE UPDATE ON draft_requests EXECUTE FUNCTION {name}()")
    other = roles.make("eve")
    client.query(f'ALTER FUNCTION theirs() OWNER TO "{other}"')
    ok, said = about_triggers(call, database)
    assert not ok
    assert said == f"\"{other}\"'s code runs with the daemon's rights: DROP TRIGGER app_theirs ON public.draft_requests"
    client.query(said.partition("rights: ")[2])
    assert about_triggers(call, database) == NO_FOREIGN_CODE
    client.query("DROP FUNCTION theirs()")


def test_a_model_on_hold(call: Call, client: Client, database: str, stand_in: ThreadedStandIn) -> None:
    client.query(
        "INSERT INTO draft_holds (model, code, reason) VALUES ('openai/m', 'model_misconfigured', '401: bad key')"
    )
    code, bad = examined(call, environment(database, stand_in))
    assert (code, list(bad)) == (1, ["checks", "holds"])
    assert bad["holds"].startswith("openai/m: model_misconfigured since 2")
    assert bad["holds"].endswith("UTC: 401: bad key")


def test_the_reason_of_a_hold_does_not_steer_the_terminal(call: Call, client: Client, database: str) -> None:
    client.query(
        "INSERT INTO draft_holds (model, code, reason) VALUES ('openai/m', 'model_unavailable', %s)", "\033[2J"
    )
    result = call("doctor", env=environment(database))
    assert result.returncode == 1
    assert "UTC: \ufffd[2J" in result.stdout


async def _answers(facts: dict[str, Any] | None, _name: str) -> dict[str, Any] | None:
    return facts and {"in_flight": 0, "database": facts}


@pytest.mark.parametrize(
    ("facts", "bad", "says"),
    [
        ({"ok": True, "detail": "every connection stands"}, [], "pid 7: every connection stands"),
        ({"ok": False, "detail": "no connection for settle"}, ["daemon"], "pid 7: no connection for settle"),
        ({"ok": False, "detail": "", "address": "h:1/d"}, [], "pid 7 uses another database, h:1/d"),
    ],
)
def test_the_daemons_of_this_host_are_asked_what_they_use(
    call: Call, database: str, monkeypatch: pytest.MonkeyPatch, facts: dict[str, Any], bad: list[str], says: str
) -> None:
    monkeypatch.setattr(liveness, "daemons", lambda: ["7.abc"])
    monkeypatch.setattr(liveness, "ask", partial(_answers, {"address": dsn.address(database)} | facts))
    findings = json.loads(call("doctor", "--json", env=environment(database)).stdout)["checks"]
    assert [one["detail"] for one in findings if one["check"] == "daemon"] == [says]
    assert [one["check"] for one in findings if one["check"] == "daemon" and not one["ok"]] == bad


def test_a_stuck_daemon_fails_and_one_that_has_just_ended_does_not_count(
    call: Call, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([["7.stuck", "8.ended"], ["7.stuck"]])
    monkeypatch.setattr(liveness, "daemons", lambda: next(looks))
    monkeypatch.setattr(liveness, "ask", partial(_answers, None))
    code, bad = examined(call, environment(database))
    assert (code, bad["daemon"]) == (1, "pid 7 does not answer")


def test_a_directory_without_prompts(call: Call, database: str, stand_in: ThreadedStandIn) -> None:
    code, bad = examined(call, environment(database, stand_in, DRAFTD_PROMPTS_DIR="/nonexistent"))
    assert code == 1
    assert "/nonexistent" in bad["prompts"]


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        ({"status": 401}, "model_misconfigured"),
        ({"rejects_images": True}, "model_misconfigured"),
        ({"status": 503}, "model_unavailable"),
        ({"fields": {"reading": ["OUR TABLE IS BOOKED UNDER THE NAME"]}}, "did not read the code word"),
        ({"fields": {"reading": ["XACEFHJ", "ACEFHJX"]}}, "did not read the code word"),
    ],
)
def test_a_model_that_cannot_help(
    call: Call, database: str, stand_in: ThreadedStandIn, behaviour: dict[str, Any], says: str
) -> None:
    stand_in.script(default=behaviour)
    code, bad = examined(call, environment(database, stand_in))
    assert (code, bad.pop("checks")) == (1, ALL)
    assert list(bad) == ["model"]
    assert says in bad["model"]
    assert bad["model"].count("openai/stand-in") == 1


def test_models_that_may_not_be_asked_are_named_beside_those_that_answer(
    call: Call, client: Client, database: str, stand_in: ThreadedStandIn
) -> None:
    client.query(
        "INSERT INTO draft_models (name, model, api_base) VALUES ('theirs', 'openai/m', 'http://evil.example/x')"
    )
    client.query("INSERT INTO draft_models (name, model) VALUES ('mine', 'openai/stand-in')")
    client.query(
        "INSERT INTO draft_agents (agent, model, fallback_models) VALUES ('comment_generator', 'theirs', ARRAY['mine'])"
    )
    env = environment(database, stand_in)
    code, bad = examined(call, env)
    assert (code, list(bad)) == (1, ["checks", "model"])
    assert bad["model"] == (
        "theirs: model_misconfigured: keys and pictures may not be sent to evil.example: "
        "DRAFTD_MODEL_API_BASES does not name it"
    )
    assert "mine (openai/stand-in) answers in" in call("doctor", env=env).stdout


def test_a_list_of_addresses_that_run_would_refuse(call: Call, database: str, stand_in: ThreadedStandIn) -> None:
    code, bad = examined(call, environment(database, stand_in, DRAFTD_MODEL_API_BASES="gpu1:8000"))
    assert (code, list(bad)) == (1, ["checks", "configuration"])
    assert "DRAFTD_MODEL_API_BASES: entry 1" in bad["configuration"]


def test_a_model_that_is_away_or_not_chosen(call: Call, database: str, stand_in: ThreadedStandIn) -> None:
    _, bad = examined(call, environment(database, stand_in, OPENAI_BASE_URL="http://127.0.0.1:1/v1"))
    assert "model_unavailable" in bad["model"]
    _, bad = examined(call, environment(database, stand_in, DRAFTD_MODEL=""))
    assert "DRAFTD_MODEL" in bad["model"]


@pytest.mark.parametrize(
    "host",
    ["http://hunter2:abc", "http://[::1", "http://127.0.0.1:99999", "langfuse.example", f"http://{'a' * 64}ü.example"],
)
def test_a_langfuse_address_that_is_none_leaves_the_other_checks(call: Call, host: str) -> None:
    # The SDK keeps one client per public key for the life of the process.
    keys = {"LANGFUSE_PUBLIC_KEY": f"pk-{uuid.uuid4()}", "LANGFUSE_SECRET_KEY": "sk"}
    code, bad = examined(call, environment("", None, LANGFUSE_HOST=host, **keys))
    assert (code, bad["checks"]) == (1, ["configuration", "prompts", "daemon", "model", "langfuse"])
    assert bad["langfuse"].startswith("LANGFUSE_HOST is invalid")


def about_model(call: Call, env: dict[str, str]) -> str:
    findings = json.loads(call("doctor", "--json", env=env).stdout)["checks"]
    (detail,) = (one["detail"] for one in findings if one["check"] == "model")
    return str(detail)


def test_a_model_is_asked_as_the_daemon_asks(
    call: Call, client: Client, database: str, stand_in: ThreadedStandIn
) -> None:
    client.query(
        "INSERT INTO draft_agents (agent, model, params) VALUES ('comment_generator', 'openai/stand-in', '{\"max_tokens\": 900}')"
    )
    said = about_model(call, environment(database, stand_in))
    assert re.fullmatch(r"openai/stand-in answers in \d+\.\d s \(json_schema\), the first option after \d+\.\d s", said)
    (asked,) = stand_in.log
    assert (asked["stream"], asked["max_tokens"], asked["first_role"]) == (True, 900, "system")
    word = asked["images"][0]["code_word"]
    assert len(word) == 6
    assert word not in asked["prompt"]
    about_model(call, environment(database, stand_in))
    assert stand_in.log[-1]["images"][0]["code_word"] != word


def test_a_provider_that_shows_no_option_early_is_told(call: Call, database: str, stand_in: ThreadedStandIn) -> None:
    stand_in.script(default={"pieces": 1})
    said = about_model(call, environment(database, stand_in))
    assert said.endswith("but shows no option before all are written")


@pytest.mark.parametrize(
    ("running", "well"),
    [
        ([{"name": "qwen2.5vl:latest", "context_length": 4_096}], False),
        ([{"name": "qwen2.5vl:latest", "context_length": 32_768}], True),
        ([{"name": "other", "context_length": 4_096}], True),
        ([{"name": "qwen2.5vl"}], True),
        (None, True),
    ],
)
def test_a_window_of_ollama_that_holds_no_prompt_picture_and_answer_is_told(
    call: Call, database: str, running: Any, *, well: bool
) -> None:
    (ollama,) = (one for one in DIALECTS if one.title == "Ollama")
    with run_in_thread(dialect=ollama, running=running) as server:
        env = environment(database, None, DRAFTD_MODEL=ollama.model, OLLAMA_API_BASE=server.url)
        _, bad = examined(call, env)
    assert ("model" not in bad) is well
    if not well:
        assert "its window of 4,096 tokens" in bad["model"]
        assert bad["model"].endswith("set num_ctx")
