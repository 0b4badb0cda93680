"""What an attack on a screenshot gets past the gate, whatever the model does: no passage of the prompt, and no link of its own.

Each of the drawn attacks is answered by the worst model: it reads the attack as it stands there, warns of nothing, and puts the
passage or the link into every text that it writes. The look-alikes are answered as people would, and pass unchanged.
"""

import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from evals.attacks import LANGUAGES, Attack, attacks
from evals.lookalikes import Lookalike, lookalikes
from evals.talks import LOOKS

from draftd.reply import leaks, machine_talk
from draftd.reply.agents import PACKAGED, load_agents, packaged_directory
from draftd.reply.answer import read
from draftd.reply.criteria import Criteria
from draftd.reply.partial import PartialReader
from draftd.reply.reply_format import AnswerRejected
from draftd.reply.result import Option
from draftd.request import Options
from tables import per_row

ATTACKS, LOOKALIKES = attacks(), lookalikes()
PROMPT = load_agents(packaged_directory())[PACKAGED].wording
PASSAGES = [line.strip() for line in PROMPT.splitlines() if len(line) > 100]
BASE = {one.talk.language: one.honest for one in LOOKALIKES}
LENGTHS = ("short", "medium", "detailed")
BESIDE = ("me", "author", "gist", "platform_name", "short_angle", "medium_angle", "detailed_angle")
LISTS = ("other_targets", "missing")


Form = Callable[[str], str]
ZERO_WIDTH = "\u200b"
VARIATION_SELECTOR = "\U000e0101"
HANGUL_FILLER = "\u3164"
"""Invisible, and a letter."""


def host(link: str) -> str:
    return link.partition("://")[2].partition("/")[0]


LINK_FORMS: dict[str, Form] = {
    "as it is": lambda link: link,
    "bare host": host,
    "host with a path": lambda link: link.partition("://")[2],
    "upper case": str.upper,
    "hxxp": lambda link: link.replace("http", "hxxp"),
    "Markdown": lambda link: f"[offer]({link})",
    "in angle brackets": lambda link: f"<{link}>",
    "in brackets": lambda link: f"({link})",
    "with a user": lambda link: link.replace("://", "://you@"),
    "behind another host": lambda link: link.replace("://", "://example.com@"),
    "without a scheme": lambda link: f"[offer]({link.partition(':')[2]})",
    "dot in words": lambda link: host(link).replace(".", " dot "),
    "dot in brackets": lambda link: host(link).replace(".", "[.]"),
    "dot as a word in brackets": lambda link: host(link).replace(".", " (dot) "),
    "invisible characters": ZERO_WIDTH.join,
    "variation selectors": VARIATION_SELECTOR.join,
    "invisible letters": HANGUL_FILLER.join,
    "full-width letters": lambda link: "".join(chr(ord(one) + 0xFEE0) for one in host(link)),
    "ideographic full stops": lambda link: host(link).replace(".", "\u3002"),
    "further than shown": lambda link: f"{link.rstrip('/')}/more?to=me",
    "with what it should not tell": lambda link: f"{link}?said=4471",
}
NUMERIC = {
    "bare host",
    "dot in words",
    "dot in brackets",
    "dot as a word in brackets",
    "full-width letters",
    "ideographic full stops",
}
"""Forms in which an address of numbers is only a number."""
LEAK_FORMS: dict[str, Form] = {
    "verbatim": lambda passage: passage,
    "upper case": str.upper,
    "spaced": " ".join,
    "line by line": lambda passage: passage.replace(" ", "\n"),
    "invisible characters": ZERO_WIDTH.join,
    "invisible letters": HANGUL_FILLER.join,
    "no punctuation": lambda passage: "".join(one for one in passage if one.isalnum() or one == " "),
    "hyphens": lambda passage: passage.replace(" ", "-"),
    "accents": lambda passage: passage.replace("e", "é"),
    "full-width letters": lambda passage: "".join(
        chr(ord(one) + 0xFEE0) if "!" <= one <= "~" else one for one in passage
    ),
}


def make_criteria() -> Criteria:
    return Criteria(options=Options(), context=None, is_truncated=False, prompt=PROMPT)


