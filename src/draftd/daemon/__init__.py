"""The running daemon: how it is put together, lives and stops.

    composition    settings in, the wired parts out
    plan           which kind of daemon the settings ask for, and its connections
    lifecycle      starts and stops the parts, in order; the shutdown
    worker         N claim loops and the drain
    heartbeat      renews leases, from a thread of its own
    reaper         takes back what dead workers held
    pruner         deletes old final requests
    hold_cleaner   deletes the holds of models that nobody uses any more
    connections    keeps open every connection that a result needs
    gauges         the metrics that need a look at the table
    liveness       how ``draftd health`` finds and asks this user's daemons
    systemd        READY, STATUS, WATCHDOG and STOPPING

Nothing below this package knows that it exists; the command line starts it and asks it for its health.
"""
