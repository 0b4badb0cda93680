"""The examples of the documents, as a reader would copy them."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def example_agent() -> tuple[str, str]:
    """Return the second agent of ``docs/prompts.md``: its file's name and content."""
    page = (DOCS / "prompts.md").read_text(encoding="utf-8")
    (name,) = re.findall(r"there as `(\w+_agent\.md)`", page)
    (content,) = re.findall(r"^````markdown\n(.*?)^````$", page, re.DOTALL | re.MULTILINE)
    return name, content
