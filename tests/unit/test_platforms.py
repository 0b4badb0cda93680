from draftd.reply import platforms
from draftd.reply.platforms import Platform
from draftd.reply.x_length import weighted_length
from tables import per_row


@per_row(
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
    assert weighted_length(text) == weight


@per_row(("count", "allowed"), [(280, True), (281, False)])
def test_a_post_on_x_may_weigh_280(count: int, allowed: bool) -> None:  # noqa: FBT001 - a column of the table above
    assert (platforms.too_long("a" * count, Platform.X, is_private=False, max_chars=None) is None) is allowed


def test_141_cjk_characters_are_too_long_for_x() -> None:
    assert platforms.too_long("語" * 140, Platform.X, is_private=False, max_chars=None) is None
    problem = platforms.too_long("語" * 141, Platform.X, is_private=False, max_chars=None)
    assert problem is not None
    assert "282" in problem
    assert "280" in problem


def test_a_direct_message_has_another_limit_than_a_comment() -> None:
    assert platforms.limit_of(Platform.X, is_private=True) == 10_000
    assert platforms.limit_of(Platform.LINKEDIN, is_private=False) == 1_250
    assert platforms.limit_of(Platform.LINKEDIN, is_private=True) == 8_000
    assert platforms.limit_of(Platform.DISCORD, is_private=True) == 2_000


def test_mail_and_unknown_platforms_have_no_limit() -> None:
    assert platforms.limit_of(Platform.EMAIL, is_private=False) is None
    assert platforms.limit_of(Platform.OTHER, is_private=False) is None


def test_max_chars_counts_characters_even_where_the_platform_weighs() -> None:
    assert platforms.too_long("語" * 100, Platform.X, is_private=False, max_chars=100) is None
    assert platforms.too_long("語" * 101, Platform.X, is_private=False, max_chars=100) is not None


def test_max_chars_does_not_lift_the_platforms_limit() -> None:
    assert platforms.too_long("a" * 300, Platform.X, is_private=False, max_chars=1_000) is not None


def test_each_platform_is_known_by_its_value_and_by_its_other_names() -> None:
    for platform in Platform:
        for name in (platform.value, *platform.profile.names):
            assert platforms.parse(f"{name.title()} (app)") is platform


def test_the_prompt_states_the_limits_that_the_check_enforces() -> None:
    said = platforms.conventions()
    assert "`linkedin` comments: at most 1,250 characters." in said
    assert "`x`: a public reply has at most 280 characters as X counts" in said


def test_platforms_with_the_same_habit_share_a_line() -> None:
    assert (
        "- `whatsapp`, `telegram`, `sms`: as one types on a phone; no sign-off." in platforms.conventions().splitlines()
    )
