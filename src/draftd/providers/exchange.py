"""What happened on the wire in one model call: which address was asked, and what its server answered.

litellm hides both: it invents statuses (a 413 becomes a 400, a web page a 500) and drops addresses and bodies. All providers'
libraries send through one method of httpx, which is where it is seen. Also there: no client follows a redirect.

Invariant: what is seen belongs to the call that sent it, whatever tasks and threads send it.
"""

import functools
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

MAX_BODY_CHARS = 20_000


@dataclass(slots=True)
class Exchange:
    """The latest request of a call, and the response to it as far as there is one."""

    address: str = ""
    """Scheme, host and port; empty when nothing was sent."""
    response: Any = None
    is_watched: bool = False
    """Whether what is sent is seen here; if it is, a call without an address has sent nothing."""
    sent: int = 0
    """How many requests the call has sent."""

    @property
    def status(self) -> int | None:
        """The status that the server answered."""
        return None if self.response is None else int(self.response.status_code)

    @property
    def is_success(self) -> bool:
        """Whether the server answered with a 2xx."""
        return self.status is not None and 200 <= self.status < 300  # noqa: PLR2004 - HTTP's

    @property
    def media_type(self) -> str:
        """The media type of the response, in lower case; empty when there is none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def headers(self) -> Mapping[str, str]:
        """The response's headers, by their names in lower case."""
        return {} if self.response is None else {name.lower(): text for name, text in self.response.headers.items()}

    @property
    def body(self) -> str:
        """The response's body, as far as litellm has read it."""
        try:
            return "" if self.response is None else str(self.response.text)[:MAX_BODY_CHARS]
        except RuntimeError:  # httpx.ResponseNotRead
            return ""


_EXCHANGE: ContextVar[Exchange | None] = ContextVar("exchange", default=None)


def begin() -> Exchange:
    """Watch what the current task sends from now on."""
    exchange = Exchange(is_watched=True)
    _EXCHANGE.set(exchange)
    return exchange


def watch(httpx: Any) -> None:
    """Have every client of httpx note what it sends, and follow no redirects.

    Where a server redirects to, the prompt, the pictures and often the key would go along. litellm and the providers' libraries
    follow redirects by default, each in its own way.
    """
    send = httpx.AsyncClient.send
    if getattr(send, "is_watched", False):
        return

    @functools.wraps(send)
    async def send_here(client: Any, request: Any, **how: Any) -> Any:
        exchange = _EXCHANGE.get() or Exchange()
        url = request.url
        exchange.address = f"{url.scheme}://{url.netloc.decode('ascii', 'replace').rpartition('@')[2]}"
        exchange.response = None
        exchange.sent += 1
        exchange.response = await send(client, request, **how | {"follow_redirects": False})
        return exchange.response

    send_here.is_watched = True  # type: ignore[attr-defined]  # loaded twice in one process, by tests
    httpx.AsyncClient.send = send_here
