"""From a model's text to a result: find the JSON object, check the replies, or list what is wrong.

All faults of an answer are listed together, so that one repair can fix them; ``review`` finds them. Faults that can be fixed here
are fixed here. Invariants: what ``read`` returns satisfies section 2 of the contract, and contains published options unchanged.
"""

import json
from collections.abc import Sequence
from itertools import chain
from typing import Any

from draftd.errors import InvalidRequest, NothingOpen, NothingToReplyTo
from draftd.queue.outcome import Draft
from draftd.reply import links, model_answer, refinement
from draftd.reply.criteria import Criteria
from draftd.reply.model_answer import ModelAnswer, Shown
from draftd.reply.reply_format import AnswerRejected
from draftd.reply.result import Expects, Length, Option, ReplyingTo, ReplyNeeded, Result, ResultWarning
from draftd.reply.review import OptionMap, Review

MAX_OBJECT_STARTS = 2_000
"""How many opening braces are tried."""
MAX_READINGS = 50
"""How often the text may be read in total: an answer in three wrappers takes four readings, and a text made of brackets must not
take seconds."""

_ANSWER_KEYS = frozenset({"shown", *(length.value for length in Length)})
_DECODER = json.JSONDecoder(strict=False)
_NOTHING_PUBLISHED: OptionMap = {}


def answer_schema(criteria: Criteria) -> dict[str, Any]:
    """Return the JSON schema of the answer."""
    return model_answer.schema(
        lengths=criteria.lengths,
        translated=criteria.options.reader_language is not None,
        with_reading=criteria.parent_reading is None,
        with_reply_language=criteria.may_change_language,
        with_changes=criteria.carried.asks_for_changes,
        without={*criteria.carried.values, *(() if criteria.parent_reading is None else ("quoted",))},
    )


def read(
    text: str, criteria: Criteria, *, published: OptionMap = _NOTHING_PUBLISHED, is_repaired: bool = False
) -> Draft:
    """Turn a model's complete answer into a draft.

    Args:
        text: the answer; code fences, prose and objects before the last one are ignored.
        criteria: what the answer is checked against.
        published: options that the attempt has published, which take the place of the answer's.
        is_repaired: whether the answer is a repaired one, which need not fulfil wishes.

    Raises:
        AnswerRejected: the answer must be repaired; ``problems`` says how.
        NothingToReplyTo: the model saw no message.
        NothingOpen: the model saw a list of which none is open.
        InvalidRequest: the message to answer is not in the parent's reading.
    """
    review = Review(answer=criteria.carried.completed(_answer_in(text)), criteria=criteria)
    _check_shown(review.answer, criteria)
    unseen = {length: review.unseen_links(length) for length in criteria.lengths if length not in published}
    options = {
        length: review.marked(published[length]) if length in published else review.option(length, unseen[length])
        for length in criteria.lengths
    }
    removed = list(dict.fromkeys(chain.from_iterable(unseen.values())))
    seen = review.screened()
    problems = _problems(review, seen, options, published, removed)
    wishes = [] if is_repaired else [*review.wishes(options, published), *_wishes_for_hosts(removed)]
    if problems:
        raise AnswerRejected([*problems, *wishes])
    result = _result(seen, options, _warnings(review, options, published, removed))
    reading = seen.reading if criteria.parent_reading is None else list(criteria.parent_reading)
    draft = Draft(result=result.as_json(), reading=reading)
    if wishes:
        raise AnswerRejected(wishes, draft=draft)
    return draft


def repair_request(problems: Sequence[str], published: OptionMap = _NOTHING_PUBLISHED) -> str:
    """Return the message that asks the model to correct its last answer."""
    listed = "\n".join(f"- {problem}" for problem in problems)
    note = published_note(published)
    return (
        "Your last answer cannot be used:\n"
        f"{listed}\n"
        "Answer again with the whole corrected JSON object, all keys in the same order, and nothing around it. Keep what "
        "was not named." + (f"\n{note}" if note else "")
    )


def published_note(published: OptionMap) -> str:
    """Return the message that names the replies that can no longer be changed; empty if there are none."""
    if not published:
        return ""
    texts = {length: published[length].text for length in Length if length in published}
    return (
        "The requester has already been shown these replies. Repeat them unchanged, and write the others so that they "
        f"differ from them and fit the order of lengths:\n{json.dumps(texts, ensure_ascii=False, indent=1)}"
    )


def _answer_in(text: str) -> ModelAnswer:
    found = last_object(text)
    if found is None:
        raise AnswerRejected(
            ["The answer holds no complete JSON object; answer with exactly one, and nothing around it."]
        )
    return ModelAnswer.model_validate(found)


