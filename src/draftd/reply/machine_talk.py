"""Texts of a screenshot that speak to a machine, or of one: what an instruction to the model looks like.

Such a text is read and may be answered; but no link that stands in it is repeated in a reply. The words are few and common on
purpose: a text that is taken for machine talk by mistake costs a link that nobody needs to be sent back.
"""

import re
import unicodedata
from functools import lru_cache

from draftd.reply import invisible

_WORDS = (
    r"a\.?i\.?", "ki", "ia", "llms?", r"(?:chat)?gpt\w*", "claude", "gemini", "copilot", "chatbots?", "bots?",
    r"\w*prompts?", "language model", "assistants?", "instructions?", "system message", "operator", "json", "reply generator",
    r"sprachmodell\w*", r"assistent\w*", r"anweisung\w*", r"systemnachricht\w*", r"betreiber\w*",
    r"modelo de (?:lenguaje|linguagem)", r"asistentes?", "instrucciones", "instruções", r"operador\w*",
    "modèle de langage", "consignes?", r"opérat\w+", "istruzioni", "modello linguistico",
    r"yapay zek\w*", r"dil modeli\w*", r"asistan\w*", r"talimat\w*", r"operatör\w*",
    "ии", r"нейросет\w*", r"ассистент\w*", r"инструкц\w*", r"промпт\w*",
)  # fmt: skip
_WITHOUT_SPACES = (
    r"人工知能|言語モデル|アシスタント|プロンプト|システム|指示|运营|提示词|الذكاء الاصطناعي|المساعد|تعليمات|المشغّ?ل"
)
_TALK = re.compile(rf"(?<!\w)(?:{'|'.join(_WORDS)})(?!\w)|(?<![a-z])ai(?![a-z])|{_WITHOUT_SPACES}")


@lru_cache(maxsize=128)  # the messages of one screenshot are judged for each of its replies
def is_in(text: str) -> bool:
    """Return whether a text speaks to or of a machine that writes."""
    return _TALK.search(invisible.without(unicodedata.normalize("NFKC", text)).casefold()) is not None
