"""The tables, as Markdown: draftd beside Pillow, and draftd's figures beside what they must reach."""

from collections.abc import Mapping, Sequence
from statistics import median

from benchmarks.images.pictures import MEASURED
from benchmarks.markdown import table

MIB = 1024 * 1024
Rounds = Mapping[str, Sequence[Mapping[str, float]]]
"""Of each measurement, by its name, the figures of every round."""

AT_MOST_CPU = 1.25
AT_LEAST_GAIN = 0.85
AT_MOST_CALLBACK_MS = 20.0


def cpu(rounds: Rounds) -> str:
    """Return what one picture costs, in milliseconds of CPU time."""
    head = ("fetch to data URL, CPU ms per picture", "daemon", "helper", "draftd", "Pillow", "draftd / Pillow")
    rows = []
    for sample in MEASURED:
        own, bare = rounds[f"draftd {sample.file}"], rounds[f"Pillow {sample.file}"]
        costs = [_per_picture_ms(own, name) for name in ("own_cpu_s", "helper_cpu_s", "cpu_s")]
        costs.append(_per_picture_ms(bare, "cpu_s"))
        rows.append((sample.name, *(f"{cost:.1f}" for cost in costs), f"{cpu_ratio(rounds, sample.file):.2f}"))
    return table(head, rows)


def cpu_ratio(rounds: Rounds, file: str) -> float:
    """Return draftd's CPU time as a multiple of Pillow's: the median of the rounds' own ratios."""
    pairs = zip(rounds[f"draftd {file}"], rounds[f"Pillow {file}"], strict=True)
    return median(own["cpu_s"] / bare["cpu_s"] for own, bare in pairs)


def gain(rounds: Rounds) -> str:
    """Return how many pictures a second one core makes ready, and two."""
    head = ("pictures/s", "one core", "two cores", "gain", "of Pillow's gain")
    rows = []
    for label, one, two in (
        ("Pillow, one process and two", "Pillow, one core", "Pillow, two cores"),
        ("draftd, all of it on one core and on two", "draftd, one core", "draftd, two cores"),
        ("draftd, one helper and two on two cores", "draftd, one helper", "draftd, two cores"),
    ):
        rates = [median(_rate(found) for found in rounds[name]) for name in (one, two)]
        share = gained(rounds, one, two) / gained(rounds, "Pillow, one core", "Pillow, two cores")
        rows.append((label, *(f"{rate:.1f}" for rate in rates), f"{gained(rounds, one, two):.2f}", f"{share:.2f}"))
    return table(head, rows)


def gained(rounds: Rounds, one: str, two: str) -> float:
    """Return the rate with two as a multiple of the rate with one: the median of the rounds' own ratios."""
    return median(_rate(second) / _rate(first) for first, second in zip(rounds[one], rounds[two], strict=True))


def crowd(rounds: Rounds) -> str:
    """Return what many at a time hold: the event loop, and memory."""
    head = (
        "in flight",
        "longest callback, ms: worst (median round)",
        "… of it CPU",
        "daemon grows by, MiB",
        "… per picture in flight",
        "largest helper, MiB",
    )
    return table(head, [_crowd_row(name, found) for name, found in rounds.items() if "in flight" in name])


def _crowd_row(name: str, found: Sequence[Mapping[str, float]]) -> tuple[str, ...]:
    walls = [one["callback_wall_s"] * 1000 for one in found]
    grown = max(one["memory_bytes"] for one in found) / MIB
    return (
        name,
        f"{max(walls):.1f} ({median(walls):.1f})",
        f"{max(one['callback_cpu_s'] for one in found) * 1000:.1f}",
        f"{grown:.0f}",
        f"{grown / found[0]['in_flight']:.1f}",
        f"{max(one['helper_bytes'] for one in found) / MIB:.0f}",
    )


def goals(rounds: Rounds) -> str:
    """Return draftd's figures beside what they must reach."""
    ratio = cpu_ratio(rounds, MEASURED[0].file)
    bare = gained(rounds, "Pillow, one core", "Pillow, two cores")
    share = gained(rounds, "draftd, one core", "draftd, two cores") / bare
    longest_ms = 1000 * max(one["callback_wall_s"] for found in rounds.values() for one in found if "in_flight" in one)
    rows = [
        (f"CPU time, {MEASURED[0].name}, of Pillow's", f"≤ {AT_MOST_CPU}", f"{ratio:.2f}", ratio <= AT_MOST_CPU),
        ("gain by a second core, of Pillow's", f"≥ {AT_LEAST_GAIN}", f"{share:.2f}", share >= AT_LEAST_GAIN),
        ("longest callback, ms", f"≤ {AT_MOST_CALLBACK_MS:g}", f"{longest_ms:.1f}", longest_ms <= AT_MOST_CALLBACK_MS),
    ]
    return table(("draftd", "must reach", "reached", ""), [(*row[:3], "yes" if row[3] else "**no**") for row in rows])


def _per_picture_ms(found: Sequence[Mapping[str, float]], name: str) -> float:
    return 1000 * median(one[name] / one["pictures"] for one in found)


def _rate(found: Mapping[str, float]) -> float:
    return found["pictures"] / found["wall_s"]
