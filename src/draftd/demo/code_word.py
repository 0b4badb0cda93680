"""A picture of a message with a code word that nobody can guess, drawn without an imaging library.

It shows whether a model sees: the word stands in no prompt, and there are 24 million of them.
"""

import base64
import secrets
import struct
import zlib

WORD_CHARS = 6
LETTERS = "ACEFHJKLMNPRTVWXY"
"""Of code words; none looks like another."""
LINES = ("ANA", "OUR TABLE IS BOOKED", "UNDER THE NAME", "{word}", "DOES FRIDAY SUIT YOU")
DOT_PX, COLUMNS, ROWS = 6, 5, 7
CELL_PX = (COLUMNS + 1) * DOT_PX
LINE_PX = (ROWS + 4) * DOT_PX
MARGIN_PX = 4 * DOT_PX
WIDTH_PX = 2 * MARGIN_PX + max(map(len, LINES)) * CELL_PX
HEIGHT_PX = 2 * MARGIN_PX + len(LINES) * LINE_PX
_INK, _PAPER = 0x20, 0xF8
# A byte for each row of five dots, from the top; the lowest bit is the dot on the right.
GLYPHS = {
    letter: bytes.fromhex(rows)
    for letter, rows in {
        " ": "00000000000000", "A": "0e11111f111111", "B": "1e11111e11111e", "C": "0e11101010110e", "D": "1e11111111111e",
        "E": "1f10101e10101f", "F": "1f10101e101010", "H": "1111111f111111", "I": "0e04040404040e", "J": "0702020202120c",
        "K": "11121418141211", "L": "1010101010101f", "M": "111b1515111111", "N": "11191513111111", "O": "0e11111111110e",
        "P": "1e11111e101010", "R": "1e11111e141211", "S": "0f10100e01011e", "T": "1f040404040404", "U": "1111111111110e",
        "V": "11111111110a04", "W": "11111115151b11", "X": "11110a040a1111", "Y": "11110a04040404",
    }.items()
}  # fmt: skip


def random_word() -> str:
    """Return a code word."""
    return "".join(secrets.choice(LETTERS) for _ in range(WORD_CHARS))


def picture(word: str) -> str:
    """Return a message with a word in it, as a ``data:`` URL of a PNG."""
    rows = _rows([line.format(word=word) for line in LINES])
    header = struct.pack(">IIBBBBB", WIDTH_PX, HEIGHT_PX, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    png = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _rows(lines: list[str]) -> list[bytearray]:
    rows = [bytearray([_PAPER]) * WIDTH_PX for _ in range(HEIGHT_PX)]
    for number, line in enumerate(lines):
        for place, letter in enumerate(line):
            for at in range(ROWS * DOT_PX):
                dots = GLYPHS[letter][at // DOT_PX]
                for column in range(COLUMNS):
                    if dots >> (COLUMNS - 1 - column) & 1:
                        left = MARGIN_PX + place * CELL_PX + column * DOT_PX
                        row = rows[MARGIN_PX + number * LINE_PX + at]
                        row[left : left + DOT_PX] = bytes([_INK]) * DOT_PX
    return rows


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
