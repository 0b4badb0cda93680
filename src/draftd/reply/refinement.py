"""A refinement: what it changes of the earlier drafts, and what it takes over from them.

``context``, ``stance`` or ``answer_to`` say what to change. Without any of them the requester wants other drafts, none of which
resembles one of the chain.
"""

import re

from draftd.errors import InvalidRequest
from draftd.json_values import json_objects
from draftd.request import Options, Parent, Request

_KEY = re.compile(r"t\d{1,2}")
SEND_AGAIN = "options: answer_to: that message was not read from the screenshot; send the screenshot again"


def wants_others(request: Request, options: Options) -> bool:
    """Return whether a request asks for other drafts instead of a change of the earlier ones."""
    return request.parent is not None and not (request.context or options.stance or options.answer_to)


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
