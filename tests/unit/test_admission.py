"""When a claim asks whether a row waits for its admission."""

import math

import pytest

from draftd import db
from draftd.queue import admission as admission_module
from draftd.queue.admission import Admission


def test_claims_ask_until_no_row_waits_and_once_a_second_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission_module, "ASK_AGAIN_S", math.inf)
    admission = Admission(link=db.Link(url="postgresql://unused", name="unused"))
    assert not admission.asks(), "without limits"
    admission.is_needed = True
    assert admission.asks()
    admission.noted(anyone_waits=True)
    assert admission.asks()
    admission.noted(anyone_waits=False)
    assert not admission.asks()
    admission.announced()
    assert admission.asks()
    admission.noted(anyone_waits=False)
    monkeypatch.setattr(admission_module, "ASK_AGAIN_S", 0.0)
    assert admission.asks()
