"""The examples of the documents, as a reader would copy them."""

import re
import textwrap
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def blocks(page: str, language: str) -> list[str]:
    """Return the fenced blocks of a page in one language, without the indentation of a list."""
    found = re.findall(rf"^ *```{language}\n(.*?)^ *```", page, re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(one) for one in found]


def example_agent() -> tuple[str, str]:
    """Return the second agent of ``docs/prompts.md``: its file's name and content."""
    page = (DOCS / "prompts.md").read_text(encoding="utf-8")
    (name,) = re.findall(r"there as `(\w+_agent\.md)`", page)
    (content,) = re.findall(r"^````markdown\n(.*?)^````$", page, re.DOTALL | re.MULTILINE)
    return name, content
