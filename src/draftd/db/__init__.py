"""The database: connections, URLs, certificates, rights and the schema. No statement of the queue.

connection       opens connections, sets them up and limits their statements in time
link             a daemon's connection, which reopens itself
adapters         reads JSON and timestamps of unknown origin
dsn              the URL: what libpq makes of it, and how much of it may be shown
certificates     where the system keeps its authorities, and why a certificate was refused
access           whether this role sees the tables, and which role does
command_errors   database errors as one line and an exit code
read_committed   READ COMMITTED whatever the server's default is
sqlstate         what a server's error means
statements       reads the statements that packages keep in sql/
schema           the tables, for Alembic and for clients' SQLAlchemy code
schema_version   the database's schema version, and the one this draftd needs
grants           the SQL that ``draftd grants`` prints
hosts            the same for Supabase and InsForge
private          the SQL by which migrations close what they create to other roles
table_locks      the SQL that locks all tables before several of them change
descriptions     what each table and column is for
comments         the SQL by which migrations describe what they create
replaced         the SQL by which migrations change parts of long functions
"""

from draftd.db.adapters import MAX_TIMESTAMP, MIN_TIMESTAMP, loads
from draftd.db.connection import Connection, connect, connected, translate_errors
from draftd.db.link import CANCEL_S, LOST, REFUSED_CAP_S, Answer, Execute, Link, Params, Row, check_access

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
