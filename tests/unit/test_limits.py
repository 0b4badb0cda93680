import pytest

from draftd import limits
from draftd.result import ContentType, Platform


@pytest.mark.parametrize(
    ("text", "weight"),
    [
        ("", 0),
        ("hello", 5),
        ("cafe\u0301", 4),
        ("“quoted” \u2013 plainly", 18),
        ("日本語", 6),
        ("한국어", 6),
        ("Привет", 6),
        ("…", 2),
        ("👍", 2),
        ("👍🏽", 2),
        ("👨‍👩‍👧‍👦", 2),
        ("🇩🇪", 2),
        ("1️⃣", 2),
        ("❤️", 2),
        ("https://example.com/a/very/long/path/that/nobody/would/type?with=a&query=too", 23),
        ("see http://a.io/b.", 4 + 23 + 1),
        ("example.com", 23),
        ("Node.js", 7),
    ],
)
def test_x_weighs_a_text_as_its_own_composer_does(text: str, weight: int) -> None:
    assert limits.weighted_length(text) == weight


@pytest.mark.parametrize(("count", "allowed"), [(280, True), (281, False)])
def test_a_post_on_x_may_weigh_280(count: int, allowed: bool) -> None:  # noqa: FBT001 - a column of the table above
    assert (limits.too_long("a" * count, Platform.X, ContentType.POST, None) is None) is allowed


def test_141_cjk_characters_are_too_long_for_x() -> None:
    assert limits.too_long("語" * 140, Platform.X, ContentType.COMMENT, None) is None
    problem = limits.too_long("語" * 141, Platform.X, ContentType.COMMENT, None)
    assert problem is not None
    assert "282" in problem
    assert "280" in problem


def test_a_direct_message_has_another_limit_than_a_comment() -> None:
    assert limits.limit_of(Platform.X, ContentType.DIRECT_MESSAGE) == 10_000
    assert limits.limit_of(Platform.LINKEDIN, ContentType.POST) == 1_250
    assert limits.limit_of(Platform.LINKEDIN, ContentType.DIRECT_MESSAGE) == 8_000
    assert limits.limit_of(Platform.DISCORD, ContentType.GROUP_CHAT) == 2_000


def test_mail_and_unknown_platforms_have_no_limit() -> None:
    assert limits.limit_of(Platform.EMAIL, ContentType.EMAIL) is None
    assert limits.limit_of(Platform.OTHER, ContentType.POST) is None


def test_max_chars_counts_characters_even_where_the_platform_weighs() -> None:
    assert limits.too_long("語" * 100, Platform.X, ContentType.POST, 100) is None
    assert limits.too_long("語" * 101, Platform.X, ContentType.POST, 100) is not None


def test_max_chars_does_not_lift_the_platforms_limit() -> None:
    assert limits.too_long("a" * 300, Platform.X, ContentType.POST, 1_000) is not None
