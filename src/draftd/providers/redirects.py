"""Redirects of a model's server are not followed, whichever of the providers' libraries makes the call."""

import functools
from typing import Any


def disable_redirects(httpx: Any) -> None:
    """Stop all clients from following redirects, which would forward the prompt, the pictures and often the key.

    litellm and the providers' libraries follow redirects by default, each in its own way; all of them send through this method.
    """
    send = httpx.AsyncClient.send
    if getattr(send, "is_without_redirects", False):
        return

    @functools.wraps(send)
    async def send_without_redirects(client: Any, request: Any, **how: Any) -> Any:
        return await send(client, request, **how | {"follow_redirects": False})

    send_without_redirects.is_without_redirects = True  # type: ignore[attr-defined]  # loaded twice in one process, by tests
    httpx.AsyncClient.send = send_without_redirects
