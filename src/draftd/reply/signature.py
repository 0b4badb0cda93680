"""The requester's signature below a mail.

draftd adds it, so that it stands there exactly as given and costs no output. Invariant: it is never there twice, also where the
model has written it, or the name in it, itself.
"""

from typing import Final

GAP: Final = "\n\n"


def signed(text: str, signature: str) -> str:
    """Return a mail with its signature; a text that has it already, or is empty, unchanged."""
    if not text or not signature or _letters(signature) in _letters(text):
        return text
    body, own = text.splitlines(), {_letters(line) for line in signature.splitlines()}
    # The model closed with the name, which is the signature's first line: "Best regards,\nJana".
    while body and _letters(body[-1]) in own | {""}:
        body.pop()
    return "\n".join(body) + GAP + signature if body else text


def unsigned(text: str, signature: str) -> str:
    """Return a mail without the signature that ``signed`` added."""
    return text.removesuffix(GAP + signature) if signature else text


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))
