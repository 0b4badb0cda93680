"""What the HTTP clients of litellm and of the providers' libraries must not do.

Invariants: no request blocks the event loop, and none is sent twice. (That no redirect is followed is seen to by ``exchange``,
which watches what is sent.) Nothing here imports httpx or litellm: ``llm`` hands them in.
"""

import asyncio
import functools
from typing import Any

_RESTRAINED = "draftd_restrained"


def restrain(httpx: Any, http_handler: Any) -> None:
    """Change the clients' classes, once per process.

    Args:
        httpx: the module.
        http_handler: litellm's module around it.
    """
    if getattr(httpx, _RESTRAINED, False):
        return
    setattr(httpx, _RESTRAINED, True)
    httpx.Client.send = _off_the_event_loop(httpx.Client.send, httpx.ConnectError)
    http_handler.AsyncHTTPHandler.single_connection_post_request = _raise_again


def _off_the_event_loop(send: Any, refusal: Any) -> Any:
    """Let nothing be asked synchronously on the event loop: a server that is silent would stop the whole daemon.

    litellm asks a server of Ollama about its model around each call, and does without the answer when it gets none.
    """

    @functools.wraps(send)
    def send_elsewhere(client: Any, request: Any, **how: Any) -> Any:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return send(client, request, **how)
        raise refusal("this request would block the event loop", request=request)

    return send_elsewhere


async def _raise_again(_handler: Any, **_request: Any) -> Any:
    """Take the place of litellm's second try of a POST whose connection was reset: the first may have been paid for."""
    raise  # noqa: PLE0704  # called while the error of the first try is handled
