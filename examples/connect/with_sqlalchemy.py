"""Draft replies to a screenshot with SQLAlchemy, 2.0 or newer: DATABASE_URL=… python with_sqlalchemy.py IMAGE_URL [WHAT_TO_SAY].

The columns that an app uses are mapped; the others do not concern it. The database fills in what is not set.
"""

import os
import sys
import time
import uuid
from typing import Any

from sqlalchemy import ARRAY, FetchedValue, Text, create_engine, make_url
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

FINAL = ("completed", "failed", "cancelled")


class Base(DeclarativeBase):
    """What the app's tables have in common."""


class DraftRequest(Base):
    """A draft request, as an app sees it."""

    __tablename__ = "draft_requests"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, server_default=FetchedValue())
    requester_id: Mapped[str] = mapped_column(server_default=FetchedValue())
    image_urls: Mapped[list[str]] = mapped_column(ARRAY(Text))
    context: Mapped[str | None]
    options: Mapped[dict[str, Any]] = mapped_column(JSONB, server_default=FetchedValue())
    idempotency_key: Mapped[str | None]
    # Written by draftd:
    status: Mapped[str] = mapped_column(server_default=FetchedValue())
    result: Mapped[dict[str, Any] | None] = mapped_column(JSONB, server_default=FetchedValue())
    error_message: Mapped[str | None] = mapped_column(server_default=FetchedValue())


def main(image_url: str, context: str | None = None) -> None:
    """Insert a request, wait for it, and print its replies."""
    engine = create_engine(make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+psycopg"))
    with Session(engine) as session:
        request = DraftRequest(image_urls=[image_url], context=context, idempotency_key=str(uuid.uuid4()))
        session.add(request)
        session.commit()
        while request.status not in FINAL:
            session.commit()  # ends the transaction; the next look reads the row anew
            time.sleep(0.5)
        if request.result is None:
            sys.exit(f"{request.status}: {request.error_message}")
        for option in request.result["options"]:
            print(f"{option['length']}: {option['text']}\n")


if __name__ == "__main__":
    main(*sys.argv[1:3])
