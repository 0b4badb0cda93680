from draftd.images.hdr import HLG, PQ, screen_table
from tables import per_row

SRGB, BT709 = 13, 1


@per_row("value", [0, BT709, SRGB, 99])
def test_an_ordinary_picture_stays_as_it_is(value: int) -> None:
    assert screen_table(value) is None


@per_row(("value", "white"), [(PQ, 148), (HLG, 191)])
def test_white_becomes_white_and_darker_light_stays_darker(value: int, white: int) -> None:
    """203 cd/m2 are 58 % of PQ and 75 % of HLG (ITU-R BT.2408, table 1)."""
    table = screen_table(value)

    assert table is not None
    assert (len(table), table[0], table[-1]) == (256, 0, 255)
    assert table == sorted(table)
    assert table[white] >= 253
    assert table[white - 10] < 250
