"""Permits: where keys and pictures may be sent. The environment of this process decides, never a table.

A role that may write ``draft_models`` chooses models, but must not choose who receives keys and pictures. Both are sent only to a
provider's own address, or to one that the operator named in the environment; a key only to its own provider or to such an
address. Invariant: a refusal names a host or a variable at most, never a path or a value.
"""

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from draftd.errors import ConfigurationError
from draftd.providers.known_providers import KEY_VARIABLES, PROVIDERS, Provider, is_litellm_name, owner_of, provider_of
from draftd.settings import Settings

BASES, VARIABLES = "DRAFTD_MODEL_API_BASES", "DRAFTD_MODEL_KEY_VARIABLES"
_NEVER = ("DRAFTD_", "PG", "LANGFUSE_")
_VARIABLE = re.compile("[A-Za-z][A-Za-z0-9_]{0,63}")
# Stricter than any URL parser, so that all parsers read the address alike.
_URL = re.compile(
    r"https?://(?:\[[0-9a-f:.]+\]|[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?)(?::\d{1,5})?(?:/[a-z0-9._~/-]*)?", re.IGNORECASE
)
_PORTS = {"http": 80, "https": 443}
MAX_PORT = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """The address of a model's server."""

    scheme: str
    host: str
    port: int
    path: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Parse an address such as ``http://gpu1:8000/v1``; return None for anything else, such as a URL with user or query."""
        if not _URL.fullmatch(text):
            return None
        try:
            parts = urlsplit(text)
            host, port = _host(parts.hostname or ""), _PORTS[parts.scheme] if parts.port is None else parts.port
        except ValueError:
            return None
        path = tuple(segment for segment in parts.path.split("/") if segment)
        if not 0 < port <= MAX_PORT or any(set(segment) == {"."} for segment in path):
            return None
        return cls(scheme=parts.scheme, host=host, port=port, path=path)

    def covers(self, other: "Address") -> bool:
        """Return whether another address is this one or below its path."""
        same = (self.scheme, self.host, self.port) == (other.scheme, other.host, other.port)
        return same and other.path[: len(self.path)] == self.path

    @property
    def owner(self) -> str | None:
        """The provider that owns the address, or None."""
        return owner_of(self.host) if (self.scheme, self.port) == ("https", 443) else None

    def is_of(self, provider: str | None, *, has_key: bool) -> bool:
        """Return whether this is a provider's own address that litellm may call in the style of ``provider``.

        The style must be the owner's, or ``openai`` with a key for this address, since many providers offer OpenAI's API. Other
        styles may send more than the key, such as a token of the cloud that the process runs in.
        """
        own = self.host in PROVIDERS.get(provider or "", Provider()).hosts
        return self.owner is not None and (own or (provider == "openai" and has_key))


def _host(host: str) -> str:
    return ipaddress.IPv6Address(host).compressed if ":" in host else host.lower()


class Permits:
    """What the operator allows.

    Args:
        bases: the operator's own addresses, which may receive keys and pictures.
        variables: variables besides the providers' that a row may name as its key.
        models: the litellm names that the environment names.
    """

    def __init__(
        self, *, bases: Sequence[Address] = (), variables: Sequence[str] = (), models: Sequence[str] = ()
    ) -> None:
        self._bases = tuple(bases)
        self._variables = frozenset(variables)
        self._models = frozenset(models)

    @classmethod
    def of(cls, settings: Settings, getenv: Callable[[str], str | None]) -> "Permits":
        """Return what settings and environment allow.

        Args:
            settings: draftd's settings.
            getenv: returns an environment variable, or None.

        Raises:
            ConfigurationError: an entry of ``DRAFTD_MODEL_API_BASES`` is not an address.
        """
        bases = [Address.parse(entry) for entry in settings.model_api_bases]
        if None in bases:
            # The entry is not quoted: it may contain a password.
            raise ConfigurationError(
                f"{BASES}: entry {bases.index(None) + 1} is not an address; write http://host:port or https://host, "
                "without user and query"
            )
        bases += [Address.parse(getenv(name) or "") for provider in PROVIDERS.values() for name in provider.bases]
        return cls(
            bases=[base for base in bases if base],
            variables=settings.model_key_variables,
            models=[name for name in (settings.model, *settings.fallback_models) if name],
        )

    def refusal(self, *, model: str, api_base: str | None, api_key_env: str | None) -> str | None:
        """Return why a model may not be called, naming the setting that would allow it, or None if it may.

        Args:
            model: the litellm name.
            api_base: the address; None for the provider's own.
            api_key_env: the variable with the key; None for the provider's own.
        """
        provider = provider_of(model)
        if why := self._name_refusal(model, provider):
            return why
        readable = _keys_of(provider)
        if api_base is not None:
            address = Address.parse(api_base)
            if address is None:
                return (
                    f"its api_base is not an address that {BASES} can name: http://host:8000/v1, without user and query"
                )
            is_own = any(base.covers(address) for base in self._bases)
            if not is_own and not address.is_of(provider, has_key=api_key_env is not None):
                return f"keys and pictures may not be sent to {address.host}: {BASES} does not name it"
            readable = KEY_VARIABLES if is_own else _keys_of(address.owner)
        return None if api_key_env is None else self._key_refusal(api_key_env, readable)

    def _name_refusal(self, model: str, provider: str | None) -> str | None:
        if model in self._models:
            return None
        if not is_litellm_name(model):
            return (
                "its model is not a litellm name such as openai/gpt-5-mini; only DRAFTD_MODEL and DRAFTD_FALLBACK_MODELS "
                "may use other forms"
            )
        if provider is None or provider in PROVIDERS:
            return None
        return f"a table may not name the provider {provider[:32]!r}; DRAFTD_MODEL and DRAFTD_FALLBACK_MODELS may"

    def _key_refusal(self, variable: str, readable: frozenset[str]) -> str | None:
        """Return why a key may not be sent to a server, or None if it may.

        Args:
            variable: the variable with the key.
            readable: the providers' variables whose keys this server may receive.
        """
        if not _VARIABLE.fullmatch(variable):
            # It may be the key itself.
            return "its api_key_env is not the name of an environment variable"
        if variable.upper().startswith(_NEVER):
            return f"{variable} may never be sent to a model, whatever {VARIABLES} says"
        if variable in self._variables or variable in readable:
            return None
        whose = "is another provider's key" if variable in KEY_VARIABLES else "is not a provider's key"
        return f"{variable} {whose}, and {VARIABLES} does not name it"


def _keys_of(provider: str | None) -> frozenset[str]:
    return frozenset(PROVIDERS.get(provider or "", Provider()).keys)
