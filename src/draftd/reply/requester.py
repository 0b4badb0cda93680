"""What is known of the requester beside the request: the profile, and what they sent before.

The request's own options come first. Invariant: all of it belongs to the request's requester, because it was read with the row.
"""

from typing import Any, Final

from draftd.reply import refinement, relevance, voice
from draftd.reply.invisible import without_hidden
from draftd.request import Options, Request

MAX_TOLD_CHARS: Final = 4_000
"""How many characters of a profile's facts a model is told: some 1,000 tokens, less than a screenshot."""


def with_profile(request: Request, options: Options) -> Options:
    """Return a request's options, completed from the profile, and the voice from what was sent before.

    ``facts`` are not merged: of the profile's, ``told_facts`` chooses.
    """
    profile = request.profile
    samples = _shown(options.voice_samples) or _shown(profile.voice_samples)
    if not samples:
        sent = [one for one in request.sent if without_hidden(one.text)]
        samples = tuple(one.text for one in voice.chosen(sent, **_addressee(request, options)))
    return options.model_copy(
        update={
            "me": options.me or profile.me,
            "reader_language": options.reader_language or profile.reader_language,
            "voice_samples": samples,
        }
    )


def _shown(samples: tuple[str, ...]) -> tuple[str, ...]:
    """Return the samples of which anything is shown: nothing can be learnt from invisible characters."""
    return tuple(text for text in samples if without_hidden(text))


def told_facts(request: Request, options: Options) -> list[str]:
    """Return the facts that the model is told: the request's, then those of the profile that the conversation touches.

    With a screenshot nothing is known of the conversation yet but what the request says of it; then the profile's first facts
    go along, and ``withheld_facts`` may follow with the repair.
    """
    return list(dict.fromkeys((*options.facts, *_chosen(request, options))))


def withheld_facts(request: Request, options: Options) -> list[str]:
    """Return the facts of the profile that the model is not told."""
    told = {*_chosen(request, options)}
    return [fact for fact in request.profile.facts if fact not in told]


def known_texts(request: Request) -> tuple[str, ...]:
    """Return the texts of the profile that a fact or a link may come from."""
    profile = request.profile
    return tuple(filter(None, (*profile.facts, profile.me, profile.about, profile.signature)))


def _chosen(request: Request, options: Options) -> list[str]:
    return relevance.chosen(request.profile.facts, _known(request, options), max_chars=MAX_TOLD_CHARS)


def _known(request: Request, options: Options) -> str:
    """Return what is known of the conversation before the model is called."""
    texts = [request.context or "", refinement.target(request, options) or ""]
    if request.parent is not None:
        texts += [*request.parent.reading, str(request.parent.result.get("missing") or "")]
    return "\n".join(texts)


def _addressee(request: Request, options: Options) -> dict[str, Any]:
    """Return what is known of the platform, and of whom the reply will go to."""
    parent, target = request.parent, refinement.target(request, options)
    answered = parent.result.get("replying_to") if parent else None
    author = answered.get("author") if isinstance(answered, dict) and not target else None
    return {
        "platform": parent.result.get("platform") if parent else None,
        "author": author if isinstance(author, str) else None,
        "named_in": f"{request.context or ''} {target or ''}",
    }
