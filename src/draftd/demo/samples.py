"""The sample screenshots, of invented people and companies.

None is taller than 2.5:1, so that each reaches a model in one piece.
"""

from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).parent / "samples"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One screenshot, of invented people and companies."""

    name: str
    width_px: int
    height_px: int
    context: str
    """The request's ``context`` in the demo."""

    @property
    def title(self) -> str:
        """The name for people."""
        return self.name.replace("_", " ").replace("linkedin", "LinkedIn")

    @property
    def path(self) -> Path:
        """The PNG file."""
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
