"""From a model's text to a result: find the JSON object, check the replies, or list what is wrong.

Owns which drafts are acceptable. A fault that people would notice after sending (an empty reply, a placeholder such as
``[Name]``, a text too long for the platform, three equal replies) rejects the whole answer; all faults are listed together so
that one repair can fix them. Faults that can be fixed here are fixed here. Invariant: what ``read`` returns satisfies section 2
of the contract.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from draftd.errors import NothingToReplyTo
from draftd.queue.outcome import Draft
from draftd.reply import links, model_answer, placeholders, platforms
from draftd.reply.model_answer import ModelAnswer
from draftd.reply.platforms import Platform
from draftd.reply.reply_format import AnswerRejected
from draftd.reply.result import Length, Option, ReplyingTo, ReplyNeeded, Result, ResultWarning
from draftd.request import Options

SAME_FROM = 0.8
"""Two replies with at least this share of common trigrams say the same. A swapped opening or an added word scores 0.81 to 0.96; a
longer reply that quotes the same facts, or begins like the shorter one, 0.16 to 0.64 (``tests/unit/test_answer.py`` has both)."""
MAX_OBJECT_STARTS = 2_000
"""How many opening braces are tried."""
MAX_READINGS = 50
"""How often the text may be read in total: an answer in three wrappers takes four readings, and a text made of brackets must not
take seconds."""

_ANSWER_KEYS = frozenset({"has_message", *(length.value for length in Length)})
_DECODER = json.JSONDecoder(strict=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """What an answer is checked against."""

    options: Options
    context: str | None
    is_truncated: bool
    """Whether a part of a picture was left out."""
    known_texts: tuple[str, ...] = ()
    """Further texts that a link may come from: the parent's reading and options, voice samples."""


def answer_schema(criteria: Criteria) -> dict[str, Any]:
    """Return the JSON schema of the answer."""
    return model_answer.schema(translated=criteria.options.reader_language is not None)


def read(text: str, criteria: Criteria) -> Draft:
    """Turn a model's complete answer into a draft.

    Args:
        text: the answer; code fences, prose and objects before the last one are ignored.
        criteria: what the answer is checked against.

    Raises:
        AnswerRejected: the answer must be repaired; ``problems`` says how.
        NothingToReplyTo: the model saw no message.
    """
    found = last_object(text)
    if found is None:
        raise AnswerRejected(
            ["The answer holds no complete JSON object; answer with exactly one, and nothing around it."]
        )
    answer = ModelAnswer.model_validate(found)
    if not answer.has_message:
        raise NothingToReplyTo
    review = Review(answer=answer, criteria=criteria)
    unseen = {length: review.unseen_links(length) for length in Length}
    options = [review.option(length, unseen[length]) for length in Length]
    problems = [] if answer.summary else ["`summary` is empty; say in one sentence what the screenshot shows."]
    for index, option in enumerate(options):
        problems += review.problems(option, options[:index])
    removed = list(dict.fromkeys(chain.from_iterable(unseen.values())))
    if problems and removed:
        # Removing links may have left a reply empty or too short, which the model could not explain otherwise.
        problems.append(f"Links that are not in the input were removed ({', '.join(removed)}); write without them.")
    if problems:
        raise AnswerRejected(problems)
    warnings = _warnings(answer, criteria, removed=bool(removed))
    return Draft(result=_result(answer, options, warnings).as_json(), reading=answer.reading)


