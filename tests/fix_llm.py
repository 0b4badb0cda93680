"""litellm as the daemon has it, for tests that ask a model server of their own."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from draftd.providers.llm import Llm


@pytest.fixture
async def llm() -> AsyncIterator[Llm]:
    """litellm, whose connections end with the test."""
    loaded = await asyncio.to_thread(Llm.load)
    yield loaded
    await loaded.aclose()
    # litellm keeps this client outside its cache, and connects it again when it is next used.
    if client := vars(loaded._litellm).get("module_level_aclient"):
        await client.client._transport.aclose()
