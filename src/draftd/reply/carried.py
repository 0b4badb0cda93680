"""What a refinement takes over from the drafts that it changes.

Invariant: what was read from the screenshot comes from the parent's result and is not asked for again, as far as the result has
it. What ``context`` changes the model says itself (``changes``), since it may be said in any language; the rest must stay.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from draftd.json_values import json_list, json_object, json_objects
from draftd.reply import language, refinement
from draftd.reply.model_answer import EXPECTS_NOTHING, UNKNOWN_LANGUAGE, Change, ModelAnswer
from draftd.reply.result import Length, OtherTarget, ReplyNeeded, ResultWarning, Stance
from draftd.request import Options, Parent, Request

_SEEN: Final = (
    "platform", "platform_name", "content_type", "language", "me", "summary", "unsent_text", "reply_needed", "confidence",
)  # fmt: skip
_TARGET: Final = ("author", "gist", "expects")
_OF_THE_TARGET: Final = frozenset(
    {*_TARGET, "language", "content_type", "reply_needed", "other_targets", "missing", "confidence"}
)
_FOR_THE_READER: Final = frozenset({"me", "gist", "summary", "other_targets", "missing"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What a refinement takes over; empty for a first request."""

    values: Mapping[str, Any] = field(default_factory=dict)
    """Of the answer's keys, those that the model is not asked for."""
    of_the_target: Mapping[str, Any] = field(default_factory=dict)
    """Those that stay unless ``context`` changes the message that is answered."""
    warnings: tuple[ResultWarning, ...] = ()
    """Of the model's warnings, those that the screenshot gave reason for."""
    texts: Mapping[Length, str] = field(default_factory=dict)
    """The drafts that are changed, as far as they are compared with the new ones."""
    stances: Mapping[Length, Stance] = field(default_factory=dict)
    """The decisions that stay unless ``context`` changes them."""
    reply_language: str | None = None
    """The language of the earlier drafts, if the new ones are to keep it."""
    asks_for_changes: bool = False
    """Whether the model is asked what ``context`` changes."""

    def keeps(self, change: Change, answer: ModelAnswer) -> bool:
        """Return whether the requester's words leave something as it is; unknown counts as changed."""
        if not self.asks_for_changes:
            return True
        return "changes" in answer.model_fields_set and change not in answer.changes

    def completed(self, answer: ModelAnswer) -> ModelAnswer:
        """Return an answer, complete or still being written, with what is taken over."""
        taken = dict(self.values)
        if self.keeps(Change.TARGET, answer):
            taken |= self.of_the_target
        if "warnings" in answer.model_fields_set:
            taken["warnings"] = [*answer.warnings, *(one for one in self.warnings if one not in answer.warnings)]
        return answer.model_copy(update=taken)


def carried(request: Request, options: Options) -> Carried:
    """Return what a request takes over from the drafts that it refines.

    Args:
        request: the request.
        options: its options, with those that it inherits.
    """
    parent = request.parent
    if parent is None:
        return Carried()
    seen, is_for_others = _seen(parent.result), refinement.wants_others(request, options)
    kept = seen.keys() - _asked_again(request, options, seen)
    by_context = {name for name in _TARGET if name in kept} if request.context else set[str]()
    warned = json_list(parent.result.get("warnings"))
    known = ModelAnswer.model_validate({"warnings": warned}).warnings
    return Carried(
        values={name: seen[name] for name in kept - by_context},
        of_the_target={name: seen[name] for name in by_context},
        warnings=() if options.answer_to else tuple(known),
        texts={} if options.answer_to or is_for_others else _drafts(parent, "text"),
        stances={} if options.answer_to else _stances(parent, uniform=is_for_others),
        reply_language=_reply_language(request, options),
        asks_for_changes=bool(request.context),
    )


def _asked_again(request: Request, options: Options, seen: Mapping[str, Any]) -> set[str]:
    """Return the keys that the model is asked for again, because what the requester gives bears on them."""
    again = {"me"} if "me" in request.options else set[str]()
    if options.answer_to:
        again |= _OF_THE_TARGET
    if request.context:
        again.add("missing")
        if seen.get("reply_needed") is ReplyNeeded.NO:
            again |= {"expects", "reply_needed"}  # the words may ask for more than a line
    if options.reader_language != refinement.inherited_options(request).reader_language:
        again |= _FOR_THE_READER
    return again


def _seen(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result's values by the answer's keys, as far as it has them."""
    about = json_object(result.get("replying_to"))
    found = {name: result[name] for name in _SEEN if isinstance(result.get(name), str)}
    found |= {name: about[name] for name in _TARGET if isinstance(about.get(name), str)}
    if result.get("unsent_text", "") is None:
        found["unsent_text"] = ""
    if found.get("reply_needed") == ReplyNeeded.NO:
        found["expects"] = EXPECTS_NOTHING
    if isinstance(result.get("missing"), list):
        found["missing"] = result["missing"]
    answer = ModelAnswer.model_validate(found)
    seen = {name: getattr(answer, name) for name in found}
    if isinstance(result.get("other_targets"), list):
        seen["other_targets"] = _other_targets(result["other_targets"])
    return {name: value for name, value in seen.items() if name != "summary" or value}


def _other_targets(raw: Any) -> list[OtherTarget]:
    names = tuple(OtherTarget.model_fields)
    return [
        OtherTarget(**{name: one[name] for name in names})
        for one in json_objects(raw)
        if all(isinstance(one.get(name), str) for name in names)
    ]


def _drafts(parent: Parent, key: str) -> dict[Length, str]:
    """Return one text of each of the parent's drafts, by its length."""
    options = json_objects(parent.result.get("options"))
    found = {length: one.get(key) for length in Length for one in options if one.get("length") == length}
    return {length: value for length, value in found.items() if isinstance(value, str)}


def _stances(parent: Parent, *, uniform: bool) -> dict[Length, Stance]:
    """Return the stances of the parent's drafts; with ``uniform`` none unless all have the same, and then for every length."""
    known = set(Stance)
    stances = {length: Stance(one) for length, one in _drafts(parent, "stance").items() if one in known}
    same = set(stances.values())
    return dict.fromkeys(Length, same.pop()) if len(same) == 1 else {} if uniform else stances


def _reply_language(request: Request, options: Options) -> str | None:
    """Return the language of the parent's drafts, or None if the request gives one or its target may have another."""
    parent = request.parent
    if parent is None or options.language:
        return None
    inherited = refinement.inherited_options(request).language
    if inherited and "language" not in request.options:
        return inherited
    said = parent.result.get("language")
    spoken = said if isinstance(said, str) else UNKNOWN_LANGUAGE
    replied = language.contradicts("\n".join(_drafts(parent, "text").values()), spoken)
    if "language" in request.options or (options.answer_to and replied is None):
        return None
    return replied or (None if spoken == UNKNOWN_LANGUAGE else spoken)
