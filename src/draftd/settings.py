"""The settings of section 5 of the contract: the only module that reads the environment.

Order: environment, then ``.env`` in the working directory, then secrets files (``/run/secrets`` and
``$CREDENTIALS_DIRECTORY``), then the defaults. Providers' and Langfuse's own variables keep their names and are read from
the environment only, by whom they belong to.
"""

import difflib
import logging
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from draftd.errors import ConfigurationError

# It says of every reading, and .env is read twice, what is a warning of ``load_settings``.
logging.getLogger("dotenv.main").setLevel(logging.ERROR)

PREFIX = "DRAFTD_"
MIB = 1024 * 1024
_FOREIGN = re.compile("[A-Z][A-Z0-9_]+")
_KUBERNETES = re.compile(r"DRAFTD_(\w+_)?(SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_\w+)")
"""What a Service named ``draftd…`` puts into every container beside it: too near to the metrics' port, and nobody's slip."""
MOVED = {
    "DRAFTD_DEFAULT_EXPIRY_S": "draftd settings set default_expiry_s=…",
    "DRAFTD_RETENTION_DAYS": "draftd settings set retention_days=…",
}
"""What was a variable of each daemon and is the fleet's now, with the command that sets it."""
NEARLY = 0.8
"""How alike two names must be for the one to be taken for a slip of the other (difflib's ratio)."""


