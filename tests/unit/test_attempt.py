"""How the steps of an attempt share its time."""

from draftd.providers.holds import WRITE_WAIT_S
from draftd.reply.attempt import KEEP_S, MARGIN_S, NET_S


def test_an_attempt_that_uses_every_limit_is_over_before_its_deadline() -> None:
    assert NET_S + KEEP_S + WRITE_WAIT_S < MARGIN_S
