"""How the steps of an attempt share its time."""

from draftd.providers.holds import WRITE_WAIT_S
from draftd.reply.attempt import BACKSTOP_S, KEEP_PICTURES_S, MARGIN_S


def test_an_attempt_that_uses_every_limit_is_over_before_its_deadline() -> None:
    assert BACKSTOP_S + KEEP_PICTURES_S + WRITE_WAIT_S < MARGIN_S
