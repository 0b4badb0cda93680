import traceback
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftd.errors import ConfigurationError, ImageBlocked, ImageFetchFailed, Kind
from draftd.images import Fetcher
from draftd.images.addresses import embedded_ipv4, is_public
from draftd.images.gate import AllowList, Gate
from draftd.images.urls import join_url, parse_url
from fix_images import FakeDialer, FakeDns
from tables import per_row

HOSTILE_ADDRESSES = [
    "0.0.0.0",  # noqa: S104 - a target, not a bind
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:168.63.129.16",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b::a83f:8110",
    "64:ff9b:1::808:808",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1",
    "2001:470::5efe:10.0.0.1",
    "2001:470::200:5efe:10.0.0.1",
    "2002:7f00:1::",
    "2002:808:808::",
    "2620:4f:8000::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:42::42",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fe80::1",
    "fe80::1%lo",
    "fec0::1",
    "ff02::1",
]
PUBLIC_ADDRESSES = ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]

REFUSED_URLS = [
    "",
    "image.png",
    "//files.example/a",
    "file:///etc/passwd",
    "ftp://files.example/a",
    "gopher://files.example/a",
    "javascript:alert(1)",
    "http://",
    "http:///a",
    "http://?a",
    "http://user@files.example/a",
    "http://user:password@files.example/a",
    "http://files.example@127.0.0.1/a",
    "http://files.example\\@127.0.0.1/a",
    "http:\\\\files.example\\a",
    "http://files.example/a\r\nX-Header: 1",
    "http://files.example/a\tb",
    "http://files.exa\nmple/a",
    "http://files.example/\x00",
    "http://files.example/\x7f",
    "http://files.example/\x85",
    "http://files.example:99999/a",
    "http://files.example:-1/a",
    "http://files.example:port/a",
    "http://files..example/a",
    "http://.files.example/a",
    "http://files.example../a",
    "http://files example/a",
    "http://files.exam%70le/a",
    "http://" + "a" * 64 + ".example/a",
    "http://[::1/a",
    "http://[::1%25lo]/a",
    "http://[fe80::1%eth0]/a",
    "http://[v1.x]/a",
    "http://[::1]files.example/a",
    "http://files.example[::1]/a",
    "http://[]/a",
    "http://::1/a",
    "http://files.example/" + "a" * 9_000,
    "http:files.example/a",
    "http:/files.example/a",
    "ht\ttp://files.example/a",
    "http+unix://%2fvar%2frun%2fdocker.sock/a",
    "data:image/png;base64,/a",
    "http://files.example:80:80/a",
    "http://files.example:٨٠/a",
    "http://%31%32%37.0.0.1/a",
    "http://127.0.0.1%00.files.example/a",
    "http://127.0.0.1%2f.files.example/a",
    "http://127.0.0.1\N{FULLWIDTH PERCENT SIGN}2f.files.example/a",
    "http://127.0.0.1\N{FULLWIDTH SOLIDUS}files.example/a",
    "http://files.example\N{FULLWIDTH COLON}80/a",
    "http://a\N{ACCOUNT OF}b.example/a",
    "http://stra\N{LATIN SMALL LETTER SHARP S}e.example/a",
    "http://stra\N{LATIN CAPITAL LETTER SHARP S}e.example/a",
    "http://\N{GREEK SMALL LETTER MU}\N{GREEK SMALL LETTER FINAL SIGMA}.example/a",
    "http://fi\N{ZERO WIDTH JOINER}les.example/a",
    "http://fi\N{ZERO WIDTH NON-JOINER}les.example/a",
    "http://files.example/\ud800",
    "http://\ud800.example/a",
    "http://" + ".".join(["a" * 62] * 4 + ["ab"]) + "/a",
]


@per_row("address", HOSTILE_ADDRESSES)
async def test_an_address_that_is_not_public_is_blocked(address: str) -> None:
    gate = Gate(allow_private=[], resolve=FakeDns(files_example=[[address]]))

    with pytest.raises(ImageBlocked, match=r"^files\.example is not"):
        await gate.addresses("files.example", 443)


