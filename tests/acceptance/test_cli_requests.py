"""The commands on requests, beside a running daemon."""

import json
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from draftd.demo.samples import EMAIL
from fix_daemon import Call, Running, environment

NOBODY = "00000000-0000-0000-0000-000000000000"
NEGATIVE, USAGE, TRY_AGAIN = 1, 2, 75
PICTURE = str(EMAIL.path)
URL = "https://images.example/a.png"


@pytest.fixture(autouse=True)
def _behave(running: Running) -> Iterator[None]:
    yield
    # In this order: a call that arrives in between must not hang for the next test.
    running.stand_in.reset()
    running.stand_in.release()


def held_back(running: Running) -> str:
    """Insert a request that is not due for an hour."""
    due = datetime.now(UTC) + timedelta(hours=1)
    return running.client.insert(URL, requester_id=f"held {uuid.uuid4()}", available_at=due)


def failed(running: Running, requester: str) -> str:
    """Insert a request that has expired, and wait for its end."""
    request_id = running.client.insert(URL, requester_id=requester, expires_at=datetime.now(UTC) - timedelta(hours=1))
    running.client.wait_for(request_id, "failed")
    return request_id


def test_a_file_is_drafted_while_one_waits(call: Call, running: Running) -> None:
    result = call("enqueue", PICTURE, "--context", "say yes", "--language", "en", "--wait", env=running.env)
    assert result.returncode == 0
    assert [word for word in ("short", "medium", "detailed") if f"— {word} (" in result.stdout] == [
        "short", "medium", "detailed",
    ]  # fmt: skip
    request_id = result.stderr.splitlines()[0]
    assert running.client.row(request_id)["context"] == "say yes"
    shown = call("show", request_id, env=running.env)
    assert shown.returncode == 0
    assert "— detailed (" in shown.stdout


def test_several_pictures_are_one_request_and_json_is_its_id(call: Call, running: Running) -> None:
    made = json.loads(call("enqueue", PICTURE, PICTURE, "--json", env=running.env).stdout)
    row = running.client.wait_for(made["id"], "completed")
    assert len(row["images"]) == 2


def test_wait_with_json_prints_the_final_row_also_of_a_failure(call: Call, running: Running) -> None:
    good = call("enqueue", PICTURE, "--wait", "--json", env=running.env)
    assert (good.returncode, len(json.loads(good.stdout)["result"]["options"])) == (0, 3)
    running.stand_in.script(default={"nothing": True})
    bad = call("enqueue", PICTURE, "--wait", "--json", env=running.env)
    row = json.loads(bad.stdout)
    assert (bad.returncode, row["status"], row["error_code"]) == (NEGATIVE, "failed", "nothing_to_reply_to")
    assert row["errors"][0]["code"] == "nothing_to_reply_to"


def test_any_key_of_the_options_can_be_given(call: Call, running: Running) -> None:
    given = ["max_chars=200", "me=42", 'voice_samples=["See you there.", "Ok!"]', "tone=warm, brief"]
    pairs = [word for pair in given for word in ("--option", pair)]
    made = call("enqueue", URL, "--language", "pt-BR", *pairs, "--json", env=running.env)
    assert running.client.row(json.loads(made.stdout)["id"])["options"] == {
        "language": "pt-BR", "max_chars": 200, "me": "42", "voice_samples": ["See you there.", "Ok!"], "tone": "warm, brief",
    }  # fmt: skip


def test_a_failure_is_said_while_one_waits(call: Call, running: Running) -> None:
    running.stand_in.script(default={"nothing": True})
    result = call("enqueue", PICTURE, "--wait", env=running.env)
    assert (result.returncode, result.stdout) == (NEGATIVE, "")
    assert "failed: nothing_to_reply_to" in result.stderr


def test_who_waits_too_long_gets_75_and_the_row_as_it_is(call: Call, running: Running) -> None:
    running.stand_in.script(default={"hang": True})
    result = call("enqueue", PICTURE, "--wait", "--timeout", "0.3s", "--json", env=running.env)
    assert result.returncode == TRY_AGAIN
    row = json.loads(result.stdout)
    assert row["status"] in {"pending", "processing"}
    assert f"draftd show {row['id']}" in result.stderr


