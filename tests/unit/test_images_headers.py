import pytest

from draftd.errors import ConfigurationError
from draftd.images.headers import ImageHeaders
from draftd.images.urls import parse_url
from tables import per_row

HEADERS = ImageHeaders.parse(
    "\nfiles.example=Authorization: Bearer secret-1\n"
    "files.example:8443=X-Key: secret-2\n"
    "store.example/object/shots/=Authorization: Bearer secret-3\n"
    "store.example/object/shots/=apikey: secret-4\n"
    "bare.example/shots=Authorization: Bearer secret-5\n"
)


@per_row(
    ("url", "sent"),
    [
        ("https://files.example/a.png", {"Authorization": "Bearer secret-1"}),
        ("https://FILES.example./a.png", {"Authorization": "Bearer secret-1"}),
        ("https://files.example:8443/a.png", {"X-Key": "secret-2"}),
        ("http://files.example/a.png", {}),
        ("https://files.example.evil.example/a.png", {}),
        ("https://cdn.files.example/a.png", {}),
        ("https://store.example/object/shots/a.png", {"Authorization": "Bearer secret-3", "apikey": "secret-4"}),
        ("https://store.example/object/shots/a.png?x=/../", {"Authorization": "Bearer secret-3", "apikey": "secret-4"}),
        ("https://store.example/object/others/a.png", {}),
        ("https://store.example/object/shots/../others/a.png", {}),
        ("https://store.example/object/shots/%2e%2E/others/a.png", {}),
        ("https://store.example/object/shots/..%2Fothers/a.png", {}),
        ("https://store.example/object/shots/%252e%252e/others/a.png", {}),
        ("https://store.example/rest/v1/users", {}),
        ("https://bare.example/shots/a.png", {"Authorization": "Bearer secret-5"}),
        ("https://bare.example/shots?id=7", {"Authorization": "Bearer secret-5"}),
        ("https://bare.example/shots-of-others/a.png", {}),
    ],
)
def test_a_header_goes_to_its_own_host_and_path_over_https(url: str, sent: dict[str, str]) -> None:
    assert HEADERS.of(parse_url(url)) == sent


@per_row(
    ("line", "why"),
    [
        ("files.example Authorization: secret", "line 1 is not host=Name: value"),
        ("files.example=Authorization secret", "line 1 is not host=Name: value"),
        ("files.example=Authorization: sec\x00ret", "line 1 is not host=Name: value"),
        ("files.example=Host: secret", "line 1: draftd sets the header Host itself"),
        ("user@files.example=Authorization: secret", "line 1 has no valid host"),
        ("=Authorization: secret", "line 1 is not host=Name: value"),
    ],
)
def test_a_wrong_line_is_named_by_its_number_and_not_quoted(line: str, why: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ImageHeaders.parse(line)
    assert caught.value.message == f"DRAFTD_IMAGE_HEADERS: {why}"


def test_a_value_is_never_shown() -> None:
    assert "secret" not in repr(HEADERS)
