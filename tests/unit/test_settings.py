"""Where settings come from, and what a wrong one is told."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic_settings import SettingsError

from draftd import settings
from draftd.errors import ConfigurationError
from draftd.settings import Settings, check_names, environment_value, export_foreign_variables, load_settings
from tables import per_row

URL = "postgresql://app:s3cr3t@db/app"
Write = Callable[[str, str], None]


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, no secrets and none of the developer's own variables."""
    for name in list(os.environ):
        if name.startswith("DRAFTD_"):
            monkeypatch.delenv(name)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    directory = tmp_path / "work"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture
def dotenv(bare: Path) -> Write:
    """Add a line to ``.env``."""

    def write(name: str, value: str) -> None:
        with (bare / ".env").open("a") as file:
            file.write(f"{name}={value}\n")

    return write


@pytest.fixture
def secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Put a secrets file into ``$CREDENTIALS_DIRECTORY``."""
    directory = tmp_path / "credentials"
    directory.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(directory))

    def write(name: str, value: str) -> None:
        (directory / name).write_text(value, errors="surrogateescape")

    return write


def read() -> Settings:
    return load_settings()[0]


def test_the_environment_goes_before_the_file_and_the_file_before_the_secrets(
    monkeypatch: pytest.MonkeyPatch, dotenv: Write, secret: Write
) -> None:
    monkeypatch.setenv("DRAFTD_MODEL", "from/environment")
    for name in ("DRAFTD_MODEL", "DRAFTD_CONCURRENCY"):
        dotenv(name, "2" if name.endswith("Y") else "from/file")
    for name in ("DRAFTD_MODEL", "DRAFTD_CONCURRENCY", "DRAFTD_LEASE_S"):
        secret(name, "3\n")
    found = read()
    assert (found.model, found.concurrency, found.lease_s) == ("from/environment", 2, 3)


CONTRACT = {
    "database_url": None,
    "listen_database_url": None,
    "listen": "auto",
    "model": None,
    "fallback_models": (),
    "concurrency": 16,
    "poll_interval_s": 3,
    "lease_s": 10,
    "reap_interval_s": 2,
    "attempt_timeout_s": 120,
    "model_timeout_s": 60,
    "shutdown_grace_s": 30,
    "image_max_bytes": 20 * 1024 * 1024,
    "image_max_pixels": 40_000_000,
    "allow_private_image_hosts": (),
    "prompts_dir": None,
    "trace_content": "text",
    "metrics_host": "127.0.0.1",
    "metrics_port": None,
    "log_format": "auto",
    "log_level": "info",
}


def test_the_defaults_are_the_contracts() -> None:
    found = read().model_dump()
    assert {name: found[name] for name in CONTRACT} == CONTRACT


@pytest.mark.parametrize("name", ["DRAFTD_DEFAULT_EXPIRY_S", "DRAFTD_RETENTION_DAYS"])
def test_a_variable_that_became_the_fleets_names_the_command_that_replaces_it(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "30")
    setting = name.removeprefix("DRAFTD_").lower()
    with pytest.raises(ConfigurationError, match=f"^{name} .*unset it, and use `draftd settings set {setting}="):
        read()


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch, dotenv: Write) -> None:
    monkeypatch.setenv("DRAFTD_MODEL", "")
    dotenv("DRAFTD_MODEL", "from/file")
    assert read().model == "from/file"
    monkeypatch.setenv("LANGFUSE_HOST", "")
    assert environment_value("LANGFUSE_HOST") is None


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_form_of_a_postgres_url_is_accepted(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.setenv("DRAFTD_DATABASE_URL", f"{scheme}://app:s3cr3t@db:6432/app?sslmode=require")
    found = read()
    assert found.require_database_url() == "postgresql://app:s3cr3t@db:6432/app?sslmode=require"
    assert found.listen_url == found.require_database_url()


def test_the_listener_can_have_an_address_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAFTD_DATABASE_URL", "postgres://pooler/app")
    monkeypatch.setenv("DRAFTD_LISTEN_DATABASE_URL", "postgres://direct/app")
    assert read().listen_url == "postgresql://direct/app"


def test_a_missing_database_is_named_with_an_example() -> None:
    with pytest.raises(ConfigurationError, match=r"^DRAFTD_DATABASE_URL is not set \(example: postgresql://"):
        read().require_database_url()


@pytest.mark.parametrize("url", ["mysql://app:s3cr3t@db/app", "app:s3cr3t@db", "host=db password=s3cr3t"])
def test_another_database_is_refused_without_showing_its_url(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("DRAFTD_DATABASE_URL", url)
    with pytest.raises(ConfigurationError) as caught:
        read()
    assert caught.value.message.startswith("DRAFTD_DATABASE_URL: must begin with postgres://")
    assert "s3cr3t" not in repr(caught.value)
    assert caught.value.__cause__ is None, "a traceback would show the rest"


def test_a_database_url_does_not_show_in_a_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAFTD_DATABASE_URL", URL)
    assert "s3cr3t" not in repr(read()) + str(read().model_dump())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CONCURRENCY", "s3cr3t"),
        ("CONCURRENCY", "0"),
        ("LEASE_S", "0.5"),
        ("LEASE_S", "inf"),
        ("POLL_INTERVAL_S", "0"),
        ("SHUTDOWN_GRACE_S", "-1"),
        ("ATTEMPT_TIMEOUT_S", "5"),
        ("MODEL_TIMEOUT_S", "nan"),
        ("LISTEN", "s3cr3t"),
        ("LOG_LEVEL", "s3cr3t"),
        ("TRACE_CONTENT", "everything"),
        ("METRICS_PORT", "70000"),
        ("IMAGE_MAX_PIXELS", "50000000"),
    ],
)
def test_a_wrong_value_is_refused_by_name_and_not_shown(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"DRAFTD_{name}", value)
    with pytest.raises(ConfigurationError, match=rf"^DRAFTD_{name}: Input should be ") as caught:
        read()
    assert value not in caught.value.message.replace("0 ", "") or value in {"0", "5"}


@pytest.mark.parametrize("level", ["INFO", "Debug", "warning"])
def test_the_level_of_the_log_is_read_in_any_case(monkeypatch: pytest.MonkeyPatch, level: str) -> None:
    monkeypatch.setenv("DRAFTD_LOG_LEVEL", level)
    assert read().log_level == level.lower()


def test_a_line_that_cannot_be_read_is_one_warning_and_not_shown(bare: Path, caplog: pytest.LogCaptureFixture) -> None:
    (bare / ".env").write_text("DRAFTD_MODEL=x/y\nsk-s3cr3t hunter2\nDRAFTD_LEASE_S=3\n")
    found, warnings = load_settings()
    assert (found.model, found.lease_s) == ("x/y", 3)
    assert warnings == [".env: line 2 is invalid; ignored"]
    assert caplog.messages == []


@pytest.mark.parametrize("reading", [read, export_foreign_variables])
def test_a_directory_that_this_user_may_not_enter_is_named(
    bare: Path, monkeypatch: pytest.MonkeyPatch, reading: Callable[[], object]
) -> None:
    def closed(path: str, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "stat", closed)
    with pytest.raises(ConfigurationError, match=rf"^\.env cannot be read in {bare}: PermissionError$"):
        reading()


def test_a_working_directory_that_is_gone_has_no_file(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAFTD_MODEL", "x/y")
    bare.rmdir()
    assert read().model == "x/y"


def test_a_directory_named_like_the_file_is_none(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bare / ".env").mkdir()
    monkeypatch.setenv("DRAFTD_MODEL", "x/y")
    export_foreign_variables()
    assert load_settings() == (read(), [])


@pytest.mark.parametrize(
    ("line", "named"), [('OPENAI_API_KEY="s3cr3t\0"', "OPENAI_API_KEY"), ("'a=s3cr3t'=b", "a name in .env")]
)
def test_what_no_variable_can_hold_is_named_and_not_shown(bare: Path, line: str, named: str) -> None:
    (bare / ".env").write_text(f"{line}\n")
    with pytest.raises(
        ConfigurationError, match=f"^{named} has a name or value that no environment variable can have"
    ) as caught:
        export_foreign_variables()
    assert "s3cr3t" not in repr(caught.value)


def test_lists_are_split_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRAFTD_FALLBACK_MODELS", "openai/a, anthropic/b,,")
    monkeypatch.setenv("DRAFTD_ALLOW_PRIVATE_IMAGE_HOSTS", " nas:8080 ,10.2.0.0/16")
    found = read()
    assert found.fallback_models == ("openai/a", "anthropic/b")
    assert found.allow_private_image_hosts == ("nas:8080", "10.2.0.0/16")


@per_row(
    ("slip", "meant"),
    [
        ("DRAFTD_DATABSE_URL", "DRAFTD_DATABASE_URL"),
        ("DRAFTD_MODELS", "DRAFTD_MODEL"),
        ("DRAFTD_LEASE", "DRAFTD_LEASE_S"),
        ("DRAFTD_FALLBACK_MODEL", "DRAFTD_FALLBACK_MODELS"),
        ("DRAFTD_LOGLEVEL", "DRAFTD_LOG_LEVEL"),
    ],
)
def test_a_name_that_is_nearly_a_setting_is_an_error(slip: str, meant: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{slip} is not a setting; did you mean {meant}[?]$"):
        check_names([slip])


@pytest.mark.parametrize("place", ["environment", "file", "secrets"])
def test_a_slip_is_found_wherever_it_stands(
    monkeypatch: pytest.MonkeyPatch, dotenv: Write, secret: Write, place: str
) -> None:
    {"environment": monkeypatch.setenv, "file": dotenv, "secrets": secret}[place]("draftd_concurency", "4")
    with pytest.raises(ConfigurationError, match="did you mean DRAFTD_CONCURRENCY"):
        read()


KUBERNETES = [
    "SERVICE_HOST",
    "SERVICE_PORT",
    "SERVICE_PORT_METRICS",
    "PORT",
    "PORT_9090_TCP",
    "PORT_9090_TCP_ADDR",
    "PORT_9090_TCP_PORT",
    "PORT_9090_TCP_PROTO",
    "METRICS_SERVICE_HOST",
    "METRICS_SERVICE_PORT",
    "METRICS_SERVICE_PORT_METRICS",
    "METRICS_PORT_9090_TCP",
    "METRICS_PORT_9090_TCP_PORT",
]


@pytest.mark.parametrize("name", KUBERNETES)
def test_what_kubernetes_injects_is_a_warning(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"DRAFTD_{name}", "tcp://10.0.0.1:9090")
    assert load_settings()[1] == [f"DRAFTD_{name} is not a setting of draftd; ignored"]


def test_settings_and_the_names_of_others_give_no_warning(monkeypatch: pytest.MonkeyPatch, dotenv: Write) -> None:
    monkeypatch.setenv("DRAFTD_MODEL", "x/y")
    monkeypatch.setenv("DRAFTD_TEST_DATABASE_URL", URL)
    dotenv("OPENAI_API_KEY", "k")
    assert load_settings()[1] == []


def test_providers_variables_are_exported_and_the_environments_own_stay(
    monkeypatch: pytest.MonkeyPatch, dotenv: Write, secret: Write
) -> None:
    environment = {"OPENAI_API_KEY": "environment"}
    monkeypatch.setattr(os, "environ", environment | {"CREDENTIALS_DIRECTORY": os.environ["CREDENTIALS_DIRECTORY"]})
    for name in ("OPENAI_API_KEY", "GROQ_API_KEY", "EMPTY_KEY", "DRAFTD_MODEL"):
        dotenv(name, "" if name == "EMPTY_KEY" else "file")
    for name in ("OPENAI_API_KEY", "GROQ_API_KEY", "EMPTY_KEY", "XAI_API_KEY", "DRAFTD_LEASE_S", "tls.crt"):
        secret(name, "secret\n")
    secret("KEYSTORE", "\udcff")
    export_foreign_variables()
    assert {name: value for name, value in os.environ.items() if name != "CREDENTIALS_DIRECTORY"} == {
        "OPENAI_API_KEY": "environment",
        "GROQ_API_KEY": "file",
        "EMPTY_KEY": "secret",
        "XAI_API_KEY": "secret",
    }


def test_a_secrets_file_that_is_no_text_is_named_and_not_shown(secret: Write) -> None:
    secret("DRAFTD_MODEL", "s3cr3t\udcff")
    with pytest.raises(
        ConfigurationError, match=r"credentials/DRAFTD_MODEL cannot be read: UnicodeDecodeError$"
    ) as caught:
        read()
    assert "s3cr3t" not in repr(caught.value)
    assert caught.value.__cause__ is None, "a traceback would show the rest"


def test_a_secrets_file_that_cannot_be_opened_is_named(tmp_path: Path, secret: Write) -> None:
    secret("OPENAI_API_KEY", "k")
    (tmp_path / "credentials" / "draftd_model").mkdir()
    with pytest.raises(ConfigurationError, match=r"credentials/draftd_model cannot be read: IsADirectoryError$"):
        read()


@pytest.mark.parametrize("reading", [read, export_foreign_variables])
def test_a_secrets_directory_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reading: Callable[[], object]
) -> None:
    # For root no directory is unreadable: a file in its place.
    (tmp_path / "secrets").write_text("s3cr3t")
    monkeypatch.setattr(settings, "_secrets_dirs", lambda: [tmp_path / "secrets"])
    with pytest.raises(ConfigurationError, match=r"/secrets cannot be read: NotADirectoryError$"):
        reading()


@pytest.mark.parametrize("error", [SettingsError("of DRAFTD_MODEL"), PermissionError("of DRAFTD_MODEL")])
def test_a_file_that_changes_meanwhile_ends_as_a_configuration_error(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def changed(_self: object, **_: object) -> None:
        raise error

    monkeypatch.setattr(Settings, "__init__", changed)
    with pytest.raises(ConfigurationError, match=r"cannot read the settings: of DRAFTD_MODEL$"):
        read()


def test_credentials_of_the_service_go_before_those_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    container, service = tmp_path / "container", tmp_path / "service"
    for directory in (container, service):
        directory.mkdir()
        for name in ("DRAFTD_MODEL", "XAI_API_KEY"):
            (directory / name).write_text(directory.name)
    monkeypatch.setattr(settings, "_secrets_dirs", lambda: [container, service])
    monkeypatch.setattr(os, "environ", {})
    export_foreign_variables()
    assert (read().model, os.environ["XAI_API_KEY"]) == ("service", "service")
