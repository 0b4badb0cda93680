"""What the stand-in reads: the code word in the doctor's picture, letter by letter."""

import io

from PIL import Image

from draftd.demo.code_word import (
    CELL_PX,
    COLUMNS,
    DOT_PX,
    GLYPHS,
    LETTERS,
    LINE_PX,
    LINES,
    MARGIN_PX,
    ROWS,
    WORD_CHARS,
)

_DARK = 128


def code_word_in(data: bytes) -> str | None:
    """Return the word of a picture that has the size of the doctor's; None when it is another picture."""
    with Image.open(io.BytesIO(data)) as opened:
        picture = opened.convert("L")
    top = MARGIN_PX + LINES.index("{word}") * LINE_PX
    by_glyph = {GLYPHS[letter]: letter for letter in LETTERS}
    letters = [by_glyph.get(_glyph(picture, MARGIN_PX + place * CELL_PX, top)) for place in range(WORD_CHARS)]
    return "".join(letter for letter in letters if letter) if all(letters) else None


def _glyph(picture: Image.Image, left: int, top: int) -> bytes:
    def is_dark(column: int, row: int) -> bool:
        value = picture.getpixel((left + column * DOT_PX + DOT_PX // 2, top + row * DOT_PX + DOT_PX // 2))
        return isinstance(value, int) and value < _DARK

    rows = [[is_dark(column, row) for column in range(COLUMNS)] for row in range(ROWS)]
    return bytes(int("".join("01"[dark] for dark in row), 2) for row in rows)
