"""draftd with every budget, limit, pause and ceiling in use, none of which binds: what checking them costs.

The drafter makes no model call, and so no reservation: what is measured are inserts, admissions, claims and settlements.
"""

import psycopg

from benchmarks.queue.contenders.draftd import IMAGE_URL, MODEL, Draftd

PAUSED = "paused"
PAUSED_ROWS = 1000
SETTINGS = f"""
INSERT INTO draft_settings (usd_per_day) VALUES (100000)
    ON CONFLICT (id) DO UPDATE SET usd_per_day = excluded.usd_per_day;
INSERT INTO draft_models (name, input_usd_per_mtok, output_usd_per_mtok, rpm, tpm, max_in_flight)
    VALUES ('{MODEL}', 1, 1, 1000000, 2000000000, 100000);
INSERT INTO draft_limits (requester_id, max_pending, max_in_flight, usd_per_day)
    VALUES ('*', 1000000, 100000, 10000), ('one', 1000, 10, 1);
INSERT INTO draft_requests (requester_id, image_urls)
    SELECT '{PAUSED}', ARRAY['{IMAGE_URL}'] FROM generate_series(1, {PAUSED_ROWS});
INSERT INTO draft_pauses (what, name) VALUES ('requester', '{PAUSED}'), ('model', 'another');
"""


class EverythingSet(Draftd):
    """The daemon, with all that can be set."""

    name = "everything_set"
    terms = (
        f"draftd with a fleet budget, a price and ceilings for the model, limits for everybody and for one, a paused requester "
        f"with {PAUSED_ROWS:,} rows, a paused model; nothing binds"
    )
    is_queue = False
    unfinished = """SELECT EXISTS (SELECT FROM draft_requests WHERE status = 'pending' AND requester_id = '')
                        OR EXISTS (SELECT FROM draft_requests WHERE status = 'processing')"""

    async def set_up(self, url: str) -> None:
        """Migrate the empty database, and set everything."""
        await super().set_up(url)
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute(SETTINGS)


CONTENDER = EverythingSet()
