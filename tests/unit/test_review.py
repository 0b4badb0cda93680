"""Which replies are acceptable, which are published early, and what one repair should improve."""

import json
from typing import Any

import pytest

from draftd.queue.outcome import Draft
from draftd.reply.answer import read
from draftd.reply.criteria import Criteria
from draftd.reply.facts import FactKind
from draftd.reply.partial import PartialReader
from draftd.reply.reply_format import AnswerRejected
from draftd.reply.result import Length, Result, ResultWarning, Stance, Unsupported
from draftd.request import Options
from tables import per_row

SHORT = "Yes, Friday works."
MEDIUM = "Sorry, Friday is not possible for me this time around."
DETAILED = "Who else is coming on Friday? If the others are there early, it depends on when the last train leaves."


def make_criteria(context: str | None = None, **over: Any) -> Criteria:
    known: dict[str, Any] = {"is_decided": bool(context or over.get("stance"))}
    known |= {
        name: over.pop(name)
        for name in ("is_decided", "avoided_texts", "parent_reading", "known_texts")
        if name in over
    }
    return Criteria(options=Options(**over), context=context, is_truncated=False, **known)


def make_answer(*stances: str, **over: Any) -> str:
    named = stances or ("accept", "decline", "open")
    answer: dict[str, Any] = {
        "shown": "message",
        "platform": "whatsapp",
        "language": "en",
        "me": "right-hand bubbles",
        "author": "Mia",
        "gist": "invites me for Friday",
        "expects": "decision",
        "warnings": [],
        "unsent_text": "",
        "quoted": ["Friday"],
        "reply_language": "en",
    }
    for length, text, stance in zip(("short", "medium", "detailed"), (SHORT, MEDIUM, DETAILED), named, strict=True):
        answer |= {f"{length}_stance": stance, f"{length}_angle": f"{length} one", length: text}
    answer |= {
        "platform_name": "WhatsApp",
        "content_type": "direct_message",
        "reply_needed": "yes",
        "summary": "Mia invites me.",
        "other_targets": [],
        "reading": ["Mia: are you coming on Friday?"],
        "missing": [],
        "confidence": "high",
    }
    return json.dumps(answer | over)


def published(text: str, criteria: Criteria) -> list[str]:
    partial = PartialReader(criteria).feed(text)
    return [option["length"] for option in partial["options"]] if partial else []


def rejected(text: str, criteria: Criteria | None = None) -> AnswerRejected:
    with pytest.raises(AnswerRejected) as caught:
        read(text, criteria or make_criteria())
    return caught.value


def accepted(text: str, criteria: Criteria | None = None, **how: Any) -> Result:
    draft: Draft = read(text, criteria or make_criteria(), **how)
    return Result.model_validate(draft.result)


# The decision is the requester's


@per_row("stances", [("accept", "decline", "open"), ("open", "decline", "accept"), ("choice", "open", "choice")])
def test_replies_that_leave_the_decision_to_the_requester_are_accepted(stances: tuple[str, ...]) -> None:
    text = make_answer(*stances)
    assert [option.stance for option in accepted(text).options] == [Stance(stance) for stance in stances]
    assert published(text, make_criteria()) == ["short", "medium", "detailed"]


@per_row(
    ("stances", "early"),
    [
        (("open", "open", "open"), ["short"]),
        (("accept", "open", "open"), ["short", "medium"]),
        (("open", "accept", "accept"), ["short", "medium"]),
        (("none", "none", "none"), ["short"]),
        (("", "whatever", "open"), ["short"]),
    ],
)
def test_replies_that_dodge_the_decision_are_repaired_once_and_then_accepted(
    stances: tuple[str, ...], early: list[str]
) -> None:
    text = make_answer(*stances)
    rejection = rejected(text)
    assert rejection.draft is not None
    assert [problem for problem in rejection.problems if "A decision is due" in problem]
    assert published(text, make_criteria()) == early, "what a repair must change is held back"
    assert accepted(text, is_repaired=True).options[0].text == SHORT


def test_two_choices_of_the_same_thing_are_no_decision() -> None:
    over = {"short_angle": "Monday", "medium_angle": "monday"}
    assert rejected(make_answer("choice", "choice", "open", **over)).draft
    assert accepted(make_answer("choice", "choice", "open", **over | {"medium_angle": "Tuesday"})).options


