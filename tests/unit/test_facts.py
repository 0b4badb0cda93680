"""Facts without a source: the figures on the committed cases, the equivalents, and the time a hostile text takes."""

import functools
import json
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime
from datetime import time as time_of_day
from pathlib import Path
from typing import Any

import pytest

from draftd.reply.facts import FactKind, Unsupported, Weight, Witness, finder
from draftd.reply.facts.fact import Fact
from tables import per_row

CASES = [
    json.loads(line) for line in (Path(__file__).parents[1] / "data" / "facts.jsonl").read_text("utf-8").splitlines()
]
"""Replies with their sources in eight languages; 685 were written by somebody who had not read the code. All were seen since.
Three parts were scored once before anything was changed for them: "held out" (134 of 138 caught, 6 of 120 marked falsely), then
"written last" (22 of 22 caught, 2 of 24 marked falsely), then "blind" (79 of 80 caught, 15 of 120 marked falsely, 4 of them with
a weight that is always worth a repair)."""

HOSTILE = {
    "1": "1 ", "digits": "1", "numbers": "12:30 ", "dates": "17 March ", "months": "may 1 ", "phones": "+49 170 ",
    "signs": "a@", "dots": "1.", "commas": "1,", "codes": "x1-", "words": "twenty-", "kanji": "1万", "hosts": "aa.bb.",
    "amounts": "€1 ", "spaces": " ", "brackets": "(1) ",
}  # fmt: skip


in_steps = pytest.mark.parametrize("step", [12, pytest.param(1, marks=pytest.mark.long)])
"""Every twelfth case, and in the long tests all of them."""


@functools.cache
def marked(step: int) -> list[tuple[dict[str, Any], list[Unsupported]]]:
    """Return the cases with the facts that are found to be without a source."""
    return [(case, found(case)) for case in CASES[step - 1 :: step]]


def test_a_number_in_words_at_the_end_of_a_sentence_makes_no_date_with_may() -> None:
    reply = "I would be interested in this one. May I pass on your name? The first talk is on one May."
    assert [one.quote for one in Witness().unsupported(reply, [""], language="en")][-1:] == ["one May"]
    assert not any("one. May" in one.quote for one in Witness().unsupported(reply, [""], language="en"))


def found(case: dict[str, Any]) -> list[Unsupported]:
    asked = case["asked"] and datetime.fromisoformat(case["asked"])
    if asked and not asked.tzinfo:
        asked = noon(asked.date())
    return Witness(asked or None).unsupported(case["reply"], case["sources"], language=case["lang"])


def noon(day: date | None) -> datetime | None:
    return datetime.combine(day, time_of_day(12), tzinfo=UTC) if day else None


def overlaps(reply: str, quote: str, other: str) -> bool:
    start, begin = reply.index(quote), reply.index(other)
    return start < begin + len(other) and begin < start + len(quote)


def check(text: str, *sources: str, language: str = "en", today: date | None = None) -> Sequence[str]:
    return [fact.quote for fact in Witness(noon(today)).unsupported(text, sources, language=language)]


@in_steps
def test_at_least_98_percent_of_the_planted_facts_are_caught(step: int) -> None:
    planted = [(case, fact, marks) for case, marks in marked(step) for fact in case["unsupported"]]
    caught = [
        fact
        for case, fact, marks in planted
        if any(overlaps(case["reply"], fact["quote"], mark.quote) for mark in marks)
    ]
    assert len(planted) >= 300 // step
    assert len(caught) >= 0.98 * len(planted)


@in_steps
def test_the_kind_is_right_in_96_percent_of_the_planted_facts(step: int) -> None:
    planted = [(case, fact, marks) for case, marks in marked(step) for fact in case["unsupported"]]
    right = [
        fact
        for case, fact, marks in planted
        if any(overlaps(case["reply"], fact["quote"], mark.quote) and mark.kind == fact["kind"] for mark in marks)
    ]
    assert len(right) >= 0.96 * len(planted)


@in_steps
def test_at_most_one_percent_of_the_honest_replies_are_marked(step: int) -> None:
    honest = [(case, marks) for case, marks in marked(step) if not case["unsupported"]]
    wrong = [case["id"] for case, marks in honest if marks]
    assert len(honest) >= 300 // step
    assert len(wrong) <= 0.01 * len(honest), wrong


