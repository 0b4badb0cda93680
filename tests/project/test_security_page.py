"""Every test that the security page names is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_promise_of_the_security_page_is_shown_by_a_test_that_exists() -> None:
    named = re.findall(r"`([a-z]+/test_\w+\.py)::(test_\w+)`", (ROOT / "docs/security.md").read_text())

    assert len(named) > 40
    sources = {path: (ROOT / "tests" / path).read_text() for path, _ in named}
    for path, name in named:
        assert re.search(rf"^(async )?def {name}\(", sources[path], re.MULTILINE), (path, name)