@per_row(
    ("criteria", "over"),
    [
        (make_criteria("Tell them I'm in."), {}),
        (make_criteria(is_decided=True), {}),
        (make_criteria(lengths=["short"]), {}),
        (make_criteria(), {"unsent_text": "Friday is"}),
        (make_criteria(), {"expects": "question"}),
        (make_criteria(), {"expects": "nothing"}),
    ],
)
def test_a_decision_that_is_made_or_not_due_is_left_alone(criteria: Criteria, over: dict[str, Any]) -> None:
    text = make_answer("accept", "accept", "accept", **over)
    assert accepted(text, criteria).options
    assert published(text, criteria) == list(criteria.lengths)


def test_the_stance_that_the_requester_chose_is_taken_by_all() -> None:
    criteria = make_criteria(stance="decline")
    text = make_answer("decline", "accept", "decline")
    assert rejected(text, criteria).problems == ("`medium` must take the stance `decline`.",)
    assert published(text, criteria) == ["short", "detailed"]
    assert accepted(make_answer("decline", "decline", "decline"), criteria).options


@per_row("stance", ["accept", "decline", "choice"])
def test_nothing_is_committed_to_where_an_injection_is_suspected(stance: str) -> None:
    text = make_answer("open", stance, "none", warnings=["possible_prompt_injection"])
    criteria = make_criteria()
    rejection = rejected(text)
    assert rejection.draft is None
    assert len(rejection.problems) == 1
    assert published(text, criteria) == ["short", "detailed"]
    with pytest.raises(AnswerRejected):
        read(text, criteria, is_repaired=True)


def test_where_an_injection_is_suspected_all_stances_are_open() -> None:
    result = accepted(make_answer("open", "none", "none", warnings=["possible_prompt_injection"]))
    assert [option.stance for option in result.options] == [Stance.OPEN] * 3


def test_a_missing_stance_means_open_only_where_a_decision_is_due() -> None:
    result = accepted(make_answer("", "", "", expects="social"))
    assert [option.stance for option in result.options] == [Stance.NONE] * 3


# Facts

AT_TWO = "Yes, Friday at 14:00."


def test_a_fact_without_a_source_is_worth_one_repair_and_then_marked() -> None:
    text = make_answer(short=AT_TWO)
    rejection = rejected(text)
    assert rejection.draft is not None
    assert [problem for problem in rejection.problems if '`short` states "14:00"' in problem] == [*rejection.problems]
    result = accepted(text, is_repaired=True)
    assert [option.unsupported for option in result.options] == [
        [Unsupported(quote="14:00", kind=FactKind.TIME)],
        [],
        [],
    ]
    assert ResultWarning.UNSUPPORTED_FACT in result.warnings
    assert published(text, make_criteria()) == ["medium", "detailed"], "what a repair must change is held back"


@per_row(
    ("criteria", "over"),
    [
        (make_criteria("Two pm suits me."), {}),
        (make_criteria(known_texts=("2 pm",)), {}),
        (make_criteria(), {"quoted": ["Friday", "2 p.m."]}),
        (make_criteria(), {"unsent_text": "Friday 2 pm is"}),
        (make_criteria(), {"reading": ["Mia: are you coming on Friday, 2:00 p.m.?"]}),
    ],
    ids=["context", "what the requester gave", "copied before the replies", "unsent text", "reading"],
)
def test_a_fact_that_a_source_has_needs_no_repair(criteria: Criteria, over: dict[str, Any]) -> None:
    text = make_answer(short=AT_TWO, **over)
    result = accepted(text, criteria)
    assert (result.options[0].unsupported, result.warnings) == ([], [])
    waits = "reading" in over
    assert ("short" in published(text.partition('"platform_name"')[0], criteria)) is not waits
    assert "short" in published(text, criteria)