def _split(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _driver_free(value: SecretStr) -> SecretStr:
    scheme, separator, rest = value.get_secret_value().partition("://")
    if separator and scheme in {"postgres", "postgresql", "postgresql+psycopg"}:
        return SecretStr(f"postgresql://{rest}")
    raise ValueError("must begin with postgres://, postgresql:// or postgresql+psycopg://")


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
DatabaseUrl = Annotated[SecretStr, AfterValidator(_driver_free)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


def _secrets_dirs() -> list[Path]:
    candidates = ["/run/secrets", os.environ.get("CREDENTIALS_DIRECTORY", "")]
    return [Path(name) for name in candidates if name and os.path.isdir(name)]  # noqa: PTH112  # never raises


class Settings(BaseSettings):
    """What an operator may set; every field is the variable ``DRAFTD_<NAME>``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    database_url: DatabaseUrl | None = Field(
        None, description="The database. `postgres://`, `postgresql://` and `postgresql+psycopg://` are all accepted."
    )
    listen_database_url: DatabaseUrl | None = Field(
        None, description="Another address for LISTEN, past a transaction-mode pooler. Default: the same."
    )
    listen: Literal["auto", "off"] = Field(
        "auto",
        description="`auto`: a notification to itself within 2 s proves a session; else, or with `off`: no LISTEN, no "
        "prepared statements, polling every second.",
    )
    model: str | None = Field(
        None, description="The vision model, by its litellm name (`anthropic/…`, `ollama_chat/…`)."
    )
    fallback_models: CommaSeparated = Field((), description="Models to ask when the first refuses; comma-separated.")
    model_api_bases: CommaSeparated = Field(
        (),
        description="Addresses (`http://gpu1:8000`), comma-separated, that keys and pictures may be sent to, beside the "
        "providers' own and those of `OPENAI_BASE_URL` and its like; with a path only what lies below it.",
    )
    model_key_variables: CommaSeparated = Field(
        (),
        description="Variables, comma-separated, that `draftd models set --api-key-env` may name beside the providers' own "
        "`…_API_KEY`; never `DRAFTD_*`, `PG*` or `LANGFUSE_*`.",
    )
    concurrency: int = Field(16, ge=1, le=10_000, description="Claim loops in one process.")
    poll_interval_s: Seconds = Field(3, description="How often an idle daemon looks for work without being rung.")
    lease_s: Seconds = Field(
        10, ge=1, description="How long a claim lives without a renewal; renewed every third of it."
    )
    reap_interval_s: Seconds = Field(
        2, description="How often a daemon looks for expired leases; a third of a lease at most."
    )
    attempt_timeout_s: Seconds = Field(120, ge=10, description="An attempt is over after this, whatever happens.")
    model_timeout_s: Seconds = Field(
        60, description="The longest single model call; stages share what is left of the attempt."
    )
    shutdown_grace_s: float = Field(30, ge=0, le=86_400, description="How long a drain waits for attempts in flight.")
    image_max_bytes: int = Field(20 * MIB, ge=1024, le=80 * MIB, description="The largest image as fetched, in bytes.")
    image_max_pixels: int = Field(40_000_000, ge=1024, le=40_000_000, description="The largest image, in pixels.")
    image_long_edge_px: int = Field(1568, ge=256, le=8192, description="The long edge of an image as it is sent.")
    allow_private_image_hosts: CommaSeparated = Field(
        (),
        description="`host`, `host:port` or network (`10.2.0.0/16`), comma-separated, that may be fetched although private; "
        "without a port, any port.",
    )
    prompts_dir: Path | None = Field(
        None, description="Where the agents' prompt files are. Default: the packaged `prompts/`."
    )
    trace_content: Literal["text", "off", "full"] = Field(
        "text",
        description="What a trace holds. `text`: prompts and drafts, pictures as hash and size; `off`: figures only; "
        "`full`: the prepared pictures too.",
    )
    metrics_host: str = Field(
        "127.0.0.1",
        description="The address (IPv4 or IPv6) that serves the metrics, or a name of it. `0.0.0.0`: every IPv4 address; "
        "`::`: every address.",
    )
    metrics_port: int | None = Field(
        None, ge=1, le=65_535, description="Serves Prometheus metrics on this port, without a password. Default: off."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="`auto`: `console` on a terminal, else `json`."
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = Field(
        "info", description="The least level that is logged: `debug`, `info`, `warning` or `error`, in any case."
    )

    @classmethod
    def settings_customise_sources(cls, *_args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Put the sources in the contract's order."""
        return (
            kwargs["init_settings"],
            kwargs["env_settings"],
            kwargs["dotenv_settings"],
            kwargs["file_secret_settings"],
        )

    def require_database_url(self) -> str:
        """Return the database's URL for psycopg.

        Raises:
            ConfigurationError: it is not set.
        """
        if self.database_url is None:
            raise ConfigurationError(
                "DRAFTD_DATABASE_URL is not set (example: postgresql://user:password@localhost/app)"
            )
        return self.database_url.get_secret_value()

    @cached_property
    def listen_url(self) -> str:
        """The URL of the listener's own connection."""
        own = self.listen_database_url
        return own.get_secret_value() if own else self.require_database_url()


def load_settings() -> tuple[Settings, list[str]]:
    """Read the settings.

    Returns:
        The settings, and warnings: names that look like draftd's but are unknown (Kubernetes injects some), and lines of
        ``.env`` that cannot be read.

    Raises:
        ConfigurationError: a value is wrong, or a name is nearly a known one; the message names it and never its value.
    """
    warnings = check_names(_names_in_use()) + _unread_lines()
    _check_secrets()
    try:
        return Settings(_secrets_dir=_secrets_dirs()), warnings
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        name = PREFIX + str(first["loc"][0]).upper()
        raise ConfigurationError(f"{name}: {first['msg'].removeprefix('Value error, ')}") from None
    except (SettingsError, OSError) as error:
        # A file changed since it was looked at. The first names the setting and holds no value, the second names the file.
        raise ConfigurationError(f"the settings cannot be read: {error}") from None


def check_names(names: Iterable[str]) -> list[str]:
    """Return a warning for each unknown ``DRAFTD_*`` name.

    Raises:
        ConfigurationError: a name is so near to a known one that it must be a slip, or its setting has moved.
    """
    known = [PREFIX + field.upper() for field in Settings.model_fields]
    warnings = []
    for name in sorted(set(names) - set(known)):
        if name in MOVED:
            raise ConfigurationError(f"{name} is the fleet's now: unset it, and use `{MOVED[name]}`")
        near = difflib.get_close_matches(name, known, n=1, cutoff=NEARLY)
        if near and not _KUBERNETES.fullmatch(name):
            raise ConfigurationError(f"{name} is not a setting; did you mean {near[0]}?")
        warnings.append(f"{name} is not a setting of draftd; ignored")
    return warnings


def _dotenv() -> dict[str, str | None]:
    """Read ``.env``; a directory of that name is no such file.

    Raises:
        ConfigurationError: it cannot be read, or looked for: the working directory may be closed to this user.
    """
    try:
        with suppress(FileNotFoundError):
            os.stat(".env")  # noqa: PTH116  # python-dotenv takes a file that it may not look at for none
        return dotenv_values(".env")
    except (UnicodeDecodeError, OSError) as error:
        raise ConfigurationError(f".env cannot be read in {_here()}: {type(error).__name__}") from None


def _here() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        return "a working directory that is gone"


def _unread_lines() -> list[str]:
    """Return a warning for each statement of ``.env`` that is none; it may be a key and is not shown."""
    file = Path(".env")
    if not file.is_file():
        return []
    with file.open(encoding="utf-8") as stream:
        lines = [binding.original.line for binding in parse_stream(stream) if binding.error]
    return [f".env: what begins on line {line} cannot be read; ignored" for line in lines]


def _secrets_files() -> list[Path]:
    """Return the files of all secrets directories; of two with the same name the later goes before.

    Raises:
        ConfigurationError: a directory cannot be read.
    """
    files: list[Path] = []
    for directory in _secrets_dirs():
        try:
            files += directory.iterdir()
        except OSError as error:
            raise ConfigurationError(f"{directory} cannot be read: {type(error).__name__}") from None
    return files


def _check_secrets() -> None:
    """Read draftd's own secrets files once: the settings' sources would not say which of them cannot be read.

    Raises:
        ConfigurationError: one cannot be read, or is no text.
    """
    for path in _secrets_files():
        if path.name.upper().startswith(PREFIX):
            try:
                path.read_text()
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigurationError(f"{path} cannot be read: {type(error).__name__}") from None


def _names_in_use() -> list[str]:
    names = [*os.environ, *_dotenv(), *(path.name for path in _secrets_files())]
    return [
        name.upper()
        for name in names
        if name.upper().startswith(PREFIX) and not name.upper().startswith("DRAFTD_TEST_")
    ]


def environment_value(name: str) -> str | None:
    """Return a variable that is not draftd's own (a provider's key, Langfuse's, systemd's); None when unset or empty."""
    return os.environ.get(name) or None


def export_foreign_variables() -> None:
    """Put the providers' and Langfuse's variables from ``.env`` and the secrets files into the environment.

    Their libraries look nowhere else. What the environment has already stays.

    Raises:
        ConfigurationError: a file cannot be read, or holds what no variable can.
    """
    found = {name: value for name, value in _dotenv().items() if value}
    for path in reversed(_secrets_files()):
        # A key store, or another service's file that this user may not read, is no variable.
        with suppress(OSError, UnicodeDecodeError):
            if _FOREIGN.fullmatch(path.name) and path.is_file():
                found.setdefault(path.name, path.read_text().strip())
    for name, value in found.items():
        if not name.upper().startswith(PREFIX):
            try:
                os.environ.setdefault(name, value)
            except ValueError:
                shown = name if _FOREIGN.fullmatch(name) else "a name in .env"
                raise ConfigurationError(
                    f"{shown} cannot be an environment variable with this name and value"
                ) from None
