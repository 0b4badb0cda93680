"""The growing text of an answer: which replies can be shown before the last one is written.

Owns one stream of one call. Invariants: an option is announced once, complete (its closing quote has come, and so has
its translation where one is due) and exactly as the result will hold it; an option that fails a check, or whose link
cannot be told from a made-up one yet, is held back until the end. Nothing here raises: a text that is no answer is
simply silent.
"""

from typing import Any

from pydantic_core import from_json

from draftd.reply.answer import Terms, option_of, problems_of, seen_of, unseen_links
from draftd.reply.model_answer import BEGINNING, ModelAnswer
from draftd.reply.result import SCHEMA_VERSION, Length, Option

_OVERLAP_CHARS = 64
"""How far back a search starts, because a chunk can end in the middle of the beginning of the object."""
MAX_CHARS = 65_536
"""Of a longer text nothing more is shown before its end: all of it is parsed anew whenever a string in it has ended."""


class PartialReader:
    """Reads one answer while it is being written.

    Args:
        terms: what the answer is held against.
    """

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._read_chars = 0
        self._start: int | None = None
        self._options: dict[Length, Option] = {}
        self._announced = 0

    @property
    def options_ready(self) -> int:
        """How many options have been announced."""
        return self._announced

    def feed(self, text_so_far: str) -> dict[str, Any] | None:
        """Take the whole text so far.

        Returns:
            A new partial result when one more option became complete since the last call (or more, if a chunk held
            more); the keys that are not known yet are left out. None otherwise.
        """
        unread_from, self._read_chars = self._read_chars, len(text_so_far)
        # Nothing becomes complete without a closing quote; most chunks have none and cost nothing.
        if self._announced == len(Length) or text_so_far.find('"', unread_from) < 0:
            return None
        if len(text_so_far) > MAX_CHARS:
            return None
        self._find_object(text_so_far, max(0, unread_from - _OVERLAP_CHARS))
        answer = self._parse(text_so_far)
        if answer is None or not answer.has_message:
            return None
        self._collect(answer)
        if len(self._options) <= self._announced:
            return None
        self._announced = len(self._options)
        return self._partial_result(answer)

    def _find_object(self, text: str, search_from: int) -> None:
        for match in BEGINNING.finditer(text, search_from):
            if match.start() != self._start:
                # A later object supersedes: the earlier one was quoted from the picture, or given up by the model.
                self._start = match.start()
                self._options = {}

    def _parse(self, text: str) -> ModelAnswer | None:
        if self._start is None:
            return None
        # Lone surrogates cannot be parsed; the result has none either.
        rest = text[self._start :].encode(errors="ignore")
        try:
            # An unfinished string is left out by this mode, so a key that is there is complete.
            return ModelAnswer.model_validate(from_json(rest, allow_partial=True))
        except ValueError:
            return None

    def _collect(self, answer: ModelAnswer) -> None:
        if not {"platform", "content_type", "language"} <= answer.model_fields_set:
            return
        translated = self._terms.options.reader_language is not None
        for index, length in enumerate(Length):
            if length in self._options or not answer.has(length, translated=translated):
                continue
            if unseen_links(answer, length, self._terms):
                continue
            option = option_of(answer, length, self._terms, ())
            earlier = [self._options[other] for other in list(Length)[:index] if other in self._options]
            if not problems_of(option, earlier, answer, self._terms):
                self._options[length] = option

    def _partial_result(self, answer: ModelAnswer) -> dict[str, Any]:
        known = answer.model_fields_set
        result: dict[str, Any] = {"schema_version": SCHEMA_VERSION}
        result |= {key: value for key, value in seen_of(answer).items() if key in known}
        if {"author", "gist"} <= known:
            result["replying_to"] = {"author": answer.author, "gist": answer.gist}
        options = [self._options[length] for length in Length if length in self._options]
        result["options"] = [option.model_dump(mode="json", exclude_none=True) for option in options]
        return result
