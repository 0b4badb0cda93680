"""The stand-in for the model under test."""

import json

import pytest

from draftd.errors import NothingOpen, NothingToReplyTo
from draftd.evals import stand_in
from draftd.evals.cases import Case
from draftd.reply.comment_reply import CommentReply
from draftd.request import Options, Request
from fix_evals import make_case
from tables import per_row


def drafted(case: Case) -> dict[str, object]:
    """Return what becomes of the stand-in's answer to a case."""
    request = Request(image_urls=("data:,",), context=case.context, options=case.options, parent=None)
    reply = CommentReply(request, Options.read(case.options), is_truncated=False, prompt="")
    answer = stand_in.StandIn([case]).answer(
        {"model": stand_in.MODEL, "messages": []}, {"traceparent": stand_in.traceparent(case)}
    )
    return reply.read(json.dumps({name: answer[name] for name in reply.schema["properties"]})).result


@per_row("language", ["en", "de", "fr", "es", "pt-BR", "it", "tr", "ja", "ru", "ko", "ar", "zh"])
@per_row("reply_needed", ["yes", "no"])
def test_its_replies_are_accepted_in_every_language(language: str, reply_needed: str) -> None:
    case = make_case(language=language, reply_needed=reply_needed, platform="x", content_type="post")
    result = drafted(case)
    assert result["language"] == language
    assert result["reply_needed"] == reply_needed
    assert result["platform"] == "x"


@per_row("options", [{"stance": "decline"}, {"lengths": ["short"]}, {"language": "ja"}, {"reader_language": "de"}])
def test_it_heeds_the_options(options: dict[str, object]) -> None:
    assert drafted(make_case(options=options, context="Thursday suits me."))["options"]


@per_row(("outcome", "error"), [("nothing_to_reply_to", NothingToReplyTo), ("nothing_open", NothingOpen)])
def test_it_sees_nothing_where_the_label_says_so(outcome: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        drafted(make_case(outcome=outcome))


def test_each_case_has_a_trace_of_its_own() -> None:
    assert stand_in.traceparent(make_case()) != stand_in.traceparent(make_case(n="2"))