@in_steps
def test_at_most_half_a_percent_of_the_honest_replies_have_a_fact_that_is_always_worth_a_repair(step: int) -> None:
    honest = [(case, marks) for case, marks in marked(step) if not case["unsupported"]]
    repaired = [case["id"] for case, marks in honest if any(mark.weight is Weight.FULL for mark in marks)]
    assert len(repaired) <= 0.005 * len(honest), repaired


@in_steps
def test_every_quote_stands_in_the_reply(step: int) -> None:
    assert all(mark.quote in case["reply"] for case, marks in marked(step) for mark in marks)


@per_row(
    ("language", "reply", "source"),
    [
        ("en", "Use 350g of flour.", "350 g"),
        ("en", "It is 4,250.", "4.250"),
        ("en", "It is 4250.", "4,250"),
        ("de", "Das sind 4.250 €.", "EUR 4,250.00"),
        ("en", "See you at two o'clock.", "14:00"),
        ("en", "See you at 2 pm.", "14:00"),
        ("en", "On 17 March, then.", "17.03."),
        ("en", "The three of us will come.", "3 people"),
        ("de", "Meine Nummer ist +49 170 555-0199.", "0170 5550199"),
        ("en", "Half past seven is fine.", "halb acht"),
        ("ja", "三千五百円です。", "3,500円"),
        ("tr", "Yedi buçukta görüşürüz.", "19:30"),
        ("en", "An hour is not enough, two and a half hours are.", "150 minutes"),
        ("de", "Zwei Wochen gehen.", "14 Tage"),
        ("en", "It weighs 1.5 kg.", "1500 g"),
        ("en", "About 50 people came.", "48 guests"),
        ("en", "I'll be there around seven.", "arrives 19:02"),
        ("en", "Q3 is closed.", "the third quarter"),
        ("en", "It is flight BA431.", "BA 431"),
        ("en", "Six thirty works.", "18:30"),
        ("en", "At 11 at the door.", "um elf Uhr"),
        ("en", "The 7th, 14th and 21st of January.", "7.1., 14.1., 21.1."),
        ("en", "4/5 from me.", "4 out of 5"),
        ("en", "Since 1998, wow.", "open since '98"),
        ("en", "On the 24th, then.", "Christmas Eve"),
        ("en", "Order 4471 is here.", "https://shop.example/orders/4471"),
        ("en", "Five stars, thank you.", "★★★★★"),
        ("en", "It ran for 2:14.", "134 minutes"),
        ("de", "35 Cent pro Kilometer.", "0,35 €/km"),
        ("en", "The first payment is due on the 1st.", "rent is due on the first"),
        ("tr", "Kutlu olsun, yetmiş beşinci!", "75 oldum"),
        ("en", "Happy seventy-fifth!", "I am 75 now"),
        ("en", "Going back to 2.4.1 helps.", "broken since v2.4.1"),
        ("de", "Es gibt so gegen 19 Uhr Essen.", "um 19 Uhr"),
        ("ja", "履歴書はsaiyo@midori.jpまでお送りください。", "saiyo@midori.jp"),
        ("en", "We'll be five: three adults and two children.", "3 adults, 2 kids"),
        ("en", "My IBAN is DE89 3704 0044 0532 0130 00.", "IBAN DE89370400440532013000"),
    ],
)
def test_an_equivalent_form_is_a_source(language: str, reply: str, source: str) -> None:
    assert check(reply, source, language=language) == []
    assert check(reply, "nothing of the kind", language=language) != []


def test_a_weekday_and_its_date_support_each_other_on_a_known_day() -> None:
    assert check("Thursday suits me.", "Is 19 March all right?", today=date(2026, 3, 16)) == []
    assert check("Friday 13 March suits me.", "Are we on for tomorrow?", today=date(2026, 3, 12)) == []
    assert check("Saturday suits me.", "Is 19 March all right?", today=date(2026, 3, 16)) == ["Saturday"]