@per_row("expects", ["question", "recommendation", "help"])
def test_public_knowledge_that_was_asked_for_is_marked_without_a_repair(expects: str) -> None:
    text = make_answer("none", "none", "none", expects=expects, short="It opened in 1889.")
    result = accepted(text)
    assert result.options[0].unsupported == [Unsupported(quote="1889", kind=FactKind.NUMBER)]
    assert ResultWarning.UNSUPPORTED_FACT in result.warnings
    assert published(text, make_criteria()) == ["short", "medium", "detailed"]


@per_row(
    ("reply", "over", "is_repaired"),
    [
        ("It takes five days.", {"expects": "statement"}, False),
        ("It takes five days.", {"expects": "social"}, False),
        ("It takes five days.", {"expects": "decision", "short_stance": "choice", "medium_stance": "choice"}, True),
        ("It costs €5.", {"expects": "statement"}, True),
        ("From 3.11 on.", {"expects": "statement", "platform": "github"}, False),
        ("From 3.11 on.", {"expects": "statement", "platform": "whatsapp"}, True),
        ("From `python>=3.11` on.", {"expects": "statement"}, False),
        ("It was in the 1960s.", {"expects": "statement"}, False),
        ("It was in 1960.", {"expects": "statement", "platform": "github"}, True),
    ],
)
def test_a_fact_that_costs_little_if_it_is_wrong_is_marked_without_a_repair(
    reply: str, over: dict[str, Any], *, is_repaired: bool
) -> None:
    text = make_answer("none", "none", "none", **{"short": reply, "detailed": f"{DETAILED} See you there.", **over})
    assert ("short" in published(text, make_criteria())) is not is_repaired
    assert [problem for problem in repairs(text) if problem.startswith("`short` states")] == (
        [f'`short` states "{quote(text)}", which stands nowhere in what was read or given; say it without that.']
        if is_repaired
        else []
    )
    result = accepted(text, is_repaired=True)
    assert result.options[0].unsupported
    assert ResultWarning.UNSUPPORTED_FACT in result.warnings


def test_a_repair_names_only_what_it_should_take_out() -> None:
    text = make_answer("none", "none", "none", expects="statement", short="Five days, €5.")
    assert [problem.partition(",")[0] for problem in repairs(text)] == ['`short` states "€5"']
    assert [one.quote for one in accepted(text, is_repaired=True).options[0].unsupported] == ["Five days", "€5"]


def repairs(text: str) -> list[str]:
    try:
        read(text, make_criteria())
    except AnswerRejected as rejection:
        return list(rejection.problems)
    return []


def quote(text: str) -> str:
    return accepted(text, is_repaired=True).options[0].unsupported[0].quote


def test_a_link_that_is_removed_is_not_listed() -> None:
    result = accepted(make_answer(short="Yes, Friday. See https://example.com/list"))
    assert (result.options[0].text, result.options[0].unsupported) == ("Yes, Friday.", [])
    assert result.warnings == [ResultWarning.UNSEEN_LINK_REMOVED]


def test_a_published_option_is_not_repaired_for_its_facts() -> None:
    options: Any = {}
    PartialReader(make_criteria(), options).feed(make_answer("none", "none", "none", expects="help", short=AT_TWO))
    result = accepted(make_answer("none", "none", "none", expects="social"), published=options)
    assert result.options[0].unsupported == [Unsupported(quote="14:00", kind=FactKind.TIME)]
    assert ResultWarning.UNSUPPORTED_FACT in result.warnings


def test_a_published_option_loses_a_mark_whose_source_was_read_later() -> None:
    options: Any = {}
    early = make_answer("none", "none", "none", expects="help", short=AT_TWO, reading=["Mia: 14:00 at the café?"])
    PartialReader(make_criteria(), options).feed(early.partition('"reading"')[0])
    assert options[Length.SHORT].unsupported
    result = accepted(early, published=options)
    assert (result.options[0].text, result.options[0].unsupported) == (AT_TWO, [])
    assert ResultWarning.UNSUPPORTED_FACT not in result.warnings


def test_a_published_option_is_marked_if_what_it_states_was_not_read_in_the_end() -> None:
    options: Any = {}
    PartialReader(make_criteria(), options).feed(make_answer(short=AT_TWO, quoted=["Friday", "2 p.m."]))
    again = accepted(make_answer(short=AT_TWO, quoted=["Friday", "2 p.m."]), published=options)
    assert again.warnings == []
    result = accepted(make_answer(), published=options)
    assert result.options[0].text == AT_TWO
    assert result.options[0].unsupported == [Unsupported(quote="14:00", kind=FactKind.TIME)]
    assert result.warnings == [ResultWarning.UNSUPPORTED_FACT]


