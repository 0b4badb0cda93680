"""The table of providers, against the litellm that is installed."""

import importlib.util
from pathlib import Path

import pytest

from draftd.providers.known_providers import PROVIDERS


@pytest.fixture(scope="module")
def source() -> str:
    spec = importlib.util.find_spec("litellm")
    assert spec is not None
    assert spec.origin is not None
    return "\n".join(path.read_text(errors="replace") for path in Path(spec.origin).parent.rglob("*.py"))


def test_every_variable_and_every_host_is_one_that_litellm_uses(source: str) -> None:
    words = {word for one in PROVIDERS.values() for word in (*one.keys, *one.bases, *one.hosts)}
    assert {word for word in words if word not in source} == set()


def test_every_name_is_a_provider_of_litellm(source: str) -> None:
    assert {name for name in PROVIDERS if f'"{name}"' not in source} == set()
