"""What a refinement takes over from the drafts that it changes, and what it may not change unasked."""

import json
from typing import Any

import pytest

from draftd.queue.outcome import Draft
from draftd.reply.comment_reply import CommentReply
from draftd.reply.reply_format import AnswerRejected
from draftd.request import Parent, Profile, Request, Wish
from tables import per_row

SHORT = "Yes, gladly, I'll be there on Saturday at 7!"
MEDIUM = "Sorry, Saturday doesn't work for me this time. Have a lovely evening, all of you!"
DETAILED = (
    "Sounds great! Before I say yes: until when do you need to know, and would it be all right if I came an hour late? "
    "I'd love to see you all again."
)
OPTIONS = [
    {"length": "short", "angle": "accepts", "stance": "accept", "text": SHORT, "unsupported": []},
    {"length": "medium", "angle": "declines", "stance": "decline", "text": MEDIUM, "unsupported": []},
    {"length": "detailed", "angle": "asks", "stance": "open", "text": DETAILED, "unsupported": []},
]
RESULT: dict[str, Any] = {
    "schema_version": 1,
    "platform": "whatsapp",
    "platform_name": "WhatsApp",
    "content_type": "direct_message",
    "language": "en",
    "summary": "Noor invites me to dinner on Saturday at 7.",
    "me": "right-hand bubbles",
    "replying_to": {"author": "Noor", "gist": "invites me for Saturday", "expects": "decision"},
    "reply_needed": "yes",
    "options": OPTIONS,
    "other_targets": [{"key": "t2", "author": "Sam", "gist": "asks for the address"}],
    "unsent_text": None,
    "missing": ["whether I am free"],
    "confidence": "medium",
    "warnings": ["partially_illegible", "unsupported_fact"],
}
READING = ["Noor: dinner at ours on Saturday, around 7?", "Sam: what's the address?"]
KEPT = {key: RESULT[key] for key in RESULT.keys() - {"options", "missing", "warnings"}}
NEW_TEXTS = {
    "short": "Yes, see you Saturday!",
    "medium": "Sorry, I can't on Saturday.",
    "detailed": "Great! Until when do you need to know?",
}


def make_format(context: str | None = None, over: dict[str, Any] | None = None, **options: Any) -> CommentReply:
    parent = Parent(
        result={key: value for key, value in (RESULT | (over or {})).items() if value != "absent"},
        reading=READING,
        chain_texts=(SHORT, MEDIUM, DETAILED),
    )
    return made(Request(image_urls=(), context=context, options=options, parent=parent))


def made(request: Request) -> CommentReply:
    from draftd.reply import refinement  # noqa: PLC0415 - as the attempt's first step does

    return CommentReply(request, refinement.options_of(request), is_truncated=False, prompt="")


def answer(*stances: str, changes: list[str] | None = None, **over: Any) -> str:
    """Return an answer that claims other things about the screenshot than the parent's."""
    said: dict[str, Any] = {"shown": "message"} | ({} if changes is None else {"changes": changes})
    said |= {"platform": "x", "language": "fr", "me": "left", "author": "Bo", "gist": "sells something"}
    said |= {"expects": "statement", "warnings": [], "unsent_text": "Dear", "quoted": [], "reply_language": "en"}
    texts = {name: over.pop(name, text) for name, text in zip(NEW_TEXTS, (SHORT, MEDIUM, DETAILED), strict=True)}
    for (length, text), stance in zip(texts.items(), stances or ("accept", "decline", "open"), strict=True):
        said |= {f"{length}_stance": stance, f"{length}_angle": f"new {length}", length: text}
    said |= {"platform_name": "Ex", "content_type": "post", "reply_needed": "no", "summary": "Something else."}
    return json.dumps(said | {"other_targets": ["Eve: sells"], "missing": ["the date"], "confidence": "low"} | over)


def refused(reply_format: CommentReply, text: str) -> AnswerRejected:
    with pytest.raises(AnswerRejected) as caught:
        reply_format.read(text)
    return caught.value


def accepted(reply_format: CommentReply, text: str, *, is_repaired: bool = False) -> list[str]:
    """Return the texts of a draft that needs no repair."""
    result = reply_format.read(text, is_repaired=is_repaired).result
    return [option["text"] for option in result["options"]]


def kept_of(draft: Draft) -> dict[str, Any]:
    return {key: draft.result[key] for key in KEPT}


@per_row("context", [None, "shorter", "say yes"])
def test_what_was_seen_is_taken_over_whatever_the_model_says(context: str | None) -> None:
    stance = None if context else "accept"
    reply_format = make_format(context, stance=stance)
    text = answer("accept", "accept", "accept", changes=["stance", "shorter"] if context else None, **NEW_TEXTS)
    draft = reply_format.read(text, is_repaired=True)
    assert kept_of(draft) == KEPT
    assert draft.result["missing"] == (["the date"] if context else RESULT["missing"])
    assert draft.result["warnings"] == ["partially_illegible"]
    assert draft.reading == READING