def _check_shown(answer: ModelAnswer, criteria: Criteria) -> None:
    if answer.shown is Shown.MESSAGE:
        return
    if criteria.parent_reading is not None:
        # Only a named target can be missing from what was read: the parent's drafts answered the other one.
        raise InvalidRequest(refinement.SEND_AGAIN) if criteria.options.answer_to else NothingToReplyTo
    raise NothingOpen if answer.shown is Shown.CLOSED_LIST else NothingToReplyTo


def _problems(
    review: Review, seen: ModelAnswer, options: OptionMap, published: OptionMap, removed: Sequence[str]
) -> list[str]:
    """Return why an answer is not acceptable, apart from its published options, which cannot be changed."""
    problems = [] if seen.summary else ["`summary` is empty; say in one sentence what the screenshot shows."]
    for length in options:
        if length not in published:
            problems += review.problems(options[length], _others(length, options, published))
    if problems and removed:
        # Removing links may have left a reply empty or too short, which the model could not explain otherwise.
        problems.append(f"Links that are not in the input were removed ({', '.join(removed)}); write without them.")
    return problems


def _others(length: Length, options: OptionMap, published: OptionMap) -> list[Option]:
    """Return the replies that one is judged by: those before it, and those that cannot be changed any more."""
    before = list(options)[: list(options).index(length)]
    return [option for other, option in options.items() if other in before or (other in published and other != length)]


def last_object(text: str) -> dict[str, Any] | None:
    """Return the last complete JSON object in a text that looks like an answer, or None.

    The last, because a model may first quote an object from the screenshot. For the same reason, returns None if another
    object begins after it: that one is the model's own, truncated. Searches inside an object without answer keys, because
    some models wrap their answer.
    """
    last: dict[str, Any] | None = None
    last_to = 0
    position = text.find("{")
    budget_chars = MAX_READINGS * len(text)
    for _ in range(MAX_OBJECT_STARTS):
        if position < 0 or budget_chars <= 0:
            break
        found, read_to = _decoded(text, position)
        budget_chars -= read_to - position
        if isinstance(found, dict) and _ANSWER_KEYS & found.keys():
            last, last_to, position = found, read_to, read_to
        else:
            position += 1
        position = text.find("{", position)
    return None if model_answer.ANSWER_START.search(text, last_to) else last


def _decoded(text: str, position: int) -> tuple[Any, int]:
    """Return the value that begins at a position, or None, and the position up to which the text was read."""
    try:
        return _DECODER.raw_decode(text, position)
    except json.JSONDecodeError as error:
        return None, max(error.pos, position + 1)
    except (ValueError, RecursionError):
        return None, len(text)


def _warnings(review: Review, options: OptionMap, published: OptionMap, removed: Sequence[str]) -> list[ResultWarning]:
    answer = review.answer
    local = {
        ResultWarning.POSSIBLE_PROMPT_INJECTION: review.is_injected,
        ResultWarning.NO_REPLY_EXPECTED: answer.expects is None,
        ResultWarning.IMAGE_TRUNCATED: review.criteria.is_truncated,
        ResultWarning.UNSEEN_LINK_REMOVED: bool(removed),
        ResultWarning.UNSUPPORTED_FACT: any(option.unsupported for option in options.values()),
        ResultWarning.EARLY_OPTION_DOUBTFUL: any(review.problems(option, ()) for option in published.values()),
    }
    return [warning for warning in ResultWarning if warning in answer.warnings or local.get(warning)]


def _wishes_for_hosts(removed: Sequence[str]) -> list[str]:
    """Return what one repair should improve: a sentence may need the name that was removed with a host."""
    hosts = ", ".join(filter(links.is_bare, removed))
    return [f"Addresses that are not in the input were removed ({hosts}); write without them."] if hosts else []


def _result(answer: ModelAnswer, options: OptionMap, warnings: list[ResultWarning]) -> Result:
    return Result.model_validate(
        seen_of(answer)
        | {
            "replying_to": replying_to(answer),
            "options": list(options.values()),
            "other_targets": answer.other_targets,
            "unsent_text": answer.unsent_text or None,
            "missing": answer.missing,
            "confidence": answer.confidence,
            "warnings": warnings,
        }
    )


def seen_of(answer: ModelAnswer) -> dict[str, Any]:
    """Return the result's keys about the screenshot, in the result's order."""
    keys = ("platform", "platform_name", "content_type", "language", "summary", "me")
    return {key: getattr(answer, key) for key in keys} | {"reply_needed": _reply_needed(answer)}


def replying_to(answer: ModelAnswer) -> ReplyingTo:
    """Return whom the replies answer, and what that message wants."""
    return ReplyingTo(author=answer.author, gist=answer.gist, expects=answer.expects or Expects.STATEMENT)


def _reply_needed(answer: ModelAnswer) -> ReplyNeeded:
    """Return what the model says, unless it contradicts what the replies were checked by."""
    if answer.expects is None:
        return ReplyNeeded.NO
    return ReplyNeeded.YES if answer.reply_needed is ReplyNeeded.YES else ReplyNeeded.UNCLEAR