def repair_request(problems: Sequence[str]) -> str:
    """Return the message that asks the model to correct its last answer."""
    listed = "\n".join(f"- {problem}" for problem in problems)
    return (
        "Your last answer cannot be used:\n"
        f"{listed}\n"
        "Answer again with the whole corrected JSON object, all keys in the order of the schema, and nothing around "
        "it. Keep what was not named."
    )


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """The checks of one answer, complete or still being written."""

    answer: ModelAnswer
    criteria: Criteria

    def unseen_links(self, length: Length) -> list[str]:
        """Return the links of a reply that appear neither in the screenshot nor in the requester's texts."""
        sources = [*self.answer.reading, *self.criteria.known_texts, self.criteria.context or ""]
        return links.unseen(self._written(length), sources)

    def option(self, length: Length, unseen: Sequence[str] = ()) -> Option:
        """Return a reply as a client would read it, without its unseen links.

        It is not checked yet: the text may be empty, and an empty translation is one that is required but missing.
        """
        return Option.model_construct(
            length=length,
            angle=self.answer.angle(length),
            text=links.remove(self.answer.text(length), unseen),
            translation=self._translation(length, unseen),
        )

    def problems(self, option: Option, earlier: Sequence[Option]) -> list[str]:
        """Return why a reply is not acceptable, as sentences that a model can act on; empty if it is."""
        name, options = option.length.value, self.criteria.options
        if not option.text:
            return [f"`{name}` is empty; write the reply."]
        problems = []
        found = placeholders.find(option.text, code=self.answer.platform is Platform.GITHUB)
        if found:
            problems.append(
                f"`{name}` has a placeholder ({', '.join(found[:3])}); word it so that nothing needs to be filled in."
            )
        is_private = self.answer.content_type.is_private
        too_long = platforms.too_long(
            option.text, self.answer.platform, is_private=is_private, max_chars=options.max_chars
        )
        if too_long:
            problems.append(
                f"`{name}` {too_long}; shorten it, and the others so that each is at least as long as the one before."
            )
        if links.too_many(self._written(option.length)):
            problems.append(f"`{name}` has more than {links.MAX_LINKS} links; write it with fewer.")
        if option.translation == "":
            problems.append(f"`{name}_translation` is empty; give the reply in {options.reader_language}.")
        return problems + _against_earlier(option, earlier)

    def _translation(self, length: Length, unseen: Sequence[str]) -> str | None:
        """Return the reply in the reader's language, or None if none is required."""
        answer, reader = self.answer, self.criteria.options.reader_language
        if reader is None:
            return None
        if not _differ(self.criteria.options.language or answer.language, reader):
            # The reply itself is in the reader's language. It is repeated here because a client may rely on the key whenever
            # the conversation is in another language.
            return links.remove(answer.text(length), unseen) if _differ(answer.language, reader) else None
        return links.remove(answer.translation(length), unseen)

    def _written(self, length: Length) -> str:
        return f"{self.answer.text(length)}\n{self.answer.translation(length)}"


def _differ(language: str, other: str) -> bool:
    return language.partition("-")[0].lower() != other.partition("-")[0].lower()


def _against_earlier(option: Option, earlier: Sequence[Option]) -> list[str]:
    problems = []
    if earlier and len(option.text) < len(earlier[-1].text):
        problems.append(
            f"`{option.length}` has {len(option.text)} characters and `{earlier[-1].length}` {len(earlier[-1].text)}; "
            f"`{option.length}` must not be the shorter one."
        )
    return problems + [
        f"`{option.length}` says the same as `{other.length}`; give it an angle and content of its own."
        for other in earlier
        if same(option.text, other.text)
    ]


def same(one: str, other: str) -> bool:
    """Return whether two replies say the same, regardless of case, punctuation and spacing."""
    first, second = _plain(one), _plain(other)
    if first == second:
        return True
    a, b = _trigrams(first), _trigrams(second)
    return 2 * (a & b).total() >= SAME_FROM * (a.total() + b.total())


def _plain(text: str) -> str:
    # Otherwise all replies made of symbols alone would be equal.
    return " ".join(re.findall(r"\w+", text.casefold())) or text.strip()


def _trigrams(text: str) -> Counter[str]:
    padded = f" {text} "
    return Counter(padded[start : start + 3] for start in range(len(padded) - 2))


def _warnings(answer: ModelAnswer, criteria: Criteria, *, removed: bool) -> list[ResultWarning]:
    local = {
        ResultWarning.NO_REPLY_EXPECTED: answer.reply_needed is ReplyNeeded.NO,
        ResultWarning.IMAGE_TRUNCATED: criteria.is_truncated,
        ResultWarning.UNSEEN_LINK_REMOVED: removed,
    }
    return [warning for warning in ResultWarning if warning in answer.warnings or local.get(warning)]


def _result(answer: ModelAnswer, options: list[Option], warnings: list[ResultWarning]) -> Result:
    return Result.model_validate(
        seen_of(answer)
        | {
            "replying_to": ReplyingTo(author=answer.author, gist=answer.gist),
            "options": options,
            "missing": answer.missing,
            "confidence": answer.confidence,
            "warnings": warnings,
        }
    )


def seen_of(answer: ModelAnswer) -> dict[str, Any]:
    """Return the result's keys about the screenshot, in the result's order."""
    keys = ("platform", "platform_name", "content_type", "language", "summary", "me", "reply_needed")
    return {key: getattr(answer, key) for key in keys}