def test_a_refinement_is_asked_for_nothing_that_is_known() -> None:
    replies = [f"{length}{part}" for length in NEW_TEXTS for part in ("_stance", "_angle", "")]
    assert list(make_format(stance="accept").schema["properties"]) == ["shown", "warnings", *replies]
    in_words = ["shown", "changes", "author", "gist", "expects", "warnings", "reply_language", *replies, "missing"]
    assert list(make_format("shorter").schema["properties"]) == in_words
    assert make_format("shorter").schema == make_format("yes, but Monday").schema, "so that a cache of it hits"


def test_a_partial_result_of_a_refinement_has_what_was_seen() -> None:
    partial = make_format(stance="accept").partial().feed(answer("accept", "accept", "accept").partition('"medium"')[0])
    assert partial is not None
    assert {key: partial[key] for key in ("platform", "summary", "replying_to", "me")} == {
        key: KEPT[key] for key in ("platform", "summary", "replying_to", "me")
    }


def test_words_may_name_another_message() -> None:
    reply_format = make_format("answer Bo instead")
    draft = reply_format.read(answer("none", "none", "none", changes=["target"]))
    assert draft.result["replying_to"] == {"author": "Bo", "gist": "sells something", "expects": "statement"}
    assert draft.result["platform"] == "whatsapp"


def test_another_target_brings_what_belongs_to_it() -> None:
    reply_format = make_format(answer_to="t2")
    result = reply_format.read(answer("none", "none", "none", language="en", content_type="group_chat")).result
    assert (result["replying_to"]["author"], result["content_type"], result["missing"]) == (
        "Bo",
        "group_chat",
        ["the date"],
    )
    assert [one["author"] for one in result["other_targets"]] == ["Eve"]
    assert (result["platform"], result["summary"]) == ("whatsapp", RESULT["summary"])


def test_a_request_that_says_who_it_is_is_asked_where() -> None:
    assert make_format("warmer", me="Bo").read(answer(changes=["other"])).result["me"] == "left"


def test_another_reader_gets_the_texts_beside_the_replies_anew() -> None:
    asked = make_format("warmer", reader_language="de").schema["properties"]
    assert {"me", "gist", "summary", "other_targets", "missing"} <= asked.keys()


def test_a_reader_who_stays_is_inherited() -> None:
    wishes = (Wish(context="", options={"reader_language": "de"}),)
    parent = Parent(result=RESULT, reading=READING, wishes=wishes)
    asked = made(Request(image_urls=(), context="warmer", options={}, parent=parent)).schema["properties"]
    assert "short_translation" in asked
    assert "summary" not in asked


@per_row("missing", ["platform", "summary", "reply_needed", "other_targets", "unsent_text", "confidence"])
def test_what_an_earlier_result_lacks_is_asked_for(missing: str) -> None:
    assert missing in make_format(stance="accept", over={missing: "absent"}).schema["properties"]


def test_words_may_ask_for_more_than_a_line_where_no_reply_was_due() -> None:
    lines = [option | {"stance": "none"} for option in OPTIONS]
    reply_format = make_format("ask her about the tickets, at length", over={"reply_needed": "no", "options": lines})
    long = "Could you tell me about the tickets? " * 6
    draft = reply_format.read(answer("none", "none", "none", changes=["other"], expects="question", detailed=long))
    assert draft.result["replying_to"]["expects"] == "question"
    line = make_format(stance="open", over={"reply_needed": "no", "options": lines})
    assert "no reply is due" in str(refused(line, answer("open", "open", "open", detailed=long)))


def test_what_is_to_become_shorter_becomes_shorter() -> None:
    reply_format = make_format("kürzer bitte")
    rejection = refused(reply_format, answer(changes=["shorter"], short=NEW_TEXTS["short"]))
    assert rejection.problems == (
        f"`medium` has {len(MEDIUM)} characters and the earlier one {len(MEDIUM)}; shorten it to at most 72.",
        f"`detailed` has {len(DETAILED)} characters and the earlier one {len(DETAILED)}; shorten it to at most 129.",
    )
    assert rejection.draft is not None
    assert accepted(reply_format, answer(changes=["shorter"], **NEW_TEXTS))
    assert accepted(reply_format, answer(changes=["shorter"]), is_repaired=True)


def test_a_reply_that_is_not_shorter_is_not_published() -> None:
    partial = make_format("shorter").partial().feed(answer(changes=["shorter"], short=NEW_TEXTS["short"]))
    assert partial is not None
    assert [option["length"] for option in partial["options"]] == ["short"]


def test_a_signature_does_not_count_when_a_mail_becomes_shorter() -> None:
    closing = "Lea Marti, physiotherapist, Länggassstrasse 17, Bern"
    signed = [one | {"text": f"{one['text']}\n\n{closing}"} for one in OPTIONS]
    parent = Parent(result=RESULT | {"platform": "email", "options": signed}, reading=READING)
    request = Request(image_urls=(), context="shorter", options={}, parent=parent, profile=Profile(signature=closing))
    problems = refused(made(request), answer(changes=["shorter"], short=NEW_TEXTS["short"])).problems
    assert [problem.partition(";")[0] for problem in problems] == [
        f"`medium` has {len(MEDIUM)} characters and the earlier one {len(MEDIUM)}",
        f"`detailed` has {len(DETAILED)} characters and the earlier one {len(DETAILED)}",
    ]


