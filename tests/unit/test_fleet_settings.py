from draftd.queue.fleet_settings import SETTINGS, Kind, of

DEFAULTS = {
    "default_expiry_s": 21_600,
    "retention_days": 0,
    "feedback_retention_days": 0,
    "usd_per_day": None,
    "voice_learning": False,
}

NUMBERS = [name for name, setting in SETTINGS.items() if setting.kind is not Kind.SWITCH]


def test_without_its_row_the_fleet_has_the_defaults() -> None:
    assert of([]) == DEFAULTS


def test_a_value_out_of_bounds_is_the_nearest_bound() -> None:
    """Whoever drops a check of the table must not have everything deleted."""
    assert of([dict.fromkeys(NUMBERS, -1) | {"voice_learning": False}]) == DEFAULTS | dict.fromkeys(NUMBERS, 0)
    assert of([dict.fromkeys(NUMBERS, 10**9) | {"voice_learning": True}]) == {
        name: setting.maximum for name, setting in SETTINGS.items()
    }
