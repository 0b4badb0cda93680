"""The queue: every statement that changes ``draft_requests``.

    claims           the claim loops' shared pump: one claim statement for all that wait
    admission        makes waiting rows of requesters with a limit claimable, right before a claim
    claiming         the claim statements, and what a lost connection had claimed
    settlements      processing → completed, failed or pending, fenced by the lease token
    leases           which rows this process holds, and the heartbeat's renewals
    reaping          requeues the rows of dead workers; fails requests that expired, that no agent takes or no budget pays
    attempts         what a running attempt reads and writes: its input, progress and usage
    admin            the operator's side: enqueue, show, list, cancel, retry, counts
    feedback         what became of drafts, and what of it is due as scores
    retention        deletes old final requests and old feedback
    limits           the limits of requesters, for the commands
    forgetting       deletes everything stored of one requester
    fleet_settings   the one row of draft_settings, which applies to all daemons
    outcome          the outcomes of an attempt, as values
    pictures         prepared pictures, kept for the next attempt
    wakeup           wakes the claim loops on NOTIFY
    group_commit     merges concurrent calls into one statement
    refused_rows     rows that the server refuses to change: execution in parts, blame, quarantine
    trials           whether the server accepts the same change of another row
    trial_outcomes   the example outcomes that trials write
    bounded_counter  counts per key, in bounded memory
    sql/             each module's statements, whole, with their invariants

Knows nothing of models, prompts or retry policy. Invariants: a row leaves ``processing`` only through a statement that matches
``id``, ``status = 'processing'`` and ``lease_token``, through the reaper on a lease or deadline that has expired (or that no
worker sets), or through a client's cancel. A row that the server refuses to change harms only itself, and no row is failed for
a refusal that may be the server's fault.
"""
