"""Finds the complete options in an answer that is still being written.

Owns the stream of one call. Invariants: an option is reported once, complete (with its closing quote and its translation, if
required) and exactly as the result will contain it; an option that fails a check, or has a link that may be made up, is held back
until the end. Nothing here raises: a text that is no answer yields no options.
"""

from typing import Any

from pydantic_core import from_json

from draftd.reply.answer import Criteria, Review, seen_of
from draftd.reply.model_answer import ANSWER_START, ModelAnswer
from draftd.reply.result import SCHEMA_VERSION, Length, Option

_OVERLAP_CHARS = 64
"""How far back a search starts, because a chunk may end within the beginning of the object."""
MAX_CHARS = 65_536
"""A longer text yields no more partial results, since each one parses the whole text again."""


class PartialReader:
    """Reads one answer while it is being written.

    Args:
        criteria: what the answer is checked against.
    """

    def __init__(self, criteria: Criteria) -> None:
        self._criteria = criteria
        self._read_chars = 0
        self._start: int | None = None
        self._options: dict[Length, Option] = {}
        self._reported = 0

    @property
    def options_ready(self) -> int:
        """How many options are complete."""
        return self._reported

    def feed(self, text_so_far: str) -> dict[str, Any] | None:
        """Read the whole text so far.

        Returns:
            A partial result without the keys that are not known yet, if an option became complete since the last call; else
            None.
        """
        unread_from, self._read_chars = self._read_chars, len(text_so_far)
        # Nothing becomes complete without a closing quote, and most chunks have none.
        if self._reported == len(Length) or text_so_far.find('"', unread_from) < 0:
            return None
        if len(text_so_far) > MAX_CHARS:
            return None
        self._find_object(text_so_far, max(0, unread_from - _OVERLAP_CHARS))
        answer = self._parse(text_so_far)
        if answer is None or not answer.has_message:
            return None
        self._collect(answer)
        if len(self._options) <= self._reported:
            return None
        self._reported = len(self._options)
        return self._partial_result(answer)

    def _find_object(self, text: str, search_from: int) -> None:
        for match in ANSWER_START.finditer(text, search_from):
            if match.start() != self._start:
                # A later object replaces an earlier one, which was quoted from the picture or abandoned by the model.
                self._start = match.start()
                self._options = {}

    def _parse(self, text: str) -> ModelAnswer | None:
        if self._start is None:
            return None
        # Lone surrogates cannot be parsed, and the result drops them too.
        rest = text[self._start :].encode(errors="ignore")
        try:
            # This mode leaves out an unfinished string, so every key that is present is complete.
            return ModelAnswer.model_validate(from_json(rest, allow_partial=True))
        except ValueError:
            return None

    def _collect(self, answer: ModelAnswer) -> None:
        if not {"platform", "content_type", "language"} <= answer.model_fields_set:
            return
        review = Review(answer=answer, criteria=self._criteria)
        translated = self._criteria.options.reader_language is not None
        for index, length in enumerate(Length):
            if length in self._options or not answer.has_keys(length, translated=translated):
                continue
            if review.unseen_links(length):
                continue
            option = review.option(length)
            earlier = [self._options[other] for other in list(Length)[:index] if other in self._options]
            if not review.problems(option, earlier):
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
