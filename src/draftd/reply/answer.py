"""From a model's text to a result: find the object, check what counts, or say what is wrong.

Owns which drafts are good enough. A fault that a person would notice after sending (an empty reply, a gap such as
``[Name]``, a text that the platform cuts, three times the same) makes the whole answer unacceptable, with every fault
named at once, so that one repair can mend all. A fault that can be mended here is mended here. Invariant: what ``read``
returns keeps section 2 of the contract.
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
from draftd.reply.reply_format import Unacceptable
from draftd.reply.result import Length, Option, ReplyingTo, ReplyNeeded, Result, ResultWarning
from draftd.request import Options

SAME_FROM = 0.8
"""From this share of common trigrams on two replies say the same: a swapped opening or one added word reaches 0.81 to
0.96, a longer reply that quotes the same facts, or opens with the shorter one, 0.16 to 0.64
(``tests/unit/test_answer.py`` holds both)."""
MAX_OBJECT_STARTS = 2_000
MAX_READINGS = 50
"""So many opening braces are tried, and so often a text is read over for them: an answer inside three wrappers takes four
readings, and a text that is made of brackets must not cost seconds."""

_ANSWER_KEYS = frozenset({"has_message", *(length.value for length in Length)})
_DECODER = json.JSONDecoder(strict=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What an answer is held against."""

    options: Options
    context: str | None
    truncated: bool
    """Whether a part of a picture was left out."""
    seen: tuple[str, ...] = ()
    """Further texts that a link may come from: the parent's reading and options, voice samples."""


def wire_schema(terms: Terms) -> dict[str, Any]:
    """Return the JSON schema that the model has to meet."""
    return model_answer.schema(translated=terms.options.reader_language is not None)


def read(text: str, terms: Terms) -> Draft:
    """Make a result of a model's whole answer.

    Args:
        text: the answer as it came: fences, prose and further objects around the last one are ignored.
        terms: what the client asked for and what was shown to the model.

    Raises:
        Unacceptable: the answer must be repaired; ``problems`` says how.
        NothingToReplyTo: the model saw no message.
    """
    found = last_object(text)
    if found is None:
        raise Unacceptable(
            ["The answer holds no complete JSON object; answer with exactly one, and nothing around it."]
        )
    answer = ModelAnswer.model_validate(found)
    if not answer.has_message:
        raise NothingToReplyTo
    unseen = {length: unseen_links(answer, length, terms) for length in Length}
    options = [option_of(answer, length, terms, unseen[length]) for length in Length]
    problems = [] if answer.summary else ["`summary` is empty; say in one sentence what the screenshot shows."]
    for index, option in enumerate(options):
        problems += problems_of(option, options[:index], answer, terms)
    removed = list(dict.fromkeys(chain.from_iterable(unseen.values())))
    if problems and removed:
        # A reply may have become empty or too short by this, and the model would look for another reason.
        problems.append(f"Links that nobody showed were taken out ({', '.join(removed)}); write without them.")
    if problems:
        raise Unacceptable(problems)
    warnings = _warnings(answer, terms, removed=bool(removed))
    return Draft(result=_result(answer, options, warnings).as_json(), reading=answer.reading)


def repair_request(problems: Sequence[str]) -> str:
    """Return the message that asks the model to mend its last answer."""
    listed = "\n".join(f"- {problem}" for problem in problems)
    return (
        "Your last answer cannot be used:\n"
        f"{listed}\n"
        "Answer again with the whole corrected JSON object, all keys in the order of the schema, and nothing around "
        "it. Keep what was not named."
    )


