"""The database: connections, URLs, certificates, rights and the schema. No statement of the queue.

connection       how connections are opened, timed, kept and repaired; ``Link`` reconnects by itself
dsn              the URL: what libpq makes of it and what of it may be shown
certificates     where the system keeps its authorities, and why a certificate was refused
access           whether this role sees the tables, and who does if it does not
refusals         what went wrong, for whoever ran the command
read_committed   READ COMMITTED whatever the server's default is
sqlstate         what an error of the server means
schema           the tables, for Alembic and for clients' SQLAlchemy code
schema_version   which version the database has, and which one is wanted
grants           the SQL that ``draftd grants`` prints
"""

from draftd.db.connection import (
    CANCEL_S,
    FIRST_MOMENT,
    LAST_MOMENT,
    LOST,
    REFUSED_CAP_S,
    Answer,
    Connection,
    Execute,
    Link,
    Params,
    Row,
    check_access,
    connect,
    connected,
    loads,
    translated,
)

__all__ = [
    "CANCEL_S",
    "FIRST_MOMENT",
    "LAST_MOMENT",
    "LOST",
    "REFUSED_CAP_S",
    "Answer",
    "Connection",
    "Execute",
    "Link",
    "Params",
    "Row",
    "check_access",
    "connect",
    "connected",
    "loads",
    "translated",
]
