"""A reply in the wrong language: the figures on the committed replies, and what never tips the judgement."""

import functools
import json
from pathlib import Path
from threading import Thread

import pytest

from draftd.reply import language
from tables import per_row

REPLIES = [
    json.loads(line) for line in (Path(__file__).parents[1] / "data" / "language.jsonl").read_text("utf-8").splitlines()
]
"""590 replies in 17 languages, by somebody who had not read the code; ids with an h are hard: names, loan words, code."""
LANGUAGES = sorted({reply["lang"] for reply in REPLIES})


def test_no_more_than_one_in_500_replies_is_refused_in_its_own_language() -> None:
    refused = [reply["id"] for reply in REPLIES if language.contradicts(reply["text"], reply["lang"])]
    assert len(REPLIES) >= 400
    assert len(refused) <= len(REPLIES) / 500, refused


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.long)])
def test_nine_in_ten_replies_of_20_letters_are_caught_in_a_wrong_language(
    monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    # The detector's answer does not depend on the language that is expected.
    monkeypatch.setattr(language, "_scores", functools.cache(language._scores))
    pairs = [
        (reply["text"], other)
        for reply in REPLIES
        if sum(map(str.isalpha, reply["text"])) >= language.MIN_LETTERS
        for other in LANGUAGES
        if other != reply["lang"]
    ][::step]
    caught = sum(language.contradicts(text, other) is not None for text, other in pairs)
    assert caught >= 0.9 * len(pairs)


@per_row(
    ("text", "expected"),
    [
        ("はい、大丈夫です", "en"),
        ("Спасибо большое", "de"),
        ("Thanks for the quick answer, see you on Monday!", "ja"),
        ("Vielen Dank für die schnelle Antwort, bis Montag!", "en-GB"),
    ],
)
def test_a_wrong_script_or_language_is_named(text: str, expected: str) -> None:
    assert language.contradicts(text, expected)


@per_row(
    ("text", "expected"),
    [
        ("OK", "ja"),
        ("LGTM!", "ja"),
        ("", "en"),
        ("👍👍👍", "de"),
        ("https://www.example.com/how-to-install-docker-on-windows", "fr"),
        ("Takk for sist, vi ses i morgen på kontoret", "da"),
        ("Ops, mandei no grupo errado, desculpa mesmo", "es"),
        ("Thanks for the quick answer, see you on Monday!", "tlh"),
        ("Спасибо большое за быстрый ответ", "tlh"),
        ("Спасибо большое за быстрый ответ", "und"),
        ("Thanks for the quick answer, see you on Monday!", "English"),
        ("haan bhai theek hai, kal milte hain office mein", "hi"),
    ],
)
def test_what_is_short_near_or_unknown_passes(text: str, expected: str) -> None:
    assert language.contradicts(text, expected) is None


def test_several_threads_may_ask_at_once() -> None:
    answers: list[str | None] = []

    def ask() -> None:
        answers.extend(language.contradicts("Wir sehen uns am Montag im Büro, danke!", "fr") for _ in range(20))

    threads = [Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["de"] * 80
