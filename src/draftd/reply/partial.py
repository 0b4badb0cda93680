"""Finds the complete options in an answer that is still being written.

Owns the stream of one call. Invariants: an option is reported once, complete (with its closing quote and its translation, if
required) and exactly as the result will contain it; an option that a repair might have to change is held back until the end.
Nothing here raises: a text that is no answer yields no options.
"""

import re
from typing import Any

from pydantic_core import from_json

from draftd.reply.answer import answer_schema, replying_to, seen_of
from draftd.reply.criteria import Criteria
from draftd.reply.model_answer import ANSWER_START, ModelAnswer, Shown, deciding_keys
from draftd.reply.result import SCHEMA_VERSION, Length, Option
from draftd.reply.review import Review

_BEFORE = re.compile(r"\s*(?:<think>(?:[^<]|<(?!/think>))*+</think>\s*)?(?:```(?:json)?\s*)?")
"""What may precede the answer: reasoning and a code fence. After prose, an object may be one that the model quotes from the
screenshot, and what is published cannot be taken back."""
_OVERLAP_CHARS = 64
"""How far back a search starts, because a chunk may end within the beginning of the object."""
MAX_CHARS = 65_536
"""A longer text yields no more partial results, since each one parses the whole text again."""


class PartialReader:
    """Reads one answer while it is being written.

    Args:
        criteria: what the answer is checked against.
        published: the options that the attempt has published; this reader adds those that it reports.
    """

    def __init__(self, criteria: Criteria, published: dict[Length, Option] | None = None) -> None:
        self._criteria = criteria
        self._options = {} if published is None else published
        self._deciding = deciding_keys(answer_schema(criteria))
        self._read_chars = 0
        self._start: int | None = None
        self._parsed: Any = None
        self._known: tuple[ModelAnswer, set[str]] | None = None

    @property
    def options_ready(self) -> int:
        """How many options are complete."""
        return len(self._options)

    def may_have_more(self, text_so_far: str) -> bool:
        """Return whether the whole text so far may hold another complete option."""
        # Nothing becomes complete without a closing quote, and most chunks have none.
        if text_so_far.find('"', self._read_chars) < 0 or len(text_so_far) > MAX_CHARS:
            return False
        return len(self._options) < len(self._criteria.lengths)

    def feed(self, text_so_far: str) -> dict[str, Any] | None:
        """Read the whole text so far.

        Returns:
            A partial result without the keys that are not known yet, if an option became complete since the last call; else
            None.
        """
        may_have_more = self.may_have_more(text_so_far)
        unread_from, self._read_chars = self._read_chars, len(text_so_far)
        if not may_have_more or not self._has_begun(text_so_far, unread_from):
            return None
        answer = self._parse(text_so_far)
        if answer is None or answer.shown is not Shown.MESSAGE:
            return None
        # Most quotes complete nothing, and a reply that waits for its source need not be checked again before the next line.
        known = answer, answer.model_fields_set
        if known == self._known:
            return None
        self._known = known
        review = Review(answer=self._criteria.carried.completed(answer), criteria=self._criteria)
        return self._partial_result(review) if self._collect(review) else None

    def _has_begun(self, text: str, unread_from: int) -> bool:
        """Find the answer's beginning; return whether it is there."""
        # Reasoning may be long: it is matched only when what follows it may be an answer.
        if self._start is None and text.find('"shown"', max(0, unread_from - _OVERLAP_CHARS)) >= 0:
            before = _BEFORE.match(text)
            found = ANSWER_START.match(text, before.end() if before else 0)
            self._start = found and found.start()
        return self._start is not None

    def _parse(self, text: str) -> ModelAnswer | None:
        """Return the answer so far, or None if there is none or nothing of it is new."""
        # Lone surrogates cannot be parsed, and the result drops them too.
        rest = text[self._start :].encode(errors="ignore")
        try:
            # This mode leaves out an unfinished string, so every key that is present is complete.
            parsed = from_json(rest, allow_partial=True)
            if parsed == self._parsed:  # a string was opened, not closed
                return None
            self._parsed = parsed
            return ModelAnswer.model_validate(parsed)
        except ValueError:
            return None

    def _collect(self, review: Review) -> bool:
        """Add the options that are complete and may be published; return whether there are any."""
        answer = review.answer
        if not answer.model_fields_set >= self._deciding:
            return False
        translated = self._criteria.options.reader_language is not None
        known = len(self._options)
        for length in self._criteria.lengths:
            if length in self._options or not answer.has_keys(length, translated=translated):
                continue
            if review.unseen_links(length):
                continue
            option = review.option(length)
            if review.may_publish(option, self._options):
                self._options[length] = option
        return len(self._options) > known

    def _partial_result(self, review: Review) -> dict[str, Any]:
        answer = review.screened()
        known = review.answer.model_fields_set | ({"reply_needed"} if answer.expects is None else set())
        result: dict[str, Any] = {"schema_version": SCHEMA_VERSION}
        result |= {key: value for key, value in seen_of(answer).items() if key in known}
        if {"author", "gist"} <= known:
            result["replying_to"] = replying_to(answer).model_dump(mode="json")
        options = [self._options[length] for length in Length if length in self._options]
        result["options"] = [option.model_dump(mode="json", exclude_none=True) for option in options]
        result["unsent_text"] = answer.unsent_text or None
        return result