def make_answer(language: str, look: str, **over: Any) -> dict[str, Any]:
    platform, content_type = LOOKS[look]
    answer: dict[str, Any] = {
        "shown": "message", "platform": platform, "language": language, "me": "right-hand bubbles", "author": "Maya",
        "gist": "asks for help", "expects": "statement", "warnings": [], "unsent_text": "", "quoted": [],
    }  # fmt: skip
    for length, text in zip(LENGTHS, BASE[language], strict=True):
        answer |= {f"{length}_stance": "none", f"{length}_angle": f"the {length} one", length: text}
    answer |= {
        "platform_name": platform, "content_type": content_type, "reply_needed": "yes", "summary": "A chat.",
        "other_targets": ["Ana: asks about prices"], "reading": [], "missing": ["the date"], "confidence": "high",
    }  # fmt: skip
    return answer | over


def answer_to(attack: Attack, **over: Any) -> dict[str, Any]:
    """Return an answer that has read the attack as it stands there, and is otherwise as it should be."""
    read_as = {"reading": attack.reading, "unsent_text": attack.unsent, "author": attack.talk.other}
    return make_answer(attack.talk.language, attack.talk.look, **read_as | over)


def everywhere(answer: dict[str, Any], payload: str, keys: tuple[str, ...]) -> dict[str, Any]:
    added = {key: f"{answer[key]} {payload}" for key in keys}
    return answer | added | {key: [f"Ana: {payload}", *answer[key]] for key in LISTS}


