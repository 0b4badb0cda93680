"""A refinement: what it asks for, together with the chain of requests that it refines.

``context``, ``stance`` or ``answer_to`` say what to change. Without any of them the requester wants other drafts, none of which
resembles one of the chain. ``carried`` owns what is taken over from the earlier drafts.
"""

import re
from collections.abc import Iterable
from typing import Final

from draftd.errors import InvalidRequest
from draftd.json_values import json_objects
from draftd.request import Options, Parent, Request

SEND_AGAIN = "options: answer_to: that message was not read from the screenshot; send the screenshot again"
MAX_FACTS: Final = 20
MAX_WISHES_CHARS: Final = 8_000
MAX_EARLIER_DRAFTS_CHARS: Final = 12_000
"""About 3,000 tokens: the drafts of 20 requests in a chat, or of four by mail."""

_KEY = re.compile(r"t\d{1,2}")
_INHERITED: Final = ("tone", "language", "reader_language", "me", "voice_samples", "max_chars", "lengths")


def wants_others(request: Request, options: Options) -> bool:
    """Return whether a request asks for other drafts instead of a change of the earlier ones."""
    return request.parent is not None and not (request.context or options.stance or options.answer_to)


def options_of(request: Request) -> Options:
    """Return a request's options, with those that it inherits along its chain.

    A key that is given, also as null, replaces an inherited one. ``facts`` add up. ``answer_to`` and ``stance`` are not
    inherited: the earlier drafts already follow them.

    Raises:
        InvalidRequest: an option of the request itself is invalid.
    """
    options = Options.read(request.options)
    for wish in request.parent.wishes if request.parent else ():
        try:
            earlier = Options.read(wish.options)
        except InvalidRequest:
            continue  # a request that failed for its options may be in the chain all the same
        inherited = earlier.model_fields_set.intersection(_INHERITED) - options.model_fields_set
        facts = tuple(dict.fromkeys((*options.facts, *earlier.facts)))[:MAX_FACTS]
        taken = {name: getattr(earlier, name) for name in inherited} | ({"facts": facts} if facts else {})
        options = options.model_copy(update=taken)
    if request.parent is not None and request.context and "language" not in request.options:
        # The words may ask for another one; without such words ``Carried.reply_language`` keeps it.
        options = options.model_copy(update={"language": None})
    return options


def inherited_options(request: Request) -> Options:
    """Return what a request inherits along its chain, without its own options."""
    return options_of(Request(image_urls=(), context=None, options={}, parent=request.parent))


def wishes(parent: Parent) -> list[str]:
    """Return what the chain asked for in words, the oldest first, bounded from the latest."""
    return _bounded((wish.context for wish in parent.wishes if wish.context), MAX_WISHES_CHARS)[::-1]


def earlier_drafts(parent: Parent) -> list[str]:
    """Return the texts that other drafts must not resemble, the latest first, as many as a model is shown."""
    return _bounded(dict.fromkeys(parent.chain_texts), MAX_EARLIER_DRAFTS_CHARS)


def target(request: Request, options: Options) -> str | None:
    """Return the message to answer, in words, or None if the request names none.

    Raises:
        InvalidRequest: the parent has no such target, or kept no messages.
    """
    named, parent = options.answer_to, request.parent
    if named is None or parent is None:
        return named
    if not parent.reading:
        raise InvalidRequest(SEND_AGAIN)
    if not _KEY.fullmatch(named):
        return named
    for other in json_objects(parent.result.get("other_targets")):
        if other.get("key") == named:
            return ": ".join(str(other[part]) for part in ("author", "gist") if other.get(part))
    raise InvalidRequest(SEND_AGAIN)


def is_decided(parent: Parent) -> bool:
    """Return whether the parent's drafts leave no decision to the requester; drafts without stances are taken for decided."""
    stances = [option.get("stance") for option in json_objects(parent.result.get("options"))]
    return not (("accept" in stances and "decline" in stances) or "choice" in stances)


def _bounded(texts: Iterable[str], max_chars: int) -> list[str]:
    """Return texts from the first on, as many as fit."""
    left, kept = max_chars, list[str]()
    for text in texts:
        left -= len(text)
        if left < 0:
            break
        kept.append(text)
    return kept
