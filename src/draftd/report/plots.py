"""The geometry of the plots, in the units of a viewBox of 1000 by 100.

Owns where bars and lines are; the template draws them, without text: an SVG that stretches with the page would stretch its
letters. Labels are HTML around it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 1000.0, 100.0
GAP = 0.2
"""Between two bars, as a share of a bar's width."""
WIDEST = 80.0
"""A bar is not wider, so that two days do not look like two walls."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A piece of a bar; ``kind`` is its CSS class."""

    kind: str
    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True, slots=True)
class Plot:
    """Bars or lines, and the value at the top of the plot."""

    bars: Sequence[Bar]
    lines: Sequence[tuple[str, str]]
    """CSS class and the commands of a path."""
    dots: Sequence[Bar]
    top: float


def nice_top(value: float) -> float:
    """Return the smallest of 1, 2 or 5 times a power of ten that is at least ``value``; 1 for 0."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= value * (1 - 1e-9))


def stacked(columns: Sequence[tuple[str, Sequence[tuple[str, float]]]], *, whole: bool = False) -> Plot:
    """Return a bar for each column, its parts one upon the other.

    Args:
        columns: a title and, from the bottom, each part's CSS class and value.
        whole: whether values are counts, whose axis has no fractions.
    """
    highest = max((sum(value for _, value in parts) for _, parts in columns), default=0.0)
    top = max(nice_top(highest), 1.0) if whole else nice_top(highest)
    slot = WIDTH / max(len(columns), 1)
    width = min(slot * (1 - GAP), WIDEST)
    bars = []
    for place, (title, parts) in enumerate(columns):
        y = HEIGHT
        for kind, value in parts:
            height = HEIGHT * value / top
            y -= height
            if height:
                bars.append(Bar(kind, (place + 0.5) * slot - width / 2, y, width, height, title))
    return Plot(bars, (), (), top)


def lines(columns: Sequence[tuple[str, Sequence[tuple[str, float | None]]]]) -> Plot:
    """Return a line for each class, broken where a value is missing, with an invisible bar per column for its title.

    Args:
        columns: a title and each line's CSS class and value.
    """
    values = [value for _, parts in columns for _, value in parts if value is not None]
    top = nice_top(max(values, default=0.0))
    slot = WIDTH / max(len(columns), 1)
    kinds = list(dict.fromkeys(kind for _, parts in columns for kind, _ in parts))
    drawn, dots = [], []
    for kind in kinds:
        row = [next((value for name, value in parts if name == kind), None) for _, parts in columns]
        drawn.append((kind, _path(row, slot, top)))
        for place, value in enumerate(row):
            around = row[max(place - 1, 0) : place] + row[place + 1 : place + 2]
            # A value without a neighbour has no line.
            if value is not None and not any(one is not None for one in around):
                dots.append(Bar(kind, (place + 0.5) * slot, HEIGHT - HEIGHT * value / top, 0, 0, ""))
    covers = [Bar("cover", place * slot, 0, slot, HEIGHT, title) for place, (title, _) in enumerate(columns)]
    return Plot(covers, drawn, dots, top)


def _path(row: Sequence[float | None], slot: float, top: float) -> str:
    commands, is_down = [], False
    for place, value in enumerate(row):
        if value is not None:
            commands.append(f"{'L' if is_down else 'M'}{(place + 0.5) * slot:.1f} {HEIGHT - HEIGHT * value / top:.1f}")
        is_down = value is not None
    return "".join(commands)