@per_row(
    ("asked_at", "days"),
    [
        (datetime(2026, 3, 12, 20, tzinfo=UTC), ["Friday 13 March", "Saturday 14 March"]),
        (datetime(2026, 3, 12, 4, tzinfo=UTC), ["Thursday 12 March", "Friday 13 March"]),
    ],
)
def test_tomorrow_is_counted_in_every_time_zone(asked_at: datetime, days: list[str]) -> None:
    witness = Witness(asked_at)
    around = ["Wednesday 11 March", "Thursday 12 March", "Friday 13 March", "Saturday 14 March", "Sunday 15 March"]
    assert [day for day in around if not witness.unsupported(day, ["See you tomorrow?"], language="en")] == days


def test_tomorrow_is_the_day_after_the_date_that_a_message_shows() -> None:
    today = date(2026, 3, 12)
    assert check("Saturday suits me.", "Ana [Thu 12 March]: tomorrow?", today=today) == ["Saturday"]
    assert check("Friday 6 March was fine.", "Ana [Thu 5 March]: tomorrow?", today=today) == []


@per_row(
    "reply",
    [
        "Two things come to mind.",
        "One of us should call.",
        "1. Restart it\n2. Try again",
        "I'm here 24/7 and 100 % sure :3",
        "Thanks a million, you're second to none!",
        "I'm here for you, 24/7.",
        "That makes two of us.",
        "Would it look the same if it started at zero?",
        "So what's your top ten? Or your top 3?",
        "Give me two minutes. It would drive me mad after five minutes!",
        "You could ask me ten times.",
    ],
)
def test_a_small_count_or_a_phrase_is_no_fact(reply: str) -> None:
    assert check(reply) == []


@per_row(
    ("reply", "marks"),
    [
        ("We'll be twenty minutes late.", ["twenty minutes"]),
        ("Give me six minutes.", ["six minutes"]),
        ("Take it four times a day.", ["four times"]),
        ("It runs 24/6 now.", ["24/6"]),
        ("We are 3 and have 3 questions.", ["3"]),
        ("We'll be five: three adults and two children.", ["five", "three"]),
        ("Three nights for two of us in one room.", ["Three nights"]),
    ],
)
def test_a_count_that_states_something_is_marked(reply: str, marks: list[str]) -> None:
    assert check(reply) == marks


def test_a_sum_of_other_things_than_people_is_marked() -> None:
    assert check("Two rooms for three nights and one day, please.", "2 rooms, 1 day") == ["three nights"]


@per_row(
    ("language", "reply", "weights"),
    [
        ("en", "See you at eight.", [Weight.FULL]),
        ("en", "I'm free from eight.", [Weight.FULL]),
        ("en", "Between four and half past five works.", [Weight.FULL, Weight.FULL]),
        ("en", "It is 3 days.", [Weight.FULL]),
        ("en", "It is twenty days.", [Weight.FULL]),
        ("en", "It is five kilometres.", [Weight.FULL]),
        ("en", "With or without a five-day week.", [Weight.COUNT]),
        ("en", "We waited for five days after six weeks.", [Weight.COUNT, Weight.COUNT]),
        ("de", "Wir sind zu dritt.", [Weight.COUNT]),
        ("en", "tomllib exists from 3.11 on.", [Weight.VERSION]),
        ("en", "It is in v3.2.1rc2, not in 45120.", [Weight.VERSION, Weight.FULL]),
        ("en", "Use `if sys.version_info >= (3, 11):` here.", [Weight.SLIGHT] * 2),
        (
            "en",
            '```\ntomli; python_version < "3.11" # at 14:00\n```\nat 15:00',
            [Weight.SLIGHT, Weight.SLIGHT, Weight.FULL],
        ),
        ("en", "Call `ana@acme.io` or `+49 170 5550199`.", [Weight.FULL, Weight.FULL]),
        ("fr", "Sauf erreur, ça date des années 60.", [Weight.SLIGHT]),
        ("en", "It sounds like the 1960s.", [Weight.SLIGHT]),
        ("ja", "1960年代の曲ですね。", [Weight.SLIGHT]),
        ("en", "It was in 1960.", [Weight.FULL]),
        ("en", "From 3.11 on: `python>=3.11`.", [Weight.VERSION]),
        ("en", "Write `python>=3.11`, since 3.11 has it.", [Weight.VERSION]),
    ],
)
def test_a_fact_weighs_what_it_would_cost_if_it_were_wrong(language: str, reply: str, weights: list[Weight]) -> None:
    assert [mark.weight for mark in Witness().unsupported(reply, [], language=language)] == weights