def test_ctrl_c_while_waiting_is_quiet_and_the_request_goes_on(running: Running) -> None:
    running.stand_in.script(default={"hang": True})
    process = subprocess.Popen(
        [sys.executable, "-m", "draftd", "enqueue", PICTURE, "--wait"],
        env=running.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        request_id = process.stderr.readline().strip()
        process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(100) == 130
        assert "Traceback" not in process.stderr.read()
    running.stand_in.script()
    running.stand_in.release()
    running.client.wait_for(request_id, "completed")


def test_a_key_used_twice_is_one_request(call: Call, running: Running) -> None:
    key = str(uuid.uuid4())
    first = call("enqueue", PICTURE, "--idempotency-key", key, env=running.env)
    second = call("enqueue", PICTURE, "--idempotency-key", key, env=running.env)
    assert first.stdout == second.stdout
    assert "already used" in second.stderr


def test_drafts_are_refined_for_their_own_requester_only(call: Call, running: Running) -> None:
    parent = call("enqueue", PICTURE, "--requester", "ann", env=running.env).stdout.strip()
    running.client.wait_for(parent, "completed")
    refine = ["enqueue", "--parent", parent, "--context", "warmer"]
    assert call(*refine, "--requester", "ann", "--wait", env=running.env).returncode == 0
    foreign = call(*refine, "--requester", "bob", env=running.env)
    unknown = call("enqueue", "--parent", NOBODY, env=running.env)
    assert foreign.returncode == unknown.returncode == USAGE
    assert foreign.stderr == unknown.stderr == "draftd: parent_id is no earlier request of this requester\n"


def test_a_chain_of_refinements_is_shown(call: Call, running: Running) -> None:
    def refine(parent: str, *wish: str) -> str:
        made = call("enqueue", "--parent", parent, *wish, "--wait", env=running.env)
        assert made.returncode == 0, made.stderr
        return made.stderr.splitlines()[0]

    first = call("enqueue", PICTURE, "--wait", env=running.env).stderr.splitlines()[0]
    second = refine(first, "--context", "warmer,\nplease", "--option", "max_chars=4000")
    third = refine(second)
    shown = call("show", third, env=running.env).stdout
    said = " ".join(shown.partition("\nid ")[0].split())
    assert said == (f'refines {first} (completed) refines {second} (completed) warmer, please {{"max_chars": 4000}}')
    (one, two) = json.loads(call("show", third, "--json", env=running.env).stdout)["chain"]
    assert (one["id"], two["id"], two["context"], two["status"]) == (first, second, "warmer,\nplease", "completed")
    assert json.loads(call("show", first, "--json", env=running.env).stdout)["chain"] == []


def test_what_was_to_become_shorter_and_did_not_is_repaired(call: Call, running: Running) -> None:
    parent = call("enqueue", PICTURE, "--wait", env=running.env).stderr.splitlines()[0]
    drafts = {one["length"]: one["text"] for one in running.client.row(parent)["result"]["options"]}
    shortened = {length: " ".join(text.split()[: len(text.split()) // 2]) for length, text in drafts.items()}
    first, repaired = ({"fields": {"changes": ["shorter"]} | texts} for texts in (drafts, shortened))
    running.stand_in.script([first, repaired])
    refined = call("enqueue", "--parent", parent, "--context", "shorter", "--wait", env=running.env)
    assert refined.returncode == 0, refined.stderr
    row = running.client.row(refined.stderr.splitlines()[0])
    assert {one["length"]: one["text"] for one in row["result"]["options"]} == shortened
    for one in drafts.values():
        assert one not in refined.stdout, "a reply that was not shortened was published"


def test_an_agent_that_nobody_has_is_refused(call: Call, running: Running) -> None:
    result = call("enqueue", URL, "--agent", "nope", env=running.env)
    assert (result.returncode, result.stderr) == (2, "draftd: no daemon has a prompt for the agent 'nope'\n")


def test_where_no_daemon_ever_was_nobody_to_answer_is_mentioned(call: Call, database: str) -> None:
    result = call("enqueue", URL, "--agent", "nope", env=environment(database))
    assert result.returncode == 0
    assert "no running daemon has a prompt for the agent 'nope'" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "at least one screenshot"),
        (["missing.png"], "cannot read 'missing.png'"),
        (["."], "cannot read '.': Is a directory"),
        (["empty.png"], "'empty.png' is empty"),
        (["large.png"], "18 MiB"),
        (["ftp://a.example/b.png"], "ftp://"),
        (["data:text/plain,x"], "https://"),
        (["a.png"] * 9, "1 to 8"),
        (["a.png", "--parent", NOBODY], "--parent"),
        (["--parent", "garbage"], "not a request id"),
        (["a.png", "--language", "klingon language"], "--language"),
        (["a.png", "--tone", ""], "--tone"),
        (["a.png", "--expires-in", "garbage"], "not a valid duration"),
        (["a.png", "--expires-in", "99999999d"], "hundred years"),
        (["a.png", "--expires-in", "1w"], "not a valid duration"),
        (["a.png", "--priority", "101"], "--priority"),
        (["a.png", "--priority", "-101"], "--priority"),
        (["a.png", "--timeout", "3"], "--wait"),
        (["a.png", "--wait", "--timeout", "soon"], "not a valid duration"),
        (["a.png", "--option", "max_chars"], "--option takes KEY=VALUE"),
        (["a.png", "--option", "nope=1"], "unknown option 'nope'; known options: tone, "),
        (["a.png", "--option", "max_chars=many"], "--option max_chars: "),
        (["a.png", "--option", "voice_samples=one"], "--option voice_samples: "),
        (["a.png", "--option", "me=Ann", "--option", "me=Bob"], "me is given twice"),
        (["a.png", "--tone", "warm", "--option", "tone=brief"], "tone is given twice"),
        (["a.png", "--context", "x" * 8001], "8,000"),
    ],
)
def test_what_cannot_be_enqueued_is_said_before_anything_is_inserted(
    call: Call, running: Running, tmp_path: Path, arguments: list[str], says: str
) -> None:
    (tmp_path / "a.png").write_bytes(b"a")
    (tmp_path / "empty.png").touch()
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(19 * 1024**2)
    before = running.client.query("SELECT count(*) AS n FROM draft_requests")
    result = call("enqueue", *arguments, env=running.env)
    assert (result.returncode, result.stdout) == (USAGE, "")
    assert says in result.stderr
    assert running.client.query("SELECT count(*) AS n FROM draft_requests") == before


def test_a_request_that_is_not_there_is_a_negative_answer(call: Call, running: Running) -> None:
    for command in (["show"], ["show", "--json"], ["cancel"], ["retry", "--json"]):
        result = call(*command, NOBODY, env=running.env)
        assert (result.returncode, result.stdout) == (NEGATIVE, "")
        assert result.stderr == f"draftd: request {NOBODY} does not exist\n"


def test_show_tells_the_history(call: Call, running: Running) -> None:
    request_id = failed(running, "history")
    row = json.loads(call("show", request_id, "--json", env=running.env).stdout)
    assert (row["id"], row["errors"][0]["code"]) == (request_id, "expired")
    assert "image_urls" not in row
    text = call("show", request_id, env=running.env).stdout
    assert "\nstatus          failed\n" in text
    assert " expired: " in text


def test_a_request_that_expires_beyond_the_calendar_is_shown_like_any_other(call: Call, running: Running) -> None:
    which = running.client.insert(
        "https://images.example/shot.png", available_at="9000-01-01", expires_at="10000-01-01"
    )
    assert "9999-12-31" in call("show", which, env=running.env).stdout
    assert which in call("list", env=running.env).stdout
    assert call("cancel", which, env=running.env).returncode == 0


def test_show_says_until_when_a_row_is_held(call: Call, running: Running) -> None:
    running.stand_in.script(default={"hang": True})
    request_id = call("enqueue", PICTURE, env=running.env).stdout.strip()
    running.client.wait_for(request_id, "processing")
    shown = call("show", request_id, env=running.env).stdout
    for name in ("claimed_at", "lease_until", "deadline_at"):
        assert re.search(rf"^{name} +\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC$", shown, re.MULTILINE), name


def test_list_is_newest_first_and_chosen_by_status_and_requester(call: Call, running: Running) -> None:
    requester = str(uuid.uuid4())
    ids = [failed(running, requester) for _ in range(3)]
    listed = json.loads(call("list", "--requester", requester, "--json", env=running.env).stdout)
    assert ([row["id"] for row in listed["requests"]], listed["has_more"]) == (ids[::-1], False)
    two = json.loads(call("list", "--requester", requester, "--limit", "2", "--json", env=running.env).stdout)
    assert ([row["id"] for row in two["requests"]], two["has_more"]) == (ids[:0:-1], True)
    three = json.loads(call("list", "--requester", requester, "--limit", "3", "--json", env=running.env).stdout)
    assert (len(three["requests"]), three["has_more"]) == (3, False)
    lines = call("list", "--requester", requester, "--status", "failed", "--limit", "2", env=running.env).stdout
    assert [line.split("\t")[:2] for line in lines.splitlines()] == [[ids[2], "failed"], [ids[1], "failed"]]
    none = call("list", "--requester", requester, "--status", "pending", "--json", env=running.env)
    assert json.loads(none.stdout) == {"requests": [], "has_more": False}


def changes(text: str) -> tuple[int, int, list[dict[str, str]], bool]:
    """Return what ``cancel --json`` or ``retry --json`` printed: matched, changed, requests, whether it was a dry run."""
    answer = json.loads(text)
    assert answer.keys() == {"matched", "changed", "requests", "dry_run"}
    return answer["matched"], answer["changed"], answer["requests"], answer["dry_run"]


def test_cancel_answers_alike_for_one_and_for_many(call: Call, running: Running) -> None:
    one, other = held_back(running), held_back(running)
    first = call("cancel", one, "--json", env=running.env)
    assert changes(first.stdout) == (1, 1, [{"id": one, "status": "cancelled"}], False)
    requester = running.client.row(other)["requester_id"]
    rehearsed = call("cancel", "--requester", requester, "--dry-run", "--json", env=running.env)
    assert changes(rehearsed.stdout) == (1, 0, [{"id": other, "status": "pending"}], True)
    assert running.client.row(other)["status"] == "pending"
    done = call("cancel", "--requester", requester, "--since", "1h", "--json", env=running.env)
    assert changes(done.stdout) == (1, 1, [{"id": other, "status": "cancelled"}], False)
    none = call("cancel", "--requester", requester, "--json", env=running.env)
    assert (none.returncode, changes(none.stdout)) == (0, (0, 0, [], False))


def test_what_is_over_is_not_cancelled_and_what_goes_on_not_retried(call: Call, running: Running) -> None:
    over, waiting = failed(running, "over"), held_back(running)
    for verb, request_id, status in (("cancel", over, "failed"), ("retry", waiting, "pending")):
        result = call(verb, request_id, "--json", env=running.env)
        assert result.returncode == NEGATIVE
        assert changes(result.stdout) == (1, 0, [{"id": request_id, "status": status}], False)
        assert f"is {status}" in result.stderr
        assert running.client.row(request_id)["status"] == status


def test_a_processing_request_is_cancelled(call: Call, running: Running) -> None:
    running.stand_in.script(default={"hang": True})
    request_id = call("enqueue", PICTURE, env=running.env).stdout.strip()
    running.stand_in.wait_for_calls(1)
    assert call("retry", request_id, env=running.env).returncode == NEGATIVE
    assert call("cancel", request_id, env=running.env).stdout == f"{request_id}\n"
    assert running.client.row(request_id)["status"] == "cancelled"


def test_retry_begins_at_attempt_0_again(call: Call, running: Running) -> None:
    requester = str(uuid.uuid4())
    request_id = failed(running, requester)
    running.stand_in.script(default={"hang": True})
    rehearsed = call("retry", "--requester", requester, "--dry-run", "--json", env=running.env)
    assert changes(rehearsed.stdout) == (1, 0, [{"id": request_id, "status": "failed"}], True)
    running.client.query("UPDATE draft_requests SET given_back = 9 WHERE id = %s", request_id)
    result = call("retry", "--code", "expired", "--requester", requester, "--since", "1h", "--json", env=running.env)
    assert changes(result.stdout) == (1, 1, [{"id": request_id, "status": "pending"}], False)
    assert running.client.row(request_id)["status"] != "failed"
    assert running.client.row(request_id)["attempt"] <= 1
    assert running.client.row(request_id)["given_back"] == 0


def test_retry_says_when_the_pictures_are_gone(call: Call, running: Running) -> None:
    request_id = call("enqueue", PICTURE, "--expires-in", "0", env=running.env).stdout.strip()
    running.client.wait_for(request_id, "failed")
    result = call("retry", request_id, "--dry-run", env=running.env)
    assert (result.returncode, result.stdout) == (0, f"{request_id}\n")
    assert "image_gone" in result.stderr