def test_what_is_short_already_may_stay() -> None:
    brief = [OPTIONS[0] | {"text": "Yes!"}, *OPTIONS[1:]]
    reply_format = make_format("shorter", over={"options": brief})
    assert accepted(reply_format, answer(changes=["shorter"], **(NEW_TEXTS | {"short": "Yep!"})))
    assert "`short`" in str(refused(reply_format, answer(changes=["shorter"], **(NEW_TEXTS | {"short": "Yes to all"}))))


@per_row(
    ("changes", "is_kept"), [([], False), (["shorter"], False), (["stance"], True), (["target"], True), (None, True)]
)
def test_a_decision_changes_only_if_the_words_ask_for_it(changes: list[str] | None, *, is_kept: bool) -> None:
    """An answer without ``changes`` comes from a model that does not follow the schema, and gets the benefit of the doubt."""
    text = answer("decline", "decline", "none", changes=changes, **NEW_TEXTS)
    if is_kept:
        assert accepted(make_format("no, politely"), text)
        return
    (problem,) = refused(make_format("shorter"), text).problems
    assert problem.startswith(
        "`short` takes the stance `decline` and the earlier one `accept`; keep that, or add `stance`"
    )


def test_other_drafts_keep_a_decision_that_all_had_made() -> None:
    declined = [option | {"stance": "decline"} for option in OPTIONS]
    others: dict[str, Any] = {
        "short": "I can't make it this time, sadly.",
        "medium": "That evening is no good for me, but thank you so much for thinking of me!",
        "detailed": "What a lovely idea, and how kind of you. This once I have to pass. Let us find another day.",
    }
    reply_format = make_format(over={"options": declined})
    assert "`detailed` takes the stance `accept`" in str(
        refused(reply_format, answer("decline", "decline", "accept", **others))
    )
    assert accepted(reply_format, answer("decline", "decline", "decline", **others))
    assert accepted(make_format(), answer("open", "accept", "decline", **others)), "undecided ones may change places"


GERMAN: dict[str, Any] = {
    "short": "Ja gerne, ich komme am Samstag!",
    "medium": "Tut mir leid, am Samstag kann ich leider nicht. Habt einen schönen Abend!",
    "detailed": "Das klingt wunderbar, vielen Dank für die Einladung! Bis wann müsst ihr denn wissen, ob ich komme?",
}


def test_the_language_changes_only_if_the_words_ask_for_it() -> None:
    assert accepted(make_format("auf Deutsch"), answer(changes=["language"], reply_language="de", **GERMAN))
    problems = refused(make_format("warmer"), answer(changes=["other"], reply_language="de", **GERMAN)).problems
    assert "`medium` is in the language `de` and the earlier one in `en`; keep that, or add `language`" in problems[0]


def test_replies_stay_in_the_language_that_the_words_had_asked_for() -> None:
    german = [option | {"text": text} for option, text in zip(OPTIONS, GERMAN.values(), strict=True)]
    reply_format = make_format(stance="accept", over={"options": german})
    assert "reply_language" not in reply_format.schema["properties"]
    assert accepted(reply_format, answer("accept", "accept", "accept", **GERMAN))
    assert "write it in `de`" in str(refused(reply_format, answer("accept", "accept", "accept")))


def test_another_target_is_answered_in_its_own_language_unless_the_words_had_asked_for_one() -> None:
    assert "reply_language" in make_format(answer_to="t2").schema["properties"]
    assert accepted(make_format(answer_to="t2"), answer("none", "none", "none", reply_language="de", **GERMAN))
    german = [option | {"text": text} for option, text in zip(OPTIONS, GERMAN.values(), strict=True)]
    assert "reply_language" not in make_format(answer_to="t2", over={"options": german}).schema["properties"]


def test_an_inherited_language_stays_unless_the_words_ask_for_another() -> None:
    parent = Parent(result=RESULT, reading=READING, wishes=(Wish(context="", options={"language": "de"}),))
    reply_format = made(Request(image_urls=(), context="warmer", options={}, parent=parent))
    assert "the earlier one in `de`" in str(refused(reply_format, answer(changes=["other"])))
    assert accepted(reply_format, answer(changes=["language"]))


def test_what_the_chain_said_and_what_was_seen_are_sources() -> None:
    wishes = (Wish(context="", options={}), Wish(context="I'm free from 14:00.", options={"facts": ["room 12"]}))
    result = RESULT | {"unsent_text": "For 3 people"}
    parent = Parent(result=result, reading=READING, wishes=wishes)
    reply_format = made(Request(image_urls=(), context="longer", options={}, parent=parent))
    draft = reply_format.read(answer(changes=["other"], detailed=f"{DETAILED} 14:00, room 12, for 3 people."))
    assert draft.result["options"][2]["unsupported"] == []
