"""Stances: what the options commit the requester to, and whether they leave the decision to the requester.

Where a decision is due that nobody has made, the options must let whoever sends one decide: at least one accepts and one
declines, or two make different choices.
"""

from collections.abc import Iterable

from draftd.reply.result import Option, Stance

UNCOMMITTED = frozenset({Stance.OPEN, Stance.NONE})
_PAIR = frozenset({Stance.ACCEPT, Stance.DECLINE})


def shortfall(options: Iterable[Option]) -> int:
    """Return how many further options it takes until the options leave the decision to the requester."""
    options = list(options)
    pair = _PAIR - {option.stance for option in options}
    choices = {option.angle.casefold() for option in options if option.stance is Stance.CHOICE}
    return min(len(pair), max(0, 2 - len(choices)))
