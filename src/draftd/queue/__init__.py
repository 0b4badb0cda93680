"""The queue: every statement that changes ``draft_requests``, and the rules that make it one.

    claims          pending → processing, for all claim loops of a process in one statement
    claiming        the claim itself, and what a lost connection claimed
    settlements     processing → completed, failed or pending, fenced
    leases          what this process holds, and the heartbeat's renewals
    reaping         takes back the rows of dead workers, ends what nobody will draft
    attempts        what a running attempt reads and writes: its input, progress, usage
    admin           what people do: enqueue, show, list, cancel, retry, counts
    retention       deletes old final requests and old feedback
    fleet_settings  what all daemons go by: the one row of draft_settings
    outcome         what came of an attempt, as values
    pictures        prepared pictures, kept for the next attempt
    wakeup          the bell that wakes the claim loops, and the listener that rings it
    group_commit    many callers, one statement in flight
    isolation       a row that the server refuses to change: done without it, ended or set aside
    examples        invented outcomes, for trials
    trials          whether the server accepts the same change of another row
    remembered      a bounded memory of keys
    sql/            the statements of each module, whole, with their invariants

Owns no model, no picture's bytes and no retry policy. Invariants: a row leaves ``processing`` only by a statement that matches
``id``, ``status = 'processing'`` and ``lease_token``, by the reaper on a lease or deadline that has passed or that no worker
sets, or by a client's cancel. A row that the server refuses to change harms only itself, and no row is ended for a refusal that
may be the server's fault.
"""
