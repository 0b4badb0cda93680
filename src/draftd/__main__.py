"""``python -m draftd``."""

from draftd.cli import main

main()
