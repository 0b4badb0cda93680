"""The requester's signature below a mail.

draftd adds it, so that it stands there exactly as given and costs no output. Invariant: it is never there twice, also where the
model has written it, or the name in it, itself.
"""

from typing import Final

GAP: Final = "\n\n"


def signed(text: str, signature: str) -> str:
    """Return a mail with its signature; a text that has it already, or is empty, unchanged."""
    if not text or not signature or _has(text, signature):
        return text
    body, own = text.splitlines(), {_letters(line) for line in signature.splitlines()}
    # The model closed with the name, which is the signature's first line: "Best regards,\nJana".
    while body and _letters(body[-1]) in own | {""}:
        body.pop()
    return "\n".join(body) + GAP + signature if body else text


def unsigned(text: str, signature: str) -> str:
    """Return a mail without the signature that ``signed`` added."""
    return text.removesuffix(GAP + signature) if signature else text


def _has(text: str, signature: str) -> bool:
    """Return whether a text ends with the signature's words, or has its lines further up; "Lea" is not in "please"."""
    own = _words(signature)
    if not own:
        return signature in text
    lines, wanted = _filled(text), _filled(signature)
    return _words(text)[-len(own) :] == own or any(
        lines[at : at + len(wanted)] == wanted for at in range(len(lines) - len(wanted) + 1)
    )


def _words(text: str) -> list[str]:
    return [letters for word in text.split() if (letters := _letters(word))]


def _filled(text: str) -> list[str]:
    """Return the letters of each line that has any."""
    return [letters for line in text.splitlines() if (letters := _letters(line))]


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))
