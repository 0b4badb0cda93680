"""A client of draftd: inserts draft requests into PostgreSQL and waits for their replies.

``Client`` is for threads and scripts, ``AsyncClient`` for asyncio. Both talk to the tables that ``draftd migrate`` makes, with
the rights that ``draftd grants`` gives; there is no server in between.
"""

from draftd_client.aio import AsyncClient
from draftd_client.client import Client
from draftd_client.errors import DraftdError, DraftFailed, NotFound, Refused, TooManyPending
from draftd_client.reply import Created, Profile, Reply
from draftd_client.types import Option, PartialResult, RequestOptions, Result

__all__ = [
    "AsyncClient",
    "Client",
    "Created",
    "DraftFailed",
    "DraftdError",
    "NotFound",
    "Option",
    "PartialResult",
    "Profile",
    "Refused",
    "Reply",
    "RequestOptions",
    "Result",
    "TooManyPending",
]