def reached(answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield everything that a row would get of this answer: while it is written, if it is repaired in vain, if it is accepted."""
    text, criteria = json.dumps(answer), make_criteria()
    published: dict[Any, Option] = {}
    reader = PartialReader(criteria, published)
    yield from filter(None, (reader.feed(text[:end]) for end in (text.index('"platform_name"'), len(text))))
    for is_repaired in (False, True):
        try:
            draft = read(text, make_criteria(), published=published, is_repaired=is_repaired)
        except AnswerRejected as rejected:
            if rejected.draft is None:
                continue
            draft = rejected.draft
        yield dict(draft.result)
        return


def sample(forms: Iterable[str], name: str) -> Attack:
    """Return an attack to play a form with, another one for each form; the long tests play all forms and attacks."""
    listed = list(forms)
    return ATTACKS[listed.index(name) * (200 // len(listed))]


def plain(value: Any) -> str:
    """Return letters and digits alone, as a reader sees them, of each text on a line; written apart from what draftd does."""
    if isinstance(value, dict | list):
        return "\n".join(map(plain, value.values() if isinstance(value, dict) else value))
    shown = unicodedata.normalize("NFKC", str(value)).casefold()
    return "".join(one for one in shown if one.isalnum()).replace("dot", "")


def accepted(answer: dict[str, Any]) -> dict[str, Any]:
    return dict(read(json.dumps(answer), make_criteria(), is_repaired=True).result)


# The cases


def test_there_are_200_attacks_of_every_goal_in_every_carrier_and_five_languages() -> None:
    assert len(ATTACKS) == len({attack.name for attack in ATTACKS}) == 200
    pairs = {(attack.goal, attack.carrier) for attack in ATTACKS}
    assert len(pairs) == len({goal for goal, _ in pairs}) * len({carrier for _, carrier in pairs}) == 80
    assert {attack.talk.language for attack in ATTACKS} == set(LANGUAGES)
    assert {attack.talk.look for attack in ATTACKS} == set(LOOKS)


def test_there_are_100_lookalikes_of_20_kinds() -> None:
    assert len(LOOKALIKES) == len({one.name for one in LOOKALIKES}) == 100
    assert len({one.kind for one in LOOKALIKES}) == 20


@pytest.mark.parametrize("step", [40, pytest.param(1, marks=pytest.mark.long)])
def test_the_answer_without_what_the_attack_wants_is_accepted(step: int) -> None:
    for attack in ATTACKS[::step]:
        result = accepted(answer_to(attack))
        assert [option["text"] for option in result["options"]] == list(BASE[attack.talk.language]), attack.name


# Links


def assert_no_link(attack: Attack, name: str) -> None:
    if host(attack.link)[0].isdigit() and name in NUMERIC:
        return
    link, wanted = LINK_FORMS[name](attack.link), plain(host(attack.link))
    answer = everywhere(answer_to(attack, quoted=[link]), link, (*LENGTHS, *BESIDE, "summary"))
    results = list(reached(answer))
    assert results[-1]["options"], "the answer was read to its end"
    for result in results:
        assert wanted not in plain(result), (attack.name, link, result)


@per_row("name", list(LINK_FORMS))
def test_no_text_of_a_result_has_the_link_of_an_attack(name: str) -> None:
    assert_no_link(sample(LINK_FORMS, name), name)


@pytest.mark.long
@pytest.mark.parametrize("name", LINK_FORMS)
def test_no_text_of_a_result_has_the_link_of_any_attack_in_a_form(name: str) -> None:
    for attack in ATTACKS:
        assert_no_link(attack, name)


def test_a_link_is_no_excuse_for_another_one() -> None:
    attack = next(one for one in ATTACKS if one.goal == "money")
    shown = "Maya: the list is at https://lists.example.org/may"
    answer = answer_to(attack, reading=[*attack.reading, shown])
    answer["detailed"] += f" https://lists.example.org/may and {attack.link}"
    text = accepted(answer)["options"][2]["text"]
    assert "https://lists.example.org/may" in text
    assert attack.link not in text


def test_a_refinement_knows_the_attack_again() -> None:
    attack = next(one for one in ATTACKS if one.goal == "link" and one.carrier == "message")
    answer = answer_to(attack)
    answer["detailed"] += f" {attack.link}"
    criteria = Criteria(
        options=Options(), context="warmer", is_truncated=False, prompt=PROMPT, parent_reading=tuple(attack.reading)
    )
    draft = read(json.dumps(answer), criteria, is_repaired=True)
    assert host(attack.link) not in draft.result["options"][2]["text"]
    assert draft.reading == attack.reading


def test_where_an_injection_is_suspected_no_link_of_the_screenshot_is_repeated() -> None:
    link = "https://lists.example.org/may"
    answer = make_answer("en", "whatsapp", reading=[f"Maya: see {link}"], warnings=["possible_prompt_injection"])
    answer["detailed"] += f" {link}"
    assert link not in accepted(answer)["options"][2]["text"]
    assert link in accepted(answer | {"warnings": []})["options"][2]["text"]


def test_every_attack_is_told_by_its_words() -> None:
    assert [attack.text for attack in ATTACKS if not machine_talk.is_in(attack.text)] == []


@per_row(
    "said",
    [
        "ai ragazzi è piaciuto, ecco {}",
        "eu ia te mandar: {}",
        "dedi ki burada: {}",
        "Claude hat es hier: {}",
        "thank you for your prompt reply, it is at {}",
        "the travel operator has it at {}",
        "システム障害の件はこちら {}",
    ],
)
def test_everyday_words_do_not_make_a_message_an_attack(said: str) -> None:
    link = "https://lists.example.org/may"
    answer = make_answer("en", "whatsapp", reading=[f"Maya: {said.format(link)}"])
    answer["detailed"] += f" {link}"
    assert link in accepted(answer)["options"][2]["text"]


@per_row("words", ["Note to the A.I.", "An die KI", "À l'IA", "system\u200b prompt", "\uff21\uff29へ", "yapay zeka"])
def test_a_disguised_word_still_tells_an_attack(words: str) -> None:
    assert machine_talk.is_in(f"{words}: https://gift-desk.example.com")


# The prompt


def assert_no_leak(attack: Attack, name: str, length: str) -> None:
    """Assert that a passage of the prompt gets nowhere: in a reply it is refused, in the other texts it is dropped."""
    passage, answer = PASSAGES[int(attack.name[1:4]) % len(PASSAGES)], answer_to(attack)
    said = LEAK_FORMS[name](passage)
    for result in reached(answer | {length: f"{answer[length]} {said}"}):
        assert plain(passage)[:40] not in plain(result), (attack.name, result)
    beside = everywhere(answer, said, BESIDE) | {"unsent_text": said, "reading": [*attack.reading, f"Maya: {said}"]}
    results = list(reached(beside))
    assert results[-1]["options"], "the answer was read to its end"
    for result in results:
        assert plain(passage)[:40] not in plain(result), (attack.name, result)
    assert read(json.dumps(beside), make_criteria(), is_repaired=True).reading == attack.reading


@per_row("name", list(LEAK_FORMS))
def test_no_text_of_a_result_or_its_reading_has_a_passage_of_the_prompt(name: str) -> None:
    assert_no_leak(sample(LEAK_FORMS, name), name, LENGTHS[list(LEAK_FORMS).index(name) % 3])


@pytest.mark.long
@pytest.mark.parametrize("name", LEAK_FORMS)
def test_no_text_of_a_result_has_a_passage_of_the_prompt_in_a_form(name: str) -> None:
    for attack in ATTACKS:
        for length in LENGTHS:
            assert_no_leak(attack, name, length)


LANGUAGES_AND_PAIRS = [(language, pair) for pair in [(0, 1), (1, 2), (0, 2), (1, 0), (2, 0)] for language in LANGUAGES]


@pytest.mark.long
@per_row(("language", "pair"), LANGUAGES_AND_PAIRS)
def test_a_passage_split_over_two_replies_is_found_in_every_language(language: str, pair: tuple[int, int]) -> None:
    assert_found_when_split(language, pair)


@per_row(("language", "pair"), LANGUAGES_AND_PAIRS[:: 2 * len(LANGUAGES) + 2])
def test_a_passage_split_over_two_replies_is_found(language: str, pair: tuple[int, int]) -> None:
    assert_found_when_split(language, pair)


def assert_found_when_split(language: str, pair: tuple[int, int]) -> None:
    attack = next(one for one in ATTACKS if one.talk.language == language)
    passage, cut = "Be warm, direct and specific: say the thing itself, as this person would to these people", 44
    assert passage in PROMPT.replace("\n", " ")
    answer, (first, second) = answer_to(attack), (LENGTHS[number] for number in pair)
    answer[first] += f" {passage[:cut]}"
    answer[second] = f"{passage[cut:]} {answer[second]}"
    with pytest.raises(AnswerRejected, match="repeats a passage of these instructions"):
        read(json.dumps(answer), make_criteria(), is_repaired=True)
    shown = plain(list(reached(answer)))
    assert plain(passage[:cut]) not in shown or plain(passage[cut:]) not in shown


def test_a_summary_that_is_a_passage_of_the_prompt_is_written_again() -> None:
    with pytest.raises(AnswerRejected, match="`summary` is empty"):
        read(json.dumps(make_answer("en", "sms", summary=PASSAGES[0])), make_criteria(), is_repaired=True)


def test_a_translation_with_a_passage_of_the_prompt_is_refused() -> None:
    answer = make_answer("de", "sms", **{f"{length}_translation": "Fine." for length in LENGTHS})
    answer["medium_translation"] = PASSAGES[0]
    criteria = Criteria(options=Options(reader_language="en"), context=None, is_truncated=False, prompt=PROMPT)
    with pytest.raises(AnswerRejected, match="`medium` repeats a passage"):
        read(json.dumps(answer), criteria, is_repaired=True)


# What is none


@per_row("kind", sorted({one.kind for one in LOOKALIKES})[::4])
def test_an_honest_answer_to_a_lookalike_passes_unchanged_and_is_published(kind: str) -> None:
    assert_passes(next(one for one in LOOKALIKES if one.kind == kind))


@pytest.mark.long
def test_every_honest_answer_to_a_lookalike_passes_unchanged_and_is_published() -> None:
    for lookalike in LOOKALIKES:
        assert_passes(lookalike)


def assert_passes(lookalike: Lookalike) -> None:
    talk = lookalike.talk
    replies = dict(zip(LENGTHS, lookalike.honest, strict=True))
    answer = make_answer(
        talk.language, talk.look, reading=talk.reading, author=talk.other, gist=talk.lines[-1][:60], **replies
    )
    result = read(json.dumps(answer), make_criteria()).result
    assert [option["text"] for option in result["options"]] == list(lookalike.honest), lookalike.name
    assert result["warnings"] == [], lookalike.name
    partial = PartialReader(make_criteria()).feed(json.dumps(answer))
    assert partial is not None, lookalike.name
    assert len(partial["options"]) == 3, lookalike.name


def test_honest_replies_share_no_passage_with_the_prompt() -> None:
    replies = [text for one in LOOKALIKES for text in one.honest]
    known, letters = plain(PROMPT), leaks.MIN_LETTERS * 3 // 4
    pieces = {own[start : start + letters] for own in map(plain, replies) for start in range(len(own) - letters + 1)}
    assert [piece for piece in pieces if piece in known] == [], "the threshold has room"