@per_row(
    ("language", "unreal", "real"),
    [
        ("en", "You would have bought it if you'd stayed until two.", "If you'd like, we could have lunch at two."),
        ("de", "Wenn du bis zwei geblieben wärst, hättest du es.", "Wenn du um zwei Zeit hättest, wäre das gut."),
        (
            "fr",
            "Si tu étais resté jusqu'à deux heures, tu l'aurais.",
            "Si tu avais le temps à deux heures, ce serait bien.",
        ),
        (
            "es",
            "Si te hubieras quedado hasta las dos, lo habrías visto.",
            "Si tuvieras tiempo a las dos, sería genial.",
        ),
        ("pt", "Se tivesses ficado até às duas, terias visto.", "Se tivesses tempo às duas, seria bom."),
        ("it", "Se fossi rimasto fino alle due, l'avresti visto.", "Se avessi tempo alle due, sarebbe bello."),
    ],
)
def test_what_would_have_been_weighs_little(language: str, unreal: str, real: str) -> None:
    assert [mark.weight for mark in Witness().unsupported(unreal, [], language=language)] == [Weight.SLIGHT]
    assert [mark.weight for mark in Witness().unsupported(real, [], language=language)] == [Weight.FULL]


def test_a_unit_or_a_currency_that_differs_is_marked() -> None:
    assert check("It takes 3 weeks.", "3 days") == ["3 weeks"]
    assert check("It costs $40.", "40 €") == ["$40"]


def test_a_handle_a_link_and_an_address_need_a_source_each() -> None:
    marks = Witness().unsupported("Write to ana@acme.io, @ana_acme or acme.io/help.", ["Ana"], language="en")
    assert [mark.kind for mark in marks] == [FactKind.EMAIL, FactKind.HANDLE, FactKind.LINK]


@pytest.mark.long
@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("language", ["en", "de", "tr", "ja"])
def test_a_hostile_text_takes_linear_time(name: str, language: str) -> None:
    # Takes 5 to 50 ms of CPU time; anything quadratic takes seconds.
    text = (HOSTILE[name] * 20_000)[:20_000]
    check("37", text, language=language)
    began = time.process_time()
    check(text, language=language)
    check("37", text, language=language)
    assert time.process_time() - began < 1


def test_the_same_sources_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    find = finder.find

    def noted(text: str, *how: Any, **more: Any) -> list[Fact]:
        read.append(text)
        return find(text, *how, **more)

    monkeypatch.setattr(finder, "find", noted)
    witness = Witness()
    sources = ["At the latest 2 pm."]
    for reply in ("At 3 pm.", "At 4 pm.", "It is 14:00."):
        sources.append(f"Read before {reply}")
        witness.unsupported(reply, sources, language="en")
    assert read.count("At the latest 2 pm.") == 1
    assert witness.unsupported("At 5 pm.", ["5 pm"], language="en") == []


def test_of_very_long_sources_the_first_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("draftd.reply.facts.witness.MAX_SOURCE_CHARS", 1_000)
    sources = ["2 pm", "word " * 200, "3 pm"]
    assert check("At 2 pm.", *sources) == []
    assert check("At 3 pm, then.", *sources) == ["3 pm"]


@pytest.mark.parametrize(
    ("language", "step"),
    [("en", 3), *(pytest.param(one, 1, marks=pytest.mark.long) for one in ("en", "de", "ja", "xx"))],
)
def test_a_number_of_any_length_is_read(language: str, step: int) -> None:
    digits = "9" * 5_000
    forms = f"{digits}割", f"about {digits}", f"'{digits}", f"{digits} hours", f"{digits}-1", f"#{digits}", f"v{digits}"
    for written in forms[::step]:
        check(written, written, language=language)
        check("about 50", written, language=language)
