"""One conversation to draw, from its file, and what is known of it."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evals.elements import Item

PHONE_WIDTH = 390
DESKTOP_WIDTH = 1000
_SIZES = {"phone": (PHONE_WIDTH, 720), "desktop": (DESKTOP_WIDTH, 640)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What is drawn; lengths are in CSS pixels."""

    look: str
    """Whose colours and arrangement it has: a key of ``pages.LOOKS``."""
    language: str
    """Of the page, which decides its fonts and its direction."""
    width: int = PHONE_WIDTH
    height: int = _SIZES["phone"][1]
    texts: Mapping[str, Any] = field(default_factory=dict)
    """The texts around the conversation: title, subtitle, placeholder, unsent text."""
    items: tuple[Item, ...] = ()

    @property
    def is_phone(self) -> bool:
        """Whether it is the screen of a phone."""
        return self.width < 600

    @property
    def density(self) -> int:
        """Pixels of the picture per CSS pixel."""
        return 2 if self.is_phone else 1

    def text(self, name: str, default: str = "") -> str:
        """Return one of the texts around the conversation."""
        return str(self.texts.get(name, default))


def read(path: Path) -> tuple[Scene, dict[str, Any]]:
    """Return the scene of a file, and its labels."""
    content = tomllib.loads(path.read_text())
    labels, items = content.pop("case"), tuple(content.pop("item"))
    look, (width, height) = content.pop("look"), _SIZES[content.pop("screen", "phone")]
    return Scene(
        look=look,
        language=content.pop("interface", labels["language"]),
        width=width,
        height=content.pop("height", height),
        texts=content,
        items=items,
    ), labels