# Language

GERMAN = "Leider passt mir der Freitag diesmal überhaupt nicht, tut mir leid."


@per_row(
    ("criteria", "over", "found", "expected"),
    [
        (make_criteria(), {"medium": GERMAN}, "de", "en"),
        (
            make_criteria(language="de"),
            {"short": "Пятница подходит.", "medium": GERMAN, "detailed": GERMAN * 2},
            "ru",
            "de",
        ),
        (
            make_criteria("auf Deutsch"),
            {"reply_language": "de", "short": "Ja, gern.", "detailed": GERMAN * 2},
            "en",
            "de",
        ),
    ],
    ids=["read", "asked for", "named by the model"],
)
def test_a_reply_in_another_language_is_repaired_once_and_then_refused(
    criteria: Criteria, over: dict[str, Any], found: str, expected: str
) -> None:
    text = make_answer(**over)
    rejection = rejected(text, criteria)
    assert rejection.draft is None
    assert [
        problem
        for problem in rejection.problems
        if f"is in the language `{found}`; write it in `{expected}`" in problem
    ]
    assert len(published(text, criteria)) == 2
    with pytest.raises(AnswerRejected):
        read(text, criteria, is_repaired=True)


def test_replies_in_the_language_that_was_asked_for_are_accepted() -> None:
    german = {"short": "Ja, gern.", "medium": GERMAN, "detailed": GERMAN + " Wer kommt denn sonst noch alles mit?"}
    assert accepted(make_answer(**german), make_criteria(language="de")).options
    assert accepted(make_answer(**german, reply_language="de"), make_criteria("auf Deutsch")).options
    assert accepted(make_answer(**german, language="und", reply_language="und")).options


def test_what_the_requester_has_begun_is_continued_in_its_own_language() -> None:
    begun = {"unsent_text": "Leider passt mir der Freitag diesmal", "medium": GERMAN}
    assert accepted(make_answer(**begun)).options
    assert rejected(make_answer(**begun), make_criteria(language="en")).draft is None


# No reply due


def test_where_no_reply_is_due_the_order_of_length_does_not_count() -> None:
    text = make_answer(expects="nothing", short=MEDIUM, medium=SHORT, detailed="See you all there then, take care.")
    assert [option.text for option in accepted(text).options][:2] == [MEDIUM, SHORT]
    assert published(text, make_criteria()) == ["short", "medium", "detailed"]
    assert rejected(make_answer(short=MEDIUM, medium=SHORT)).draft is None


def test_where_no_reply_is_due_a_line_has_at_most_140_characters() -> None:
    assert accepted(make_answer(expects="nothing", detailed="y" * 140)).options
    over = make_answer(expects="nothing", detailed="y" * 141)
    assert "141 characters" in rejected(over).problems[0]
    assert published(over, make_criteria()) == ["short", "medium"]
    assert accepted(make_answer(detailed="y" * 141)).options


# What is wanted


@per_row("lengths", [["medium"], ["short", "detailed"], ["detailed", "medium", "short"]])
def test_only_the_lengths_that_are_wanted_are_in_the_result(lengths: list[str]) -> None:
    criteria = make_criteria("yes", lengths=lengths)
    text = make_answer()
    in_order = [length for length in Length if length in lengths]
    assert [option.length for option in accepted(text, criteria).options] == in_order
    assert published(text, criteria) == in_order


def test_a_draft_that_resembles_one_of_the_chain_is_not_another_one() -> None:
    criteria = make_criteria(avoided_texts=("Something else.", MEDIUM.upper()), is_decided=True)
    text = make_answer()
    assert rejected(text, criteria).problems == ("`medium` resembles an earlier draft; write another reply.",)
    assert published(text, criteria) == ["short", "detailed"]


