"""Each package's docstring lists its modules."""

import re
from pathlib import Path

from tables import per_row

PACKAGES = sorted(path.parent for path in (Path(__file__).parents[2] / "src" / "draftd").glob("*/**/__init__.py"))


@per_row("package", PACKAGES, ids=lambda package: package.name)
def test_a_package_lists_its_modules(package: Path) -> None:
    _, face, _ = (package / "__init__.py").read_text().split('"""', 2)
    listed = re.findall(r"^ *(\w+) {2,}\S", face, re.MULTILINE)
    modules = [path.stem for path in package.glob("*.py") if path.stem != "__init__"]
    packages = [path.parent.name for path in package.glob("*/__init__.py")]
    assert sorted(listed) == sorted(modules + packages)
