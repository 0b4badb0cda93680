"""The settings: the only module that reads the environment.

Order: environment, then ``.env`` in the working directory, then secrets files (``/run/secrets`` and
``$CREDENTIALS_DIRECTORY``), then the defaults. Providers' and Langfuse's own variables keep their names; their libraries read
them from the environment.
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

# It would log twice what ``load_settings`` returns as warnings.
logging.getLogger("dotenv.main").setLevel(logging.ERROR)

PREFIX = "DRAFTD_"
MIB = 1024 * 1024
_FOREIGN = re.compile("[A-Z][A-Z0-9_]+")
_KUBERNETES = re.compile(r"DRAFTD_(\w+_)?(SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_\w+)")
"""Set in every container of a namespace with a Service named ``draftd…``: similar to the metrics port, but no typo."""
MOVED = {
    "DRAFTD_DEFAULT_EXPIRY_S": "draftd settings set default_expiry_s=…",
    "DRAFTD_RETENTION_DAYS": "draftd settings set retention_days=…",
}
"""Former variables of each daemon that are now settings of the fleet, with the command that sets them."""
DIRECTLY = {"NO_PROXY": "*", "no_proxy": "*"}
"""The variables that let HTTP clients ignore every proxy."""
TYPO_RATIO = 0.8
"""How similar a name must be to a setting to count as a typo (difflib's ratio)."""


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
    """What an operator may set; each field is a variable ``DRAFTD_<NAME>``."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    database_url: DatabaseUrl | None = Field(
        None, description="URL of the database: `postgres://`, `postgresql://` or `postgresql+psycopg://`."
    )
    listen_database_url: DatabaseUrl | None = Field(
        None, description="URL for LISTEN that bypasses a transaction-mode pooler. Default: the database URL."
    )
    listen: Literal["auto", "off"] = Field(
        "auto",
        description="`auto`: use LISTEN if a test notification arrives within 2 s. `off`, or no notification: no LISTEN, no "
        "prepared statements, polling every second.",
    )
    model: str | None = Field(
        None, description="The vision model, by its litellm name (`anthropic/…`, `ollama_chat/…`)."
    )
    fallback_models: CommaSeparated = Field((), description="Models to try when the first one fails; comma-separated.")
    model_api_bases: CommaSeparated = Field(
        (),
        description="Addresses that may receive keys and pictures, comma-separated (`http://gpu1:8000`), in addition to the "
        "providers' own and those in `OPENAI_BASE_URL` and similar variables. An address with a path permits only what is below "
        "it.",
    )
    model_key_variables: CommaSeparated = Field(
        (),
        description="Variables that `draftd models set --api-key-env` may name, comma-separated, in addition to the providers' "
        "own `…_API_KEY`. Never `DRAFTD_*`, `PG*` or `LANGFUSE_*`.",
    )
    concurrency: int = Field(16, ge=1, le=10_000, description="Requests drafted at the same time by one daemon.")
    poll_interval_s: Seconds = Field(3, description="How often an idle daemon polls if no notification arrives.")
    lease_s: Seconds = Field(
        10, ge=1, description="How long a claim lasts without renewal. Renewed every third of this."
    )
    reap_interval_s: Seconds = Field(
        2, description="How often a daemon looks for expired leases; at most a third of a lease."
    )
    attempt_timeout_s: Seconds = Field(120, ge=10, description="Time limit of an attempt, everything included.")
    model_timeout_s: Seconds = Field(
        60, description="Time limit of one model call, within what is left of the attempt."
    )
    shutdown_grace_s: float = Field(
        30, ge=0, le=86_400, description="How long a shutdown waits for attempts in flight."
    )
    image_max_bytes: int = Field(
        20 * MIB, ge=1024, le=80 * MIB, description="Maximum size of an image as fetched, in bytes."
    )
    image_max_pixels: int = Field(
        40_000_000, ge=1024, le=40_000_000, description="Maximum size of an image, in pixels."
    )
    image_long_edge_px: int = Field(
        1568, ge=256, le=8192, description="Maximum long edge of an image as sent to the model."
    )
    allow_private_image_hosts: CommaSeparated = Field(
        (),
        description="Private hosts that images may be fetched from, comma-separated: `host`, `host:port` or a network "
        "(`10.2.0.0/16`). Without a port, any port.",
    )
    image_headers: SecretStr = Field(
        SecretStr(""),
        description="Headers for hosts that keep pictures private, one `host=Name: value` per line; the host may have a port and "
        "a folder (`files.example/shots/=Authorization: Bearer …`). Sent over https only, and never after a redirect to another "
        "host.",
    )
    prompts_dir: Path | None = Field(
        None, description="Directory of the agents' prompt files. Default: the packaged `prompts/`."
    )
    trace_content: Literal["text", "off", "full"] = Field(
        "text",
        description="What a trace contains. `text`: prompts and drafts, with pictures as hash and size. `off`: figures only. "
        "`full`: the prepared pictures too.",
    )
    metrics_host: str = Field(
        "127.0.0.1",
        description="Address or host name to serve metrics on, IPv4 or IPv6. `0.0.0.0`: every IPv4 address. `::`: every "
        "address.",
    )
    metrics_port: int | None = Field(
        None, ge=1, le=65_535, description="Port to serve Prometheus metrics on, without authentication. Default: off."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="`console`, `json`, or `auto`: `console` on a terminal, else `json`."
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = Field(
        "info", description="Minimum level to log: `debug`, `info`, `warning` or `error`, in upper or lower case."
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
        """The URL to LISTEN on."""
        own = self.listen_database_url
        return own.get_secret_value() if own else self.require_database_url()


def load_settings() -> tuple[Settings, list[str]]:
    """Read the settings.

    Returns:
        The settings, and warnings about unknown ``DRAFTD_*`` names (Kubernetes injects some) and invalid lines of ``.env``.

    Raises:
        ConfigurationError: a value is invalid, or a name is a typo; the message names it, and never its value.
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
        # A file has changed since it was checked. The error names the setting or the file, never a value.
        raise ConfigurationError(f"cannot read the settings: {error}") from None


def check_names(names: Iterable[str]) -> list[str]:
    """Return a warning for each unknown ``DRAFTD_*`` name.

    Raises:
        ConfigurationError: a name is so similar to a setting that it must be a typo, or its setting has moved.
    """
    known = [PREFIX + field.upper() for field in Settings.model_fields]
    warnings = []
    for name in sorted(set(names) - set(known)):
        if name in MOVED:
            raise ConfigurationError(f"{name} is the fleet's now: unset it, and use `{MOVED[name]}`")
        near = difflib.get_close_matches(name, known, n=1, cutoff=TYPO_RATIO)
        if near and not _KUBERNETES.fullmatch(name):
            raise ConfigurationError(f"{name} is not a setting; did you mean {near[0]}?")
        warnings.append(f"{name} is not a setting of draftd; ignored")
    return warnings


def _dotenv() -> dict[str, str | None]:
    """Read ``.env``; ignore a directory of that name.

    Raises:
        ConfigurationError: it cannot be read, or this user may not enter the working directory.
    """
    try:
        with suppress(FileNotFoundError):
            os.stat(".env")  # noqa: PTH116  # python-dotenv ignores a file it may not stat
        return dotenv_values(".env")
    except (UnicodeDecodeError, OSError) as error:
        raise ConfigurationError(f".env cannot be read in {_here()}: {type(error).__name__}") from None


def _here() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        return "a deleted working directory"


def _unread_lines() -> list[str]:
    """Return a warning for each invalid line of ``.env``, without the line: it may hold a key."""
    file = Path(".env")
    if not file.is_file():
        return []
    with file.open(encoding="utf-8") as stream:
        lines = [binding.original.line for binding in parse_stream(stream) if binding.error]
    return [f".env: line {line} is invalid; ignored" for line in lines]


def _secrets_files() -> list[Path]:
    """Return the files of all secrets directories; of two with the same name, the later one wins.

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
    """Read draftd's own secrets files once, as the settings' sources would not say which one is unreadable.

    Raises:
        ConfigurationError: a file cannot be read, or is not text.
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
    """Return a variable that is not draftd's (a provider's key, Langfuse's, systemd's); None if unset or empty."""
    return os.environ.get(name) or None


def call_directly() -> None:
    """Let this process's HTTP clients ignore every proxy, for a server on this machine.

    Clients look for a proxy in the environment, and a SOCKS one would fail on a missing library even if unused.
    """
    os.environ.update(DIRECTLY)


def export_foreign_variables() -> None:
    """Copy the providers' and Langfuse's variables from ``.env`` and the secrets files into the environment.

    Their libraries look nowhere else. Variables already set are kept.

    Raises:
        ConfigurationError: a file cannot be read, or contains something no environment variable can hold.
    """
    found = {name: value for name, value in _dotenv().items() if value}
    for path in reversed(_secrets_files()):
        # Skip key stores, and files of other services that this user may not read.
        with suppress(OSError, UnicodeDecodeError):
            if _FOREIGN.fullmatch(path.name) and path.is_file():
                found.setdefault(path.name, path.read_text().strip())
    for name, value in found.items():
        if not name.upper().startswith(PREFIX):
            try:
                os.environ.setdefault(name, value)
            except ValueError:
                shown = name if _FOREIGN.fullmatch(name) else "a name in .env"
                raise ConfigurationError(f"{shown} has a name or value that no environment variable can have") from None
