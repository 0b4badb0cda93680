"""A signature stands below a mail once, whatever the model has written."""

from draftd.reply.signature import signed, unsigned
from tables import per_row

SIGNATURE = "Jana Lindner\nTarnow Software, Leipzig\njana-lindner.example"
MAIL = "Hi Ana,\n\nFriday is fine.\n\nBest regards,"


@per_row(
    "written",
    [
        MAIL,
        f"{MAIL}\nJana Lindner",
        f"{MAIL}\n\nJana Lindner\nTarnow Software, Leipzig\n",
        f"{MAIL}\n\n{SIGNATURE}",
        f"{MAIL}\n\njana lindner\nTarnow Software, Leipzig\njana-lindner.example  ",
    ],
)
def test_it_stands_there_once(written: str) -> None:
    once = signed(written, SIGNATURE)
    assert once.casefold().count("jana lindner") == 1
    assert once.casefold().count("tarnow") == 1
    assert once.rstrip().casefold() == f"{MAIL}\n\n{SIGNATURE}".casefold()
    assert signed(once, SIGNATURE) == once


def test_it_is_not_put_below_a_text_that_has_it_further_up() -> None:
    written = f"{MAIL}\n\n{SIGNATURE}\n\nPS: The office is closed on Monday."
    assert signed(written, SIGNATURE) == written


def test_it_is_taken_off_again() -> None:
    assert unsigned(signed(MAIL, SIGNATURE), SIGNATURE) == MAIL
    assert unsigned(MAIL, SIGNATURE) == unsigned(MAIL, "") == signed(MAIL, "") == MAIL


def test_a_text_of_nothing_or_of_the_name_alone_is_left_as_it_is() -> None:
    assert signed("", SIGNATURE) == ""
    assert signed("Jana Lindner", SIGNATURE) == "Jana Lindner"


@per_row(
    ("written", "signature"),
    [
        ("Could you please send it?\n\nBest regards,", "Lea"),
        ("Hi Lea,\n\nThe maximum is five.", "Max"),
        ("Hi Lea Berg,\n\nFriday is fine.", "Lea"),
        ("Friday is fine.", "\u2014 \u273f \u2014"),
    ],
)
def test_a_name_that_is_part_of_another_word_or_of_a_sentence_is_no_signature(written: str, signature: str) -> None:
    once = signed(written, signature)
    assert once == f"{written}\n\n{signature}"
    assert signed(once, signature) == once


def test_a_name_in_the_closing_line_is_the_signature() -> None:
    assert signed("Friday is fine.\n\nBest regards, Lea", "Lea") == "Friday is fine.\n\nBest regards, Lea"
