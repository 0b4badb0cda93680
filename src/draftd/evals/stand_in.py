"""The stand-ins for the model under test and for the judge: they show that an evaluation works, and nothing about drafts.

The first answers each case as its labels say, with canned replies; the second judges by simple rules. Invariant: neither can be
mistaken for a model, by its replies or its name.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from draftd.demo.scenes import COMMON
from draftd.evals.cases import Case
from draftd.evals.criteria import Failure
from draftd.evals.judging import FIRST, MARKER, SECOND, TIE
from draftd.evals.results import LENGTHS

MODEL = "stand-in"
JUDGE = "stand-in-judge"
_SAID: Mapping[str, tuple[str, str, str]] = {
    "en": (
        "Stand-in reply: thank you.",
        "This is good to know at last.",
        "It helps me more than you may think right now.",
    ),
    "de": (
        "Probeantwort: vielen Dank.",
        "Das ist gut zu wissen, wirklich.",
        "Es hilft mir gerade mehr, als du vielleicht denkst.",
    ),
    "fr": (
        "Réponse factice : merci.",
        "C'est vraiment bon à savoir.",
        "Cela m'aide bien plus que tu ne le penses peut-être.",
    ),
    "es": (
        "Respuesta simulada: gracias.",
        "Está muy bien saberlo por fin.",
        "Me ayuda ahora mucho más de lo que quizá crees.",
    ),
    "pt": (
        "Resposta simulada: obrigado.",
        "É muito bom saber disso agora.",
        "Isso me ajuda muito mais do que você talvez pense.",
    ),
    "it": (
        "Risposta finta: grazie.",
        "È davvero bello saperlo adesso.",
        "Mi aiuta molto più di quanto forse tu possa pensare.",
    ),
    "tr": (
        "Deneme yanıtı: teşekkürler.",
        "Bunu öğrenmek gerçekten güzel.",
        "Bu bana sandığından çok daha fazla yardımcı oluyor.",
    ),
    "ja": (
        "テスト返信です、ありがとう。",
        "それを知ることができて本当によかったです。",
        "思っている以上に今の私にとって助けになっています。",
    ),
}
"""What is said in a language, one sentence more in each length; in any other language signs stand for it."""
_SIGNS = ("👍", "👌 ✅", "🙂 🎉 ✅ 👌 🙏")


def traceparent(case: Case) -> str:
    """Return the trace of a case's request, by which its model calls are told apart."""
    digest = hashlib.sha256(case.n.encode()).hexdigest()
    return f"00-{digest[:32]}-{digest[32:48]}-01"


class StandIn:
    """Answers the calls of an evaluation.

    Args:
        cases: of the evaluation.
    """

    def __init__(self, cases: Iterable[Case]) -> None:
        self._cases = {traceparent(case): case for case in cases}

    def answer(self, call: Mapping[str, Any], headers: Mapping[str, str]) -> Mapping[str, Any]:
        """Return the object that is answered to a call.

        Raises:
            ValueError: the call belongs to no case.
        """
        if call["model"] == JUDGE:
            return judgement(_judged(call))
        case = self._cases.get(headers.get("traceparent", ""))
        if case is None:
            raise ValueError("the stand-in answers for the cases of its evaluation only")
        return scene(case)


def scene(case: Case) -> dict[str, Any]:
    """Return what a model would say about a case that reads as its labels do, with canned replies."""
    language = next(iter(case.language), "en")
    said = case.options.get("language") or language
    texts = _replies(str(said))
    stance = case.options.get("stance") or "none"
    shown = {"nothing_to_reply_to": "nothing", "nothing_open": "closed_list"}.get(
        next(iter(case.outcome), ""), "message"
    )
    answer: dict[str, Any] = {
        **COMMON,
        "shown": shown,
        "platform": next(iter(case.platform), "other"),
        "platform_name": next(iter(case.platform), "unknown"),
        "content_type": next(iter(case.content_type), "other"),
        "language": language,
        "reply_language": said,
        "me": case.me or "",
        "author": "the author",
        "gist": case.answer_to or "says something that the stand-in cannot read",
        "summary": "The stand-in read the labels of this case; no model looked at the picture.",
        "expects": "nothing" if "no" in case.reply_needed else "statement",
        "reply_needed": next(iter(case.reply_needed), "unclear"),
        "reading": ["The stand-in reads no text from pictures."],
        "confidence": "low",
    }
    for length, text in zip(LENGTHS, texts, strict=True):
        answer |= {length: text, f"{length}_angle": "a canned reply", f"{length}_stance": stance}
    return answer


def _replies(language: str) -> tuple[str, str, str]:
    """Return canned replies in a language, each longer than the one before."""
    sentences = _SAID.get(language.partition("-")[0].lower())
    if sentences is None:
        return _SIGNS
    one, two, three = sentences
    return one, f"{one} {two}", f"{one} {two} {three}"


def judgement(judged: Mapping[str, Any]) -> dict[str, Any]:
    """Return a verdict or a comparison by simple rules.

    A reply that holds words of ``must_not_say`` fails, and one that asks twice is evasive. The set with more different words
    wins.
    """
    if FIRST in judged:
        first, second = (len(set(" ".join(judged[side].values()).casefold().split())) for side in (FIRST, SECOND))
        winner = TIE if first == second else FIRST if first > second else SECOND
        return {"reason": "The stand-in counts different words.", "winner": winner}
    replies: Mapping[str, str] = judged["replies"]
    forbidden = [words.casefold() for words in judged.get("must_not_say", ())]
    says = [length for length, text in replies.items() if any(words in text.casefold() for words in forbidden)]
    evasive = [length for length, text in replies.items() if text.count("?") > 1]
    failing = [length for length in replies if length in {*says, *evasive}]
    found: dict[str, Any] = {failure.value: [] for failure in Failure}
    found |= {Failure.SAYS_FORBIDDEN.value: says, Failure.EVASIVE.value: evasive, Failure.NOT_SEND_READY.value: failing}
    return found | {f"{length}_reason": "The stand-in judges by simple rules." for length in LENGTHS}


def _judged(call: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a judge's call asks about."""
    parts = [
        part for message in call["messages"] if isinstance(message["content"], list) for part in message["content"]
    ]
    text = "".join(part.get("text", "") for part in parts)
    given, _ = json.JSONDecoder().raw_decode(text.rpartition(MARKER)[2])
    if not isinstance(given, dict):
        raise ValueError("no case to judge")  # noqa: TRY004 - one kind of error for whatever was sent
    return given
