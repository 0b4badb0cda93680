"""The database: connections, URLs, certificates, rights and the schema. No statement of the queue.

connection       how connections are opened, timed, kept and repaired; ``Link`` reconnects by itself
dsn              the URL: what libpq makes of it and what of it may be shown
certificates     where the system keeps its authorities, and why a certificate was refused
access           whether this role sees the tables, and which role does
command_errors   database errors as one line and an exit code
read_committed   READ COMMITTED whatever the server's default is
sqlstate         what a server's error means
statements       reads the statements that packages keep in sql/
schema           the tables, for Alembic and for clients' SQLAlchemy code
schema_version   the database's schema version, and the one this draftd needs
grants           the SQL that ``draftd grants`` prints
private          the SQL by which migrations close what they create to strangers
"""

from draftd.db.connection import (
    CANCEL_S,
    LOST,
    MAX_TIMESTAMP,
    MIN_TIMESTAMP,
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
    translate_errors,
)

__all__ = [
    "CANCEL_S",
    "LOST",
    "MAX_TIMESTAMP",
    "MIN_TIMESTAMP",
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
    "translate_errors",
]
