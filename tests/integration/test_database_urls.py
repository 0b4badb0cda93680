"""Ways to a database: several hosts, and certificates; the server behind them is a real one."""

import asyncio
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import psycopg
import pytest

from draftd import db
from draftd.db import certificates, dsn
from draftd.errors import ConfigurationError, DatabaseUnavailable
from fix_database import server_parts

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def hosts(database: str, silent: int, *, times: int = 1, **over: str) -> str:
    """Return a URL with the silent host, once or several times, before the real one."""
    parts = server_parts(database)
    query = {
        "host": f"{'127.0.0.1,' * times}{parts['host']}",
        "port": f"{f'{silent},' * times}{parts.get('port', 5432)}",
        **over,
    }
    return f"postgresql://postgres@/{parts['dbname']}?" + "&".join(f"{k}={quote(v)}" for k, v in query.items())


async def test_silent_hosts_leave_time_for_the_next(
    database: str, silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit counts for each host: the silent ones take more than a single host would have in all."""
    monkeypatch.setattr(db.connection, "CLIENT_MARGIN_S", 0.5)
    url = hosts(database, silent, times=2, connect_timeout="2")
    target = dsn.parameters(url, name="draftd test")
    assert dsn.time_to_connect_s(target, margin_s=db.connection.CLIENT_MARGIN_S) == 7.5
    connection = await db.connect(url)
    assert connection.info.host == server_parts(database)["host"]
    await connection.close()


@pytest.mark.parametrize(
    ("url", "limit_s"),
    [
        ("postgresql://h/d", 15),
        ("postgresql://h1,h2,h3/d", 3 * 8),
        ("postgresql://h1,h2/d?target_session_attrs=prefer-standby", 2 * 2 * 8),
        ("postgresql:///d?hostaddr=10.0.0.1,10.0.0.2", 2 * 8),
        ("postgresql://h/d?connect_timeout=30", 35),
        ("postgresql://h/d?connect_timeout=1", 7),
    ],
)
def test_the_time_to_connect_counts_for_each_host(url: str, limit_s: float) -> None:
    assert dsn.time_to_connect_s(dsn.parameters(url, name="x"), margin_s=5.0) == limit_s


async def test_silent_hosts_alone_are_given_up(silent: int) -> None:
    began = time.monotonic()
    with pytest.raises(DatabaseUnavailable, match=f"127.0.0.1:{silent},127.0.0.1:{silent}/d"):
        await db.connect(f"postgresql://127.0.0.1:{silent},127.0.0.1:{silent}/d?connect_timeout=2")
    assert time.monotonic() - began < 2 * (2 + db.connection.CLIENT_MARGIN_S)


async def test_the_wanted_kind_of_server_is_still_asked_for(database: str, silent: int) -> None:
    connection = await db.connect(hosts(database, silent, connect_timeout="2", target_session_attrs="prefer-standby"))
    await connection.close()
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {admin.info.dbname} SET default_transaction_read_only = on".encode())
    with pytest.raises(DatabaseUnavailable, match="session is read-only"):
        await db.connect(hosts(database, silent, connect_timeout="2", target_session_attrs="read-write"))


class Authority:
    """Makes certificates for localhost that sign themselves."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make(self, name: str, *, host: str = "localhost", dates: tuple[str, str] | None = None) -> Path:
        """Return a file with key and certificate."""
        folder = self._folder / name
        folder.mkdir()
        (folder / "index.txt").touch()
        (folder / "ca.cnf").write_text(
            "[ca]\ndefault_ca=it\n[it]\ndatabase=index.txt\nnew_certs_dir=.\ndefault_md=sha256\npolicy=any\nrand_serial=yes\n"
            f"[any]\ncommonName=supplied\n[v3]\nsubjectAltName=DNS:{host}\nbasicConstraints=critical,CA:TRUE\n"
        )
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "key"]
        self._openssl(folder, "req", *key, "-out", "csr", "-subj", f"/CN={host}")
        start, end = dates or ("20200101000000Z", "20900101000000Z")
        about = ["-config", "ca.cnf", "-extensions", "v3", "-startdate", start, "-enddate", end, "-notext"]
        self._openssl(folder, "ca", "-batch", "-selfsign", *about, "-in", "csr", "-keyfile", "key", "-out", "crt")
        both = folder / "both.pem"
        both.write_text((folder / "key").read_text() + (folder / "crt").read_text())
        return both

    def _openssl(self, folder: Path, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def good(authority: Authority) -> Path:
    return authority.make("good")


@asynccontextmanager
async def behind_tls(database: str, certificate: Path) -> AsyncIterator[Callable[..., str]]:
    """Put TLS before the server, whose programs know none; yield what makes a URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    parts = server_parts(database)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner = None
        try:
            assert (await reader.readexactly(8))[4:] == (80877103).to_bytes(4, "big")
            writer.write(b"S")
            await writer.start_tls(context)
            up, inner = await asyncio.open_unix_connection(f"{parts['host']}/.s.PGSQL.{parts.get('port', 5432)}")
            await asyncio.gather(pump(reader, inner), pump(up, writer))
        except OSError:
            pass
        finally:
            for one in filter(None, (inner, writer)):
                one.close()

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
        sink.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as running:
        port = running.sockets[0].getsockname()[1]

        def url(**query: object) -> str:
            settings = {"hostaddr": "127.0.0.1", **query}
            pairs = "&".join(f"{name}={quote(str(value))}" for name, value in settings.items())
            return f"postgresql://postgres@localhost:{port}/{parts['dbname']}?{pairs}"

        yield url


@needs_openssl
async def test_a_certificate_that_is_trusted(database: str, good: Path) -> None:
    async with behind_tls(database, good) as url:
        connection = await db.connect(url(sslmode="verify-full", sslrootcert=good))
        assert connection.pgconn.ssl_in_use
        await connection.close()


@needs_openssl
async def test_the_systems_authorities_are_found_where_distributions_keep_them(
    database: str, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: SimpleNamespace(cafile=None))
    monkeypatch.setattr(certificates, "SYSTEM_STORES", (str(tmp_path / "missing"), str(good)))
    async with behind_tls(database, good) as url:
        for settings in ({"sslrootcert": "system"}, {"sslrootcert": "system", "sslmode": "verify-full"}):
            connection = await db.connect(url(**settings))
            assert connection.pgconn.ssl_in_use
            await connection.close()
        with pytest.raises(DatabaseUnavailable, match='weak sslmode "require" may not be used'):
            await db.connect(url(sslrootcert="system", sslmode="require"))
    monkeypatch.setattr(certificates, "SYSTEM_STORES", ())
    with pytest.raises(ConfigurationError, match="install ca-certificates"):
        await db.connect("postgresql://h/d?sslrootcert=system")


@needs_openssl
async def test_a_file_of_authorities_that_the_operator_names_goes_before_the_systems(
    database: str, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(good))
    monkeypatch.setenv("PGSSLROOTCERT", "system")
    async with behind_tls(database, good) as url:
        connection = await db.connect(url())
        assert connection.pgconn.ssl_in_use
        await connection.close()


@needs_openssl
@pytest.mark.parametrize(
    ("made", "trusted", "says"),
    [
        ({}, "another", r"self.signed certificate"),
        ({"dates": ("20200101000000Z", "20210101000000Z")}, "itself", "certificate has expired"),
        ({"dates": ("20800101000000Z", "20810101000000Z")}, "itself", "certificate is not yet valid"),
        ({"host": "other"}, "itself", 'server certificate for "other" does not match host name "localhost"'),
    ],
)
async def test_a_certificate_that_is_refused_is_named_as_such(
    database: str, authority: Authority, good: Path, made: dict[str, object], trusted: str, says: str
) -> None:
    certificate = authority.make(says.replace(" ", "_").replace('"', ""), **made)  # type: ignore[arg-type]  # of the table
    async with behind_tls(database, certificate) as url:
        with pytest.raises(DatabaseUnavailable, match=f"its certificate is refused: {says}") as caught:
            await db.connect(url(sslmode="verify-full", sslrootcert=certificate if trusted == "itself" else good))
    assert "\n" not in caught.value.message
