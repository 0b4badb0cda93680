"""How the brightness of an HDR picture is shown on an ordinary screen.

Owns the tables from the transfer functions of HDR to sRGB. Phones take HDR screenshots whose white stands far below the largest
value: read as it is, a page would be grey on dark grey. Runs only in the helper process, and uses only the standard library.
"""

import math

WHITE_CD_M2 = 203.0
"""How bright paper white is in an HDR picture (ITU-R BT.2408)."""
PQ, HLG = 16, 18
"""Transfer characteristics (ITU-T H.273, table 3)."""

_LARGEST = 255
_PQ_PEAK_CD_M2, _HLG_PEAK_CD_M2 = 10_000.0, 1_000.0
_M1, _M2 = 2610 / 16_384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
"""Of the PQ curve (SMPTE ST 2084)."""
_A, _B, _C = 0.17883277, 0.28466892, 0.55991073
"""Of the HLG curve (ITU-R BT.2100)."""
_HLG_GAMMA = 1.2


def screen_table(transfer_characteristics: int) -> list[int] | None:
    """Return what each value of 8 bits becomes on an ordinary screen; None if it stays as it is.

    White stays white, and what is brighter than white becomes white: on a page nothing that is read is brighter.
    """
    light = {PQ: _pq_light, HLG: _hlg_light}.get(transfer_characteristics)
    if light is None:
        return None
    return [round(_LARGEST * _srgb(min(1.0, light(value / _LARGEST) / WHITE_CD_M2))) for value in range(_LARGEST + 1)]


def _pq_light(value: float) -> float:
    power = value ** (1 / _M2)
    return float(_PQ_PEAK_CD_M2 * (max(power - _C1, 0.0) / (_C2 - _C3 * power)) ** (1 / _M1))


def _hlg_light(value: float) -> float:
    scene = value**2 / 3 if value <= 1 / 2 else (math.exp((value - _C) / _A) + _B) / 12
    return float(_HLG_PEAK_CD_M2 * scene**_HLG_GAMMA)


def _srgb(light: float) -> float:
    return 12.92 * light if light <= 0.0031308 else float(1.055 * light ** (1 / 2.4) - 0.055)  # noqa: PLR2004 - IEC 61966-2-1
