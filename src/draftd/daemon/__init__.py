"""The running daemon: composition, start, shutdown, and one module per background loop.

    composition    wires the parts together from the settings
    parts          the parts that settings alone determine, which other commands use, too
    plan           which kind of daemon the settings ask for, and its database connections
    lifecycle      starts and stops the parts, in order; the shutdown
    worker         runs claimed requests, N at a time
    heartbeat      renews leases, from its own thread
    passes         how a background loop repeats its work
    reaper         takes back the rows of dead workers
    bookkeeper     charges the calls of dead workers; fails what no budget will pay
    limit_keeper   applies pauses and limits of requesters to pending rows
    pruner         deletes old final requests and feedback
    scorer         sends feedback to Langfuse, as scores
    hold_cleaner   deletes the holds of models that no daemon uses any more
    connections    reopens every connection that a result needs
    gauges         the metrics that are read from the table
    liveness       how ``draftd health`` finds this user's daemons and queries them
    systemd        READY, STATUS, WATCHDOG and STOPPING

Only the command line imports this package.
"""
