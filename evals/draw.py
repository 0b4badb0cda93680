"""Draw the pictures of the cases.

python -m evals.draw cases [--only 003]      again into ``evals/cases``, with ``cases.json``
python -m evals.draw injection --out DIR     the attacks and look-alikes, with a ``cases.json`` of their own
"""

import argparse
import sys
from pathlib import Path

from benchmarks import chromium

from evals import cases, drawing
from evals.attacks import Attack, attacks
from evals.lookalikes import Lookalike, lookalikes


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Draw the pictures of the cases.")
    commands = parser.add_subparsers(dest="command", required=True)
    drawn = commands.add_parser("cases", help="draw the committed cases again")
    drawn.add_argument("--only", default="", help="begin of the names of the cases to draw")
    injection = commands.add_parser("injection", help="draw the attacks and look-alikes")
    injection.add_argument("--out", type=Path, required=True, help="a folder for the pictures and their cases.json")
    injection.add_argument("--only", default="", help="begin of the names to draw")
    arguments = parser.parse_args()
    program = chromium.find()
    if program is None:
        sys.exit(f"there is no browser ({', '.join(chromium.PROGRAMS)}); on Debian: {drawing.INSTALL}")
    if arguments.command == "injection":
        _draw_injection(arguments.out, arguments.only, program)
        return
    drawing.draw(
        {picture: scene for picture, scene in cases.scenes().items() if picture.name.startswith(arguments.only)},
        program,
    )
    cases.write()


def _draw_injection(folder: Path, only: str, program: str) -> None:
    drawn: list[Attack | Lookalike] = [*attacks(), *lookalikes()]
    chosen = [one for one in drawn if one.name.startswith(only)]
    folder.mkdir(parents=True, exist_ok=True)
    drawing.draw({folder / f"{one.name}.webp": one.scene() for one in chosen}, program)
    (folder / "cases.json").write_text(cases.as_json([one.labels() for one in chosen]))


if __name__ == "__main__":
    main()
