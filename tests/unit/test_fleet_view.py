"""A process's view of holds and throttles: what a heartbeat read against what this process changed since."""

import time

from draftd.providers.fleet_view import FleetView


def test_a_read_replaces_what_was_known() -> None:
    view: FleetView[int] = FleetView()
    view.update({"first": 1, "second": 2}, as_of=time.monotonic())
    view.update({"second": 3}, as_of=time.monotonic())
    assert dict(view) == {"second": 3}


def test_a_read_that_began_before_a_local_change_does_not_undo_it() -> None:
    view: FleetView[int] = FleetView()
    view.update({"ended": 1, "other": 1}, as_of=time.monotonic())
    began = time.monotonic()
    view.set("placed", 2)
    view.remove("ended")
    view.update({"ended": 1, "other": 3}, as_of=began - 1.0)
    assert dict(view) == {"other": 3, "placed": 2}


def test_a_read_that_began_after_a_local_change_replaces_it() -> None:
    view: FleetView[int] = FleetView()
    view.set("placed", 2)
    view.remove("ended")
    view.update({"ended": 1}, as_of=time.monotonic() + 1.0)
    assert dict(view) == {"ended": 1}