def last_object(text: str) -> dict[str, Any] | None:
    """Return the last complete JSON object in a text that looks like an answer, or None.

    The last, because a model can quote an object that the screenshot shows before it writes its own. For the same
    reason there is none when another one begins after it: that is the model's own, and it was cut off. An object
    without any key of an answer is looked into: some models wrap.
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
    return None if model_answer.BEGINNING.search(text, last_to) else last


def _decoded(text: str, position: int) -> tuple[Any, int]:
    """Return the value that begins at a position, or None, and up to where the text was read for it."""
    try:
        return _DECODER.raw_decode(text, position)
    except json.JSONDecodeError as error:
        return None, max(error.pos, position + 1)
    except (ValueError, RecursionError):
        return None, len(text)


def option_of(answer: ModelAnswer, length: Length, terms: Terms, unseen: Sequence[str]) -> Option:
    """Return one reply as a client would read it, without its unseen links.

    It is not checked yet: its text may be empty, and an empty translation is one that is due and missing.
    """
    return Option.model_construct(
        length=length,
        angle=answer.angle(length),
        text=links.without(answer.text(length), unseen),
        translation=_translation(answer, length, terms, unseen),
    )


def _translation(answer: ModelAnswer, length: Length, terms: Terms, unseen: Sequence[str]) -> str | None:
    """Return the reply in the reader's language, or None when none is due."""
    reader = terms.options.reader_language
    if reader is None:
        return None
    if not _differ(terms.options.language or answer.language, reader):
        # The reply itself is what the reader can read; a client may count on the key when the conversation's language
        # is another.
        text = links.without(answer.text(length), unseen)
        return text if _differ(answer.language, reader) else None
    return links.without(answer.translation(length), unseen)


def _differ(one: str, other: str) -> bool:
    return one.partition("-")[0].lower() != other.partition("-")[0].lower()


def unseen_links(answer: ModelAnswer, length: Length, terms: Terms) -> list[str]:
    """Return the links of a reply that neither the screenshot nor the requester showed."""
    sources = [*answer.reading, *terms.seen, terms.context or ""]
    return links.unseen(_written(answer, length), sources)


def _written(answer: ModelAnswer, length: Length) -> str:
    return f"{answer.text(length)}\n{answer.translation(length)}"


def problems_of(option: Option, earlier: Sequence[Option], answer: ModelAnswer, terms: Terms) -> list[str]:
    """Return what forbids a reply, as sentences that a model can act on; empty when nothing does."""
    name = option.length.value
    if not option.text:
        return [f"`{name}` is empty; write the reply."]
    problems = []
    gaps = placeholders.find(option.text, code=answer.platform is Platform.GITHUB)
    if gaps:
        problems.append(
            f"`{name}` has a placeholder ({', '.join(gaps[:3])}); word it so that nothing needs to be filled in."
        )
    too_long = platforms.too_long(
        option.text,
        answer.platform,
        is_private=answer.content_type.is_private,
        max_chars=terms.options.max_chars,
    )
    if too_long:
        problems.append(
            f"`{name}` {too_long}; shorten it, and the others so that each is at least as long as the one before."
        )
    if links.too_many(_written(answer, option.length)):
        problems.append(f"`{name}` has more than {links.MAX_LINKS} links; write it with fewer.")
    if option.translation == "":
        reader = terms.options.reader_language
        problems.append(f"`{name}_translation` is empty; give the reply in {reader}.")
    return problems + _against_earlier(option, earlier)


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
    """Return whether two replies say the same, whatever their case, punctuation and spacing."""
    first, second = _plain(one), _plain(other)
    if first == second:
        return True
    a, b = _trigrams(first), _trigrams(second)
    return 2 * (a & b).total() >= SAME_FROM * (a.total() + b.total())


def _plain(text: str) -> str:
    # A reply of symbols alone would otherwise equal every other one.
    return " ".join(re.findall(r"\w+", text.casefold())) or text.strip()


def _trigrams(text: str) -> Counter[str]:
    padded = f" {text} "
    return Counter(padded[start : start + 3] for start in range(len(padded) - 2))


def _warnings(answer: ModelAnswer, terms: Terms, *, removed: bool) -> list[ResultWarning]:
    local = {
        ResultWarning.NO_REPLY_EXPECTED: answer.reply_needed is ReplyNeeded.NO,
        ResultWarning.IMAGE_TRUNCATED: terms.truncated,
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
    """Return the keys of the result that say what was seen, in the result's order."""
    keys = ("platform", "platform_name", "content_type", "language", "summary", "me", "reply_needed")
    return {key: getattr(answer, key) for key in keys}
