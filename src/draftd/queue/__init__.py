"""The queue: every statement that changes ``draft_requests``, and the rules that make it one.

    group_commit    many callers, one statement in flight
    claims          pending → processing, for all claim loops of a process at once
    claiming        the statements of a claim
    settlements     processing → completed, failed or pending, fenced
    leases          who holds what, and the heartbeat's renewals
    reaping         what the reaper takes back from the dead, and ends when nobody will draft it
    attempts        what a running attempt reads and writes: its input, its progress, its usage
    admin           what people do: enqueue, show, list, cancel, retry, counts
    retention       deletes old final rows
    examples        invented outcomes, tried on other rows
    fleet_settings  what all daemons go by: the row of draft_settings
    isolation       what the server refuses for one row: done without it, judged, ended or set aside; for all of the above
    trials          whether a change that was refused of one row is accepted of another
    remembered      a bounded memory of rows that were refused
    outcome         what came of an attempt, as values
    pictures        prepared pictures kept for the next attempt
    wakeup          the bell that wakes the claim loops, and the listener that rings it

Invariants: a row leaves ``processing`` only by a statement that matches ``id``, ``status = 'processing'`` and ``lease_token``,
by the reaper on an expired or impossible lease and deadline, or by a client's cancel. A row that the server refuses to change
harms only itself, and nothing is thrown away for a refusal that may be the server's.
"""
