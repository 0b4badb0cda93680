"""draftd: screenshots in, three ready replies out, with PostgreSQL as the message bus.

    cli         the commands
    evals       what ``draftd eval`` measures drafts with
    report      what ``draftd report`` shows of a period
    stand_in    doubles for tests: a model server, and the daemon in SQL
    demo        what ``draftd demo`` runs against
    daemon      the running daemon
    reply       from a claimed request to its drafts
    providers   the models
    queue       the table as a queue
    images      from an address to what a model sees
    telemetry   traces and metrics
    db          connections, schema, rights

    settings    every ``DRAFTD_…`` variable, its default and bounds
    errors      every error code, and what the app's user can do about it
    request     what a client may set: the columns and the keys of ``options``
    status      the states of a request
    backoff     how long to wait before another try
    json_values JSON as read from rows
    sanitize    what may be stored, logged or shown
    logs        structured logs
    streams     stdout and stderr that never block the daemon
    signals     SIGTERM, SIGINT and SIGHUP, handled from the first line on

The tables, triggers and rights are in ``alembic/versions``, the agents in ``prompts``.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name: str) -> str:
        # Looking it up takes longer than starting Python, and signals are handled only after this module (draftd.signals).
        if name == "__version__":
            from importlib.metadata import version  # noqa: PLC0415  # see above

            return version("draftd")
        raise AttributeError(f"module 'draftd' has no attribute {name!r}")


__all__ = ["__version__"]
