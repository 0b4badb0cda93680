"""Draw the pictures of the cases.

python -m evals.draw cases [--only 003]      again into ``evals/cases``, with ``cases.json``
python -m evals.draw injection --out DIR     the attacks and look-alikes, with a ``cases.json`` of their own
"""

import argparse
import sys

from benchmarks import chromium

from evals import cases, drawing


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Draw the pictures of the cases.")
    commands = parser.add_subparsers(dest="command", required=True)
    drawn = commands.add_parser("cases", help="draw the committed cases again")
    drawn.add_argument("--only", default="", help="begin of the names of the cases to draw")
    arguments = parser.parse_args()
    program = chromium.find()
    if program is None:
        sys.exit(f"there is no browser ({', '.join(chromium.PROGRAMS)}); on Debian: {drawing.INSTALL}")
    drawing.draw(
        {picture: scene for picture, scene in cases.scenes().items() if picture.name.startswith(arguments.only)},
        program,
    )
    cases.write()


if __name__ == "__main__":
    main()
