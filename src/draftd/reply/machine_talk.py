"""Texts of a screenshot that speak to a machine that writes, or of one: what an instruction to the model looks like.

Such a text is read and may be answered; but no link that stands in it is repeated in a reply. The words are few and common on
purpose: a text that is taken for machine talk by mistake costs a link that hardly anybody needs to be sent back.
"""

import re
import unicodedata
from functools import lru_cache

from draftd.reply import invisible

# In capitals only: "ai" is Italian for "to the", "ia" a form of the Portuguese "ir", "ki" Turkish for "that".
_CAPITALS = re.compile(r"(?<!\w)(?:A\.I\.|KI|IA|ИИ)(?!\w)|(?<![A-Za-z])AI(?![A-Za-z])")
_WORDS = (
    "llms?", r"(?:chat)?gpt\w*", "copilot", "chatbots?", "bots?", "language models?", "assistants?", "instructions?", "json",
    "system (?:message|notice|override)", r"(?:system\W?)?prompts?(?! (?:reply|response|answer|payment|action))",
    r"\w*sprachmodell\w*", r"assistent\w*", r"anweisung\w*", r"systemnachricht\w*", r"systemprompts?",
    "modelo de (?:lenguaje|linguagem)", "asistentes?", "instrucciones", "instruções", "mens(?:aje|agem) d[eo]l? sistema",
    "modèle de langage", "consignes?", "message système", "modello linguistico", "istruzioni", "messaggio di sistema",
    r"yapay zek\w*", r"dil modeli\w*", r"asistan\w*", r"talimat\w*", r"sistem mesaj\w*",
    r"нейросет\w*", r"ассистент\w*", r"инструкц\w*", r"промпт\w*",
)  # fmt: skip
_WITHOUT_SPACES = (
    "人工知能|言語モデル|アシスタント|プロンプト|システムメッセージ|指示|提示词|الذكاء الاصطناعي|المساعد|تعليمات"
)
_TALK = re.compile(rf"(?<!\w)(?:{'|'.join(_WORDS)})(?!\w)|{_WITHOUT_SPACES}")


@lru_cache(maxsize=128)  # the messages of one screenshot are judged for each of its replies
def is_in(text: str) -> bool:
    """Return whether a text speaks to or of a machine that writes."""
    shown = invisible.without(unicodedata.normalize("NFKC", text))
    return _CAPITALS.search(shown) is not None or _TALK.search(shown.casefold()) is not None
