"""The command that records feedback."""

import json
import subprocess
import sys

import pytest

from draftd.demo.samples import EMAIL
from fix_daemon import Call, Running

NOBODY = "00000000-0000-0000-0000-000000000000"
NEGATIVE, USAGE = 1, 2


@pytest.fixture
def drafted(call: Call, running: Running) -> str:
    """The id of a completed request."""
    running.client.query("DELETE FROM draft_feedback")
    made = json.loads(
        call("enqueue", str(EMAIL.path), "--requester", "ada", "--wait", "--json", env=running.env).stdout
    )
    assert made["status"] == "completed"
    request_id: str = made["id"]
    return request_id


def short_of(running: Running, request_id: str) -> str:
    text: str = running.client.row(request_id)["result"]["options"][0]["text"]
    return text


def test_what_was_sent_is_compared_with_the_draft(call: Call, running: Running, drafted: str) -> None:
    draft = short_of(running, drafted)
    told = call("feedback", drafted, "--option", "short", "--sent-text", f"{draft} Thanks!", env=running.env)
    assert told.returncode == 0
    assert ": short, edited, similarity 0." in told.stdout
    said = json.loads(
        call(
            "feedback", drafted, "--option", "short", "--sent-text", draft, "--rating", "1", "--json", env=running.env
        ).stdout
    )
    assert (said["request_id"], said["option"], said["outcome"], said["rating"], said["similarity"]) == (
        drafted, "short", "sent", 1, 1.0,
    )  # fmt: skip
    rows = running.client.query("SELECT requester_id, outcome FROM draft_feedback ORDER BY id")
    assert rows == [{"requester_id": "ada", "outcome": "edited"}, {"requester_id": "ada", "outcome": "sent"}]


def test_a_text_can_come_from_stdin(running: Running, drafted: str) -> None:
    draft = short_of(running, drafted)
    ran = subprocess.run(
        [sys.executable, "-m", "draftd", "feedback", drafted, "--option", "short", "--sent-text", "-", "--json"],
        env=running.env,
        input=f"{draft}\n".encode(),
        capture_output=True,
        check=True,
    )
    assert json.loads(ran.stdout)["outcome"] == "sent"
    assert running.client.query("SELECT sent_text FROM draft_feedback") == [{"sent_text": draft}]
    for bad, why in ((b"\xff\xfe", "not UTF-8"), (b"a\x00b", "NUL")):
        ran = subprocess.run(
            [sys.executable, "-m", "draftd", "feedback", drafted, "--sent-text", "-"],
            env=running.env,
            input=bad,
            capture_output=True,
            check=False,
        )
        assert (ran.returncode, why in ran.stderr.decode()) == (USAGE, True)


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        ((), USAGE, "give at least one of --option, --sent-text, --outcome and --rating"),
        (("--option", "long"), USAGE, "'long' is not one of short, medium, detailed"),
        (("--outcome", "liked"), USAGE, "'liked' is not one of sent, edited, rejected"),
        (("--rating", "5"), USAGE, "--rating is -1 or 1, not 5"),
        (("--sent-text", "x" * 8001), NEGATIVE, "sent_text has at most 8,000 characters, not 8001"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    call: Call, running: Running, drafted: str, arguments: tuple[str, ...], code: int, why: str
) -> None:
    refused = call("feedback", drafted, *arguments, env=running.env)
    assert (refused.returncode, refused.stdout) == (code, "")
    assert why in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_an_option_that_is_not_there_and_a_request_that_is_not(call: Call, running: Running) -> None:
    made = call("enqueue", str(EMAIL.path), "--option", 'lengths=["short"]', "--wait", "--json", env=running.env)
    request_id = json.loads(made.stdout)["id"]
    refused = call("feedback", request_id, "--option", "medium", env=running.env)
    assert (refused.returncode, refused.stderr) == (
        NEGATIVE, "draftd: this request has no option 'medium'. It has short.\n",
    )  # fmt: skip
    refused = call("feedback", NOBODY, "--rating", "1", env=running.env)
    assert (refused.returncode, refused.stderr) == (NEGATIVE, f"draftd: request {NOBODY} does not exist\n")
