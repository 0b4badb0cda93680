"""What a client may ask for."""

from typing import Any

import pytest

from draftd.errors import InvalidRequest
from draftd.request import Options, Parent
from tables import per_row

FULL: dict[str, Any] = {
    "tone": "warm",
    "language": "de-CH",
    "reader_language": "en",
    "me": "right-hand bubbles",
    "voice_samples": ["Hi there", "See you"],
    "max_chars": 280,
    "facts": ["my course was CS, 2019 to 2023"],
    "stance": "decline",
    "answer_to": "t2",
    "lengths": ["medium", "short"],
}


def test_every_option_of_the_contract_is_read() -> None:
    options = Options.read(FULL)
    assert options.model_dump() == FULL | {
        "voice_samples": ("Hi there", "See you"),
        "facts": ("my course was CS, 2019 to 2023",),
        "lengths": ("short", "medium"),
    }


def test_nothing_is_required() -> None:
    options = Options.read({})
    assert (options.tone, options.language, options.voice_samples, options.max_chars) == (None, None, (), None)


def test_null_is_as_if_it_were_not_there() -> None:
    assert Options.read(dict.fromkeys(FULL)) == Options()


def test_lengths_are_taken_once_and_in_order() -> None:
    assert Options.read({"lengths": ["detailed", "short", "detailed"]}).lengths == ("short", "detailed")
    assert Options.read({"lengths": []}).lengths == ()


def test_a_list_is_called_a_list() -> None:
    with pytest.raises(InvalidRequest, match="should be a list of texts"):
        Options.read({"voice_samples": "one text"})


def test_spaces_around_a_text_are_not_part_of_it() -> None:
    assert Options.read({"tone": "  warm "}).tone == "warm"


@per_row(
    ("raw", "named"),
    [
        ({"colour": "blue"}, "colour"),
        ({"tone": "warm", "Tone": "cold"}, "Tone"),
        ({"tone": "   "}, "tone"),
        ({"tone": "x" * 201}, "tone"),
        ({"me": 3}, "me"),
        ({"language": "German, please"}, "language"),
        ({"language": "de_CH"}, "language"),
        ({"reader_language": "e"}, "reader_language"),
        ({"language": "en-" + "-".join(["abcdefgh"] * 4)}, "language"),
        ({"max_chars": 0}, "max_chars"),
        ({"max_chars": 20_001}, "max_chars"),
        ({"max_chars": "many"}, "max_chars"),
        ({"voice_samples": ["x"] * 11}, "voice_samples"),
        ({"voice_samples": ["good", ""]}, "voice_samples.1"),
        ({"voice_samples": ["x" * 4_001]}, "voice_samples.0"),
        ({"voice_samples": "one text"}, "voice_samples"),
        ({"facts": ["x"] * 21}, "facts"),
        ({"facts": ["x" * 501]}, "facts.0"),
        ({"facts": [" "]}, "facts.0"),
        ({"facts": "one fact"}, "facts"),
        ({"stance": "choice"}, "stance"),
        ({"stance": "none"}, "stance"),
        ({"answer_to": " "}, "answer_to"),
        ({"answer_to": "x" * 201}, "answer_to"),
        ({"lengths": ["long"]}, "lengths.0"),
        ({"lengths": "short"}, "lengths"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(raw: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"^options: {named}: \w"):
        Options.read(raw)


@per_row("raw", [[], "tone", None, 3])
def test_options_that_are_no_object_are_refused(raw: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^options: options: "):
        Options.read(raw)


def test_a_refusal_does_not_repeat_what_was_written() -> None:
    with pytest.raises(InvalidRequest) as caught:
        Options.read({"language": "my secret words", "max_chars": "more secret words"})
    assert "secret" not in caught.value.message


@per_row("tag", ["en", "pt-BR", "zh-Hant-TW", "sr-Latn", "es-419", "de-CH-1996"])
def test_language_tags_are_accepted_by_their_form(tag: str) -> None:
    assert Options.read({"language": tag}).language == tag


def test_a_truth_is_no_number_of_characters() -> None:
    with pytest.raises(InvalidRequest, match="max_chars"):
        Options.read({"max_chars": True})


@per_row(
    ("text", "left"),
    [
        ("At 4, for 4,250 or 14.4.", "At  , for 4,250 or 14.4."),
        ("4時に会いましょう。44人", " 時に会いましょう。44人"),
        ("Call Mia4 at 4:30.", "Call Mia4 at 4:30."),
    ],
)
def test_what_had_no_source_is_taken_out_whole_and_nowhere_else(text: str, left: str) -> None:
    assert Parent(result={}, reading=[], unsupported=("4",)).without_unsupported(text) == left