@per_row("address", PUBLIC_ADDRESSES)
async def test_a_public_address_is_let_through(address: str) -> None:
    gate = Gate(allow_private=[], resolve=FakeDns(files_example=[[address]]))

    assert [str(found) for found in await gate.addresses("files.example", 443)] == [str(IPAddress(address))]


def IPAddress(text: str) -> IPv4Address | IPv6Address:  # noqa: N802 - reads like the type it returns
    return IPv6Address(text) if ":" in text else IPv4Address(text)


@given(address=st.ip_addresses())
def test_nothing_is_public_that_the_standard_library_calls_private(address: IPv4Address | IPv6Address) -> None:
    judged = embedded_ipv4(address) or address

    assert not is_public(address) or (judged.is_global and not judged.is_multicast and not judged.is_reserved)


async def test_a_name_with_more_addresses_than_any_host_has_is_blocked() -> None:
    addresses = [f"8.8.4.{number}" for number in range(65)]
    gate = Gate(allow_private=[], resolve=FakeDns(files_example=[addresses], large_example=[addresses[:64]]))

    assert len(await gate.addresses("large.example", 443)) == 64
    with pytest.raises(ImageBlocked):
        await gate.addresses("files.example", 443)


async def test_one_private_address_among_public_ones_blocks_the_host() -> None:
    gate = Gate(allow_private=[], resolve=FakeDns(files_example=[["8.8.8.8", "10.0.0.1"]]))

    with pytest.raises(ImageBlocked):
        await gate.addresses("files.example", 443)


@per_row(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "127.000.000.001",
        "2130706433",
        "0x7f000001",
        "0x7f000001.",
        "0X7F.0x0.0.1",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "0",
        "0x0",
        "10.1",
        "192.168.257",
        "172.1048577",
        "255.255.255.255",
        "2852039166",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "0xa9.0xfe.43518",
        "LOCALHOST.",
        "ⓛocalhost",
        "local\N{SOFT HYPHEN}host",
        "127.0\N{ZERO WIDTH SPACE}.0.1",
        "127\N{HALFWIDTH IDEOGRAPHIC FULL STOP}1",
        "127。0。0。1",
        "１２７.0.0.1",  # noqa: RUF001 - full-width digits are the point
        "⑫7.0.0.1",
        "[::1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b:1::127.0.0.1]",
        "[::127.0.0.1]",
        "[::ffff:0:127.0.0.1]",
        "[2001:470::5efe:127.0.0.1]",
        "[2002:7f00:1::]",
        "[fd00:ec2::254]",
        "[fe80::1]",
    ],
)
async def test_no_spelling_of_a_private_address_passes_the_system_resolver(host: str) -> None:
    gate = Gate(allow_private=[])
    try:
        target = gate.check(f"http://{host}/a")
        with pytest.raises(ImageBlocked):
            await gate.addresses(target.host, target.port)
    finally:
        gate.close()


