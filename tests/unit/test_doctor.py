from datetime import datetime, timedelta, timezone

from draftd.cli.doctor import _holds


def test_the_time_of_a_hold_is_told_in_utc_and_its_model_once() -> None:
    since = datetime(2026, 1, 1, 22, 30, tzinfo=timezone(timedelta(hours=-5)))
    row = {"model": "openai/a", "code": "model_unavailable", "since": since, "until": since, "reason": "openai/a: 503"}
    assert _holds([row]).detail == "openai/a: model_unavailable since 2026-01-02 03:30 UTC: 503"
