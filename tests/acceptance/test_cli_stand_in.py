"""``draftd stand-in``: the doubles of model and daemon for an app's own tests."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from draftd.demo.samples import EMAIL
from draftd.stand_in.fake_draft import fake_draft_sql
from fix_daemon import Call, Client, Fleet, environment

NOWHERE = "postgresql://nobody@127.0.0.1:1/none"
ASK = {"model": "any", "messages": [{"role": "user", "content": "Draft a reply."}]}


@contextmanager
def command(*arguments: str) -> Iterator[tuple["subprocess.Popen[str]", dict[str, str]]]:
    """Run the command; yield its process and the variables that it prints."""
    line = [sys.executable, "-m", "draftd", "stand-in", "--port", "0", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(line, env=environment(NOWHERE), stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            printed = [process.stdout.readline().rstrip("\n").partition("=") for _ in range(4)]
            yield process, {name: value for name, _, value in printed}
        finally:
            if process.poll() is None:
                process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.long)])
def test_it_prints_what_to_set_says_what_it_is_and_ends_on_a_signal(number: signal.Signals) -> None:
    with command("--latency", "0.01") as (process, variables):
        answer = httpx.post(f"{variables['OPENAI_BASE_URL']}/chat/completions", json=ASK)
        assert (answer.json()["model"], answer.headers["Server"]) == ("stand-in", "draftd-stand-in")
        process.send_signal(number)
        output, messages = process.communicate(timeout=60)
    assert set(variables) == {
        "OPENAI_BASE_URL",
        "OPENAI_API_KEY",
        "DRAFTD_MODEL",
        "DRAFTD_ALLOW_PRIVATE_IMAGE_HOSTS",
    }
    assert (output, process.returncode) == ("", 0)
    assert messages == "A stand-in answers here with scripted replies; there is no model behind it. Ctrl-C ends it.\n"


def test_a_daemon_with_these_variables_drafts_and_fails_as_the_script_says(
    database: str, client: Client, fleet: Fleet, tmp_path: Path
) -> None:
    script = tmp_path / "script.json"
    script.write_text(json.dumps([{"nothing": True}]))
    with command("--script", str(script), "--tokens-per-s", "2000") as (_, variables):
        fleet.start(environment(database) | variables)
        root = variables["OPENAI_BASE_URL"].removesuffix("/v1")
        first = client.wait_for(client.insert(f"{root}/samples/{EMAIL.name}.png"), "failed")
        assert first["error_code"] == "nothing_to_reply_to"
        second = client.wait_for(client.insert(f"{root}/samples/{EMAIL.name}.png"), "completed")
        assert all(option["text"].startswith("Stand-in reply") for option in second["result"]["options"])
        httpx.post(f"{root}/script", json={"default": {"refusal": True}}).raise_for_status()
        third = client.wait_for(client.insert(f"{root}/samples/{EMAIL.name}.png"), "failed")
        assert third["error_code"] == "model_refused"
        assert all(call["outcome"] == "answered" for call in httpx.get(f"{root}/log").json())


def test_it_prints_the_sql_without_a_database_or_the_extra(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    done = call("stand-in", "--sql", env={})
    assert (done.returncode, done.stdout) == (0, fake_draft_sql())


def test_without_the_extra_it_says_what_to_install(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("draftd.stand_in.server")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    done = call("stand-in", env={})
    assert done.returncode == 78
    assert "aiohttp is missing: install draftd with its extra `demo`" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot read"),
        ("{", "is not JSON"),
        ('[{"statu": 1}]', "unknown behaviour 'statu'"),
        ('{"twice": []}', "a script is a list of behaviours"),
    ],
)
def test_a_script_that_is_not_understood_is_refused(call: Call, tmp_path: Path, content: str | None, said: str) -> None:
    script = tmp_path / "script.json"
    if content is not None:
        script.write_text(content)
    done = call("stand-in", "--script", str(script), env={})
    assert done.returncode == 2
    assert done.stderr.startswith("draftd: --script: ")
    assert said in done.stderr


def test_a_port_that_is_taken_is_one_line(call: Call) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = call("stand-in", "--port", str(port), env={})
    assert (done.returncode, done.stderr) == (
        1,
        f"draftd: cannot listen on 127.0.0.1, port {port}: address already in use\n",
    )


def test_beyond_the_loopback_interface_it_warns() -> None:
    with command("--host", "0.0.0.0") as (process, variables):  # noqa: S104  # what is tested
        assert variables["OPENAI_BASE_URL"].startswith("http://127.0.0.1:")
        process.send_signal(signal.SIGTERM)
        _, messages = process.communicate(timeout=60)
    assert messages.startswith("warning: 0.0.0.0 is not a loopback address")