def test_the_unsent_text_and_the_other_targets_are_in_the_result() -> None:
    others = ["Ana: asks: what does it cost?", "no author", "", *["Bo: hi"] * 9]
    result = accepted(make_answer(unsent_text="Friday is", other_targets=others))
    assert result.unsent_text == "Friday is"
    assert [(one.key, one.author, one.gist) for one in result.other_targets] == [
        ("t1", "Ana", "asks: what does it cost?"),
        ("t2", "", "no author"),
        *((f"t{number}", "Bo", "hi") for number in (3, 4, 5)),
    ]


def test_a_refinement_keeps_the_messages_as_they_were_read() -> None:
    criteria = make_criteria("warmer", parent_reading=("Mia: Friday?", "Ana: how much?"))
    assert read(make_answer(), criteria).reading == ["Mia: Friday?", "Ana: how much?"]


def test_a_link_that_was_copied_before_the_replies_waits_for_the_message_it_stands_in() -> None:
    link = "https://example.com/list"
    text = make_answer(short=f"Yes, {link}", quoted=["Friday", link], reading=[f"Mia: Friday? {link}"])
    assert published(text.partition('"reading"')[0], make_criteria()) == ["medium", "detailed"]
    assert published(text, make_criteria()) == ["short", "medium", "detailed"]


@per_row("key", ["quoted", "reading"])
def test_a_refinement_has_no_link_that_was_not_read_before(key: str) -> None:
    link = "https://example.com/list"
    text = make_answer(short=f"Yes. See {link}", **{key: [link]})
    criteria = make_criteria("warmer", parent_reading=("Mia: Friday?",))
    assert accepted(text, criteria).options[0].text == "Yes."
    assert published(text, criteria) == ["medium", "detailed"]


def test_replies_that_continue_one_beginning_are_compared_by_what_they_add() -> None:
    begun = "Redwoods live for two thousand years and keep their carbon for all of that time, which no crop does."
    texts = {
        "short": f"{begun} Plant more of them.",
        "medium": f"{begun} The question is who waits so long.",
        "detailed": f"{begun} And the old ones store the most, so the first thing is to keep those.",
    }
    answer = make_answer("none", "none", "none", expects="statement", unsent_text=begun, quoted=[], **texts)
    assert [option.text for option in accepted(answer).options] == list(texts.values())
    with pytest.raises(AnswerRejected, match="says the same as"):
        read(json.dumps(json.loads(answer) | {"unsent_text": ""}), make_criteria())


# What was published stays


def test_a_published_option_takes_the_place_of_the_answers() -> None:
    first, second = (
        make_answer(),
        make_answer(short="No way.", medium="Nope, that will not work for me on a Friday, sorry."),
    )
    options: Any = {}
    reader = PartialReader(make_criteria(), options)
    reader.feed(first.partition('"medium_stance"')[0])
    assert [option.text for option in accepted(second, published=options).options] == [
        SHORT,
        "Nope, that will not work for me on a Friday, sorry.",
        DETAILED,
    ]


def test_the_other_replies_are_judged_by_the_published_ones() -> None:
    options: Any = {}
    PartialReader(make_criteria(), options).feed(make_answer(short="Dear [Name]"))
    assert set(options) == {"medium", "detailed"}
    with pytest.raises(AnswerRejected) as caught:
        read(make_answer(short=MEDIUM, medium="x", detailed="y"), make_criteria(), published=options)
    assert caught.value.problems == ("`short` says the same as `medium`; give it an angle and content of its own.",)
    with pytest.raises(AnswerRejected, match="must not be the longer one"):
        read(make_answer(short="w" * 60), make_criteria(), published=options)


def test_what_fails_late_in_a_published_option_is_marked_and_not_changed() -> None:
    options: Any = {}
    PartialReader(make_criteria(), options).feed(make_answer(detailed="y" * 200))
    second = make_answer(expects="nothing", platform="x", warnings=["possible_prompt_injection"])
    result = accepted(second, published=options)
    assert [option.text for option in result.options] == [SHORT, MEDIUM, "y" * 200]
    assert ResultWarning.EARLY_OPTION_DOUBTFUL in result.warnings
    assert (
        ResultWarning.EARLY_OPTION_DOUBTFUL
        not in accepted(make_answer(), published=dict(list(options.items())[:1])).warnings
    )
