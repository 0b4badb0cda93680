"""What is asked of Langfuse when a requester is forgotten, and what is told of what it did not do."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from draftd.errors import Spent
from draftd.telemetry import trace_deletion
from draftd.telemetry.langfuse import load_tracing
from draftd.telemetry.trace_deletion import Deletion, delete_traces, user_id
from draftd.telemetry.tracing import HeldTrace, Tracing
from fix_otlp import OtlpReceiver, Received, otlp_receiver


@pytest.fixture
def langfuse() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as receiver:
        yield receiver


def stored(langfuse: OtlpReceiver, trace_id: str, user: str) -> None:
    langfuse.spans.append(Received("a", "b", trace_id, uuid.uuid4().hex, "", {"user.id": user}, 0))


def deleted(langfuse: OtlpReceiver, *trace_ids: str, user: str | None = None) -> Deletion:
    return delete_traces(public_key="pk", secret_key="sk", host=langfuse.url, trace_ids=trace_ids, user=user)


def test_the_traces_are_deleted_and_no_others(langfuse: OtlpReceiver) -> None:
    for trace_id, user in (("1", "me"), ("2", "me"), ("3", "you")):
        stored(langfuse, trace_id, user)
    assert deleted(langfuse, "1", "2") == Deletion(deleted=("1", "2"))
    assert [span.trace_id for span in langfuse.spans] == ["3"]


def test_many_traces_are_deleted_in_several_requests(langfuse: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_deletion, "CHUNK", 2)
    assert deleted(langfuse, *"54321") == Deletion(deleted=tuple("12345"))
    assert langfuse.deleted == list("12345")


def test_traces_of_requests_that_are_long_gone_are_found_by_their_user(langfuse: OtlpReceiver) -> None:
    for trace_id, user in (("1", "me"), ("2", "me"), ("3", "you")):
        stored(langfuse, trace_id, user)
    assert deleted(langfuse, "1", user="me") == Deletion(deleted=("1", "2"))
    assert [span.trace_id for span in langfuse.spans] == ["3"]


def test_what_langfuse_refuses_to_delete_is_told() -> None:
    with otlp_receiver("refusing") as langfuse:
        assert deleted(langfuse, "1") == Deletion(left=("1",), problem="Langfuse answered 403")


def test_a_langfuse_without_the_search_is_told(langfuse: OtlpReceiver) -> None:
    langfuse.lookup_status = 404
    assert deleted(langfuse, "1", user="me") == Deletion(deleted=("1",), problem="Langfuse answered 404")


def test_a_langfuse_that_is_away_is_told(unused_tcp_port: int) -> None:
    away = f"http://127.0.0.1:{unused_tcp_port}"
    told = delete_traces(public_key="pk", secret_key="sk", host=away, trace_ids=["1"], user=None)
    assert (told.deleted, told.left) == ((), ("1",))
    assert told.problem


def test_a_slow_langfuse_is_given_up(langfuse: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_deletion, "TOTAL_S", -1.0)
    assert deleted(langfuse, "1", user="me") == Deletion(left=("1",), problem="Langfuse needed more than -1 s")
    assert not langfuse.deleted


@pytest.mark.parametrize("requester_id", ["", "x" * 201, "Zo\xeb", "sk-live-0123456789abcdef"])
def test_a_requester_whose_name_others_share_in_langfuse_is_not_looked_up(requester_id: str) -> None:
    assert user_id(requester_id) is None
    assert user_id("user-1") == "user-1"


def trace_one(traces: Tracing, held: HeldTrace) -> None:
    def attempt() -> None:
        with traces.request(request_id=uuid.uuid4(), requester_id="me", agent="a", attempt=1):
            call: dict[str, Any] = {"name": "draft", "model": "m", "messages": [], "prompt_version": "p", "params": {}}
            with traces.generation(**call) as generation:
                generation.set(text="hello", spent=Spent())

    held.context().run(attempt)


def test_the_trace_of_an_attempt_is_sent_when_its_outcome_is_stored_and_not_before(langfuse: OtlpReceiver) -> None:
    traces = load_tracing(
        public_key=f"pk-{uuid.uuid4()}", secret_key="sk", host=langfuse.url, content="text", release="1"
    )
    stored_one, lost = HeldTrace(), HeldTrace()
    trace_one(traces, stored_one)
    trace_one(traces, lost)
    traces._provider.force_flush(10_000)  # type: ignore[attr-defined] # of the private subclass
    assert not langfuse.spans
    stored_one.send()
    assert traces.shutdown(time_s=60)
    assert sorted(span.name for span in langfuse.spans) == ["a", "draft"]
    assert len({span.trace_id for span in langfuse.spans}) == 1