@pytest.mark.parametrize("host", ["\ufdfa" * 8_000, ".".join(["\ufdfa" * 63] * 100), "\ufdfa" * 64 + ".example"])
def test_a_host_is_mapped_only_if_it_could_be_one(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One letter of these becomes eighteen, and what 8,000 make takes half a second to be refused."""
    mapped: list[str] = []
    monkeypatch.setattr("encodings.idna.nameprep", mapped.append)
    with pytest.raises(ImageBlocked):
        parse_url(f"http://{host}/a")
    assert mapped == []


@per_row("url", REFUSED_URLS)
def test_a_url_that_two_parsers_could_read_in_two_ways_is_blocked(url: str) -> None:
    with pytest.raises(ImageBlocked) as caught:
        Gate(allow_private=[]).check(url)

    assert "/a" not in caught.value.message
    assert "password" not in caught.value.message


def test_whoever_leaves_a_user_name_in_a_url_is_told_so() -> None:
    with pytest.raises(ImageBlocked, match="user name"):
        parse_url("https://user@files.example/a")


@per_row(
    "url",
    [
        "http://user:s3cret@files.example/a",
        "http://user:s3cret\N{ACCOUNT OF}@files.example/a",
        "http://files.example:s3cret/a",
        "http://[s3cret]/a",
        "http://[1::s3cret]/a",
        "http://[::1/s3cret",
        "http://[::1%25s3cret]/a",
        "s3cret://files.example/a",
        "http://files.example:22/s3cret?s3cret#s3cret",
        "http://files.example/s3cret\n",
    ],
)
def test_no_trace_of_a_refused_url_is_in_the_exception_or_its_chain(url: str) -> None:
    with pytest.raises(ImageBlocked) as caught:
        Gate(allow_private=[]).check(url)

    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


@per_row("location", ["http://inside.exa\tmple/", "\x1fa", "/\\inside.example/", "http://[::1", "a" * 9_000])
def test_a_redirect_that_two_parsers_could_read_in_two_ways_is_blocked(location: str) -> None:
    with pytest.raises(ImageBlocked):
        join_url(parse_url("http://files.example/a/b?c"), location)


@per_row(
    ("location", "url"),
    [
        ("d", "http://files.example/a/d"),
        ("/d", "http://files.example/d"),
        ("?d", "http://files.example/a/b?d"),
        ("//other.example/d", "http://other.example/d"),
        ("https://other.example/d", "https://other.example/d"),
        ("../../../d", "http://files.example/d"),
    ],
)
def test_a_redirect_is_read_from_where_it_stands(location: str, url: str) -> None:
    assert join_url(parse_url("http://files.example/a/b?c"), location) == url


@per_row(
    ("url", "authority", "path"),
    [
        ("https://Files.Example", "files.example", "/"),
        ("http://files.example:443/a?b=c&d=%2F#part", "files.example:443", "/a?b=c&d=%2F"),
        ("https://files.example./a", "files.example", "/a"),
        ("https://files.example:/a", "files.example", "/a"),
        ("https://bücher.example/ä b", "xn--bcher-kva.example", "/%C3%A4%20b"),
        ("https://[2606:4700::1111]:80/a", "[2606:4700::1111]:80", "/a"),
    ],
)
def test_an_ordinary_url_becomes_an_ascii_request(url: str, authority: str, path: str) -> None:
    target = parse_url(url)

    assert (target.authority, target.path) == (authority, path)


def test_a_target_does_not_show_its_path() -> None:
    assert "secret" not in repr(parse_url("https://files.example/secret?secret"))


@per_row("port", [0, 21, 22, 8080, 65535])
def test_another_port_is_blocked_before_any_look_up(port: int) -> None:
    with pytest.raises(ImageBlocked, match="port"):
        Gate(allow_private=[]).check(f"http://files.example:{port}/a")


@per_row(
    ("entry", "host", "address", "port"),
    [
        ("store.lan", "store.lan", "10.0.0.1", 9000),
        ("STORE.lan.", "store.lan", "10.0.0.1", 80),
        ("store.lan:9000", "store.lan", "10.0.0.1", 9000),
        ("10.2.0.0/16", "store.lan", "10.2.3.4", 9000),
        ("10.2.3.4", "10.2.3.4", "10.2.3.4", 443),
        ("10.2.3.4:9000", "10.2.3.4", "10.2.3.4", 9000),
        ("10.2.3.4", "store.lan", "::ffff:10.2.3.4", 80),
        ("fd00::/8", "store.lan", "fd00::1", 80),
        ("[fd00::1]:9000", "fd00::1", "fd00::1", 9000),
    ],
)
async def test_a_listed_host_may_be_private(entry: str, host: str, address: str, port: int) -> None:
    gate = Gate(allow_private=[entry], resolve=FakeDns(**{host: [[address]]}))
    literal = f"[{host}]" if ":" in host else host

    assert gate.check(f"http://{literal}:{port}/a").port == port
    assert len(await gate.addresses(host, port)) == 1


@per_row(
    ("entry", "host", "address", "port"),
    [
        ("store.lan:9000", "store.lan", "10.0.0.1", 80),
        ("store.lan", "evil.store.lan", "10.0.0.1", 80),
        ("10.2.0.0/16", "store.lan", "10.3.0.1", 80),
        ("10.2.0.0/16", "files.example", "8.8.8.8", 9000),
        ("10.2.3.4:9000", "store.lan", "10.2.3.4", 80),
        ("10.0.0.0/8", "store.lan", "2001:470::5efe:10.0.0.1", 80),
        ("10.0.0.0/8", "store.lan", "2002:a00:1::", 80),
        ("10.0.0.0/8", "store.lan", "::10.0.0.1", 80),
    ],
)
async def test_an_entry_allows_nothing_beside_itself(entry: str, host: str, address: str, port: int) -> None:
    gate = Gate(allow_private=[entry], resolve=FakeDns(**{host: [[address]]}))

    with pytest.raises(ImageBlocked):
        await gate.addresses(host, port)


@per_row(
    "entry",
    [
        "",
        "10.2.0.0/99",
        "a:b",
        "http://store.lan",
        "store.lan:",
        "user@store.lan",
        "*",
        "store.lan:0",
        "10.2.3.4:65536",
    ],
)
def test_an_entry_that_means_nothing_is_a_configuration_error(entry: str) -> None:
    with pytest.raises(ConfigurationError, match="DRAFTD_ALLOW_PRIVATE_IMAGE_HOSTS"):
        AllowList.parse([entry])


@per_row("answers", [{}, {"files.example": [[]]}])
async def test_a_name_without_an_address_may_be_tried_again(answers: dict[str, list[list[str]]]) -> None:
    gate = Gate(allow_private=[], resolve=FakeDns(**answers))

    with pytest.raises(ImageFetchFailed) as caught:
        await gate.addresses("files.example", 443)

    assert caught.value.kind is Kind.RETRY


async def test_the_connection_goes_to_the_address_that_was_judged_whatever_the_name_says_next() -> None:
    dns = FakeDns(files_example=[["8.8.8.8"], ["127.0.0.1"]])
    dialer = FakeDialer()
    fetcher = Fetcher(max_bytes=100, allow_private=[], resolve=dns, dialer=dialer)

    fetched = await fetcher.fetch("http://files.example/a", time_s=5)
    with pytest.raises(ImageBlocked):
        await fetcher.fetch("http://files.example/a", time_s=5)

    assert (fetched.host, bytes(fetched.data)) == ("files.example", b"image")
    assert dialer.dialled == [("8.8.8.8", 80)]


async def test_the_certificate_is_asked_for_the_name_while_the_connection_goes_to_the_address() -> None:
    dialer = FakeDialer()
    dns = FakeDns(files_example=[["8.8.8.8"]])
    fetcher = Fetcher(max_bytes=100, allow_private=[], resolve=dns, dialer=dialer)

    await fetcher.fetch("https://files.example/a", time_s=5)

    assert dialer.dialled == [("8.8.8.8", 443)]
    assert dialer.tls_names == ["files.example"]


async def test_the_next_address_is_tried_when_one_refuses() -> None:
    dialer = FakeDialer(dead=["2606:4700::1111"])
    dns = FakeDns(files_example=[["2606:4700::1111", "8.8.8.8"]])
    fetcher = Fetcher(max_bytes=100, allow_private=[], resolve=dns, dialer=dialer)

    assert bytes((await fetcher.fetch("http://files.example/a", time_s=5)).data) == b"image"
    assert dialer.dialled == [("2606:4700::1111", 80), ("8.8.8.8", 80)]


async def test_a_redirect_is_judged_again() -> None:
    answer = b"HTTP/1.1 302 Found\r\nlocation: http://inside.example/\r\ncontent-length: 0\r\n\r\n"
    dialer = FakeDialer(answer)
    dns = FakeDns(files_example=[["8.8.8.8"]], inside_example=[["192.168.0.1"]])
    fetcher = Fetcher(max_bytes=100, allow_private=[], resolve=dns, dialer=dialer)

    with pytest.raises(ImageBlocked, match=r"^inside\.example is not"):
        await fetcher.fetch("http://files.example/a", time_s=5)

    assert dialer.dialled == [("8.8.8.8", 80)]
