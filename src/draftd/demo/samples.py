"""The sample screenshots, and how to know one again.

Owns the three pictures and their measures. They are told apart by their shape alone, because a picture reaches a model
resized and re-encoded: the three ratios of width to height must stay well apart, and none be taller than 2.5:1 (a
taller picture would be cut into slices).
"""

from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).parent / "samples"
_TOLERANCE = 0.004
"""Rounding to whole pixels at a long edge of 800 px moves the ratio by up to 0.2 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One screenshot with invented persons and companies."""

    name: str
    width_px: int
    height_px: int
    context: str
    """What a requester might add to it; the demo does."""

    @property
    def title(self) -> str:
        """The name for a person."""
        return self.name.replace("_", " ").replace("linkedin", "LinkedIn")

    @property
    def path(self) -> Path:
        """Where the PNG lies."""
        return _FOLDER / f"{self.name}.png"


LINKEDIN_POST = Sample(
    name="linkedin_post",
    width_px=1170,
    height_px=1412,
    context="We moved our on-call handover to a written log last spring and would not go back.",
)
EMAIL = Sample(
    name="email",
    width_px=1440,
    height_px=932,
    context="Thursday suits me. The figures will be ready on Wednesday evening.",
)
PHONE_CHAT = Sample(
    name="phone_chat",
    width_px=1170,
    height_px=2532,
    context="I can bring the tent, but not before seven.",
)
SAMPLES = (LINKEDIN_POST, EMAIL, PHONE_CHAT)


def recognise(width_px: int, height_px: int) -> Sample | None:
    """Return the sample of this shape, whatever its size, or None."""
    if width_px <= 0 or height_px <= 0:
        return None
    ratio = width_px / height_px
    for sample in SAMPLES:
        own = sample.width_px / sample.height_px
        if abs(ratio - own) <= own * _TOLERANCE:
            return sample
    return None
