"""A scene of chaos: a database that is watched, a stand-in model server, daemons that come to harm, and a seed.

Owns what every scenario does alike: requests are enqueued, daemons started under names of their own (the name is on every
write of theirs), and each change of a row is recorded by a trigger. What counts as survival is ``verdict``'s matter.
"""

import os
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from psycopg.types.json import Jsonb

from draftd.stand_in.threaded import ThreadedStandIn
from fix_daemon import Client, Daemon, Fleet, environment, sample_url, wait_until

START_TIME_S = 120.0
"""Several daemons that start at once, each with two seconds of CPU before it, can take long on a small machine."""
SABOTEUR = Path(__file__).with_name("saboteur.py")
PARENT_RESULT = {"options": [{"length": "short", "angle": "thanks", "text": "Thank you, Friday it is."}]}
PARENT_READING = [{"author": "Ann", "text": "Do we ship on Friday?"}]

# Every update, renewals included, with the name of the connection that made it: a trigger sees what no log admits.
AUDIT = """
CREATE TABLE chaos_audit (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at float8 NOT NULL, by text NOT NULL, request_id uuid NOT NULL,
    was text NOT NULL, became text NOT NULL, attempt_was smallint NOT NULL, attempt smallint NOT NULL,
    lease_token bigint NOT NULL, code text, brings_result boolean NOT NULL
);
CREATE FUNCTION chaos_audit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO chaos_audit (at, by, request_id, was, became, attempt_was, attempt, lease_token, code, brings_result)
    VALUES (extract(epoch FROM clock_timestamp()), current_setting('application_name'), NEW.id, OLD.status, NEW.status,
            OLD.attempt, NEW.attempt, NEW.lease_token, NEW.error_code,
            NEW.result IS NOT NULL AND NEW.result IS DISTINCT FROM OLD.result);
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_audit AFTER UPDATE ON draft_requests FOR EACH ROW EXECUTE FUNCTION chaos_audit();
"""


@dataclass(frozen=True, slots=True)
class Form:
    """How thorough a run is: the short form is a part of every test run, the long one is ``make chaos``."""

    is_long: bool

    def pick(self, short: float, long: float) -> float:
        """Return the one or the other."""
        return long if self.is_long else short

    def count(self, short: int, long: int) -> int:
        """Return the one or the other."""
        return long if self.is_long else short

    def settings(self, **short: str) -> dict[str, str]:
        """Return settings that make a short run short; a long one has the defaults."""
        return {} if self.is_long else short


class Crew(Fleet):
    """Daemons, some of them sabotaged (see ``saboteur``)."""

    def start(
        self, env: Mapping[str, str], *arguments: str, wait: bool = True, sabotage: tuple[str, ...] = ()
    ) -> Daemon:
        """Start a daemon; with ``sabotage`` one that suffers so."""
        # A clock must be wrong before anything is imported.
        if not any(one.startswith("clock") for one in sabotage):
            return self.begin(self.forked(["run", *arguments], env, sabotage), wait=wait)
        # Whatever tree these tests are run on, its daemons are what comes to harm.
        path = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
        program = [str(SABOTEUR), ",".join(sabotage)] if sabotage else ["-m", "draftd"]
        return self.begin(self.executed([*program, "run", *arguments], {**env, **path}), wait=wait)


def started(daemon: Daemon) -> None:
    """Wait until a daemon can work."""
    daemon.wait_for('"started"', START_TIME_S)


@dataclass(kw_only=True)
class Scene:
    """What a scenario plays with."""

    name: str
    seed: int
    form: Form
    url: str
    owner_url: str
    stand_in: ThreadedStandIn
    crew: Crew
    client: Client
    rng: random.Random
    parent_id: str = ""
    request_ids: list[str] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)
    """Of every daemon here."""

    def start(
        self, name: str, *arguments: str, wait: bool = True, sabotage: tuple[str, ...] = (), **over: str
    ) -> Daemon:
        """Start a daemon under a name that all of its writes bear."""
        env = environment(named(self.url, name), self.stand_in, **(self.settings | over))
        return self.crew.start(env, *arguments, wait=wait, sabotage=sabotage)

    def enqueue(self, *contexts: str, **over: Any) -> list[str]:
        """Insert requests, a few with a picture and the others refinements, which cost no decoder."""
        made = []
        for context in contexts:
            content: dict[str, Any] = {"parent_id": self.parent_id, "image_urls": []}
            if self.rng.random() < 0.1:
                content = {"image_urls": [sample_url(self.stand_in)]}
            columns = {"context": context, **content, **over}
            names, values = ", ".join(columns), ", ".join(["%s"] * len(columns))
            statement = f"INSERT INTO draft_requests ({names}) VALUES ({values}) RETURNING id"
            (row,) = self.client.query(statement, *columns.values())
            made.append(str(row["id"]))
        self.request_ids += made
        return made

    def rows(self) -> list[dict[str, Any]]:
        """Return the requests of this scene as they stand."""
        return self.client.query("SELECT * FROM draft_requests WHERE id = ANY (%s::uuid[])", self.request_ids)

    def audit(self) -> list[dict[str, Any]]:
        """Return every update so far, oldest first."""
        return self.client.query("SELECT * FROM chaos_audit ORDER BY at, number")

    def count(self, condition: str = "true", *params: Any) -> int:
        """Count requests of this scene."""
        statement = f"SELECT count(*) AS n FROM draft_requests WHERE id = ANY (%s::uuid[]) AND {condition}"
        return int(self.client.query(statement, self.request_ids, *params)[0]["n"])

    def wait_until_settled(self, time_s: float) -> None:
        """Wait until every request is final."""
        wait_until(
            lambda: not self.count("status IN ('pending', 'processing')"),
            time_s,
            what=lambda: [
                {key: row[key] for key in ("id", "status", "context", "attempt", "errors", "lease_until")}
                for row in self.rows()
                if row["status"] in {"pending", "processing"}
            ],
        )

    def connections(self, condition: str, *params: Any) -> int:
        """Count connections to this scene's database."""
        statement = f"SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND {condition}"
        return len(self.client.query(statement, *params))

    def wait_until_its_reaper_may_take(self, name: str, lease_s: float) -> None:
        """Wait until a daemon's reaper has been connected for long enough to take back what others lost."""
        reaps = "application_name = %s AND query LIKE 'WITH RECURSIVE pass AS%%'"
        settled = f"{reaps} AND now() - backend_start > make_interval(secs => %s)"
        wait_until(lambda: self.connections(settled, name, lease_s) > 0, lease_s + 60)

    def reopen(self) -> None:
        """Connect anew, when the server was away."""
        self.client.connection.close()
        self.client = Client(self.owner_url)

    def last_end_after(self, moment: float) -> float:
        """Return the seconds from a moment (of ``time.time``) until the last request was final."""
        ends = [float(one["at"]) for one in self.audit() if one["became"] in FINAL]
        return max(0.0, max(ends) - moment)


FINAL = ("completed", "failed", "cancelled")


def named(url: str, name: str) -> str:
    """Return a database's URL whose connections bear a name."""
    return f"{url}{'&' if '?' in url else '?'}application_name={quote(name)}"


@contextmanager
def staged(
    *, name: str, seed: int, form: Form, url: str, owner_url: str, stand_in: ThreadedStandIn, crew: Crew
) -> Iterator[Scene]:
    """Set a scene in a migrated, empty database.

    Args:
        name: of the scenario.
        seed: of everything random in it.
        form: short or long.
        url: how the daemons reach the database.
        owner_url: how a superuser does, who enqueues and watches.
        stand_in: the model server.
        crew: the daemons.
    """
    client = Client(owner_url)
    (row,) = client.query(
        "INSERT INTO draft_requests (image_urls) VALUES (ARRAY['https://images.example/shot.png']) RETURNING id"
    )
    client.query(
        "UPDATE draft_requests SET status = 'completed', result = %s, reading = %s WHERE id = %s",
        Jsonb(PARENT_RESULT),
        Jsonb(PARENT_READING),
        row["id"],
    )
    client.query(AUDIT)
    scene = Scene(
        name=name,
        seed=seed,
        form=form,
        url=url,
        owner_url=owner_url,
        stand_in=stand_in,
        crew=crew,
        client=client,
        rng=random.Random(f"{name} {seed}"),  # noqa: S311 - chaos is to be repeatable, not secret
        parent_id=str(row["id"]),
    )
    try:
        yield scene
    finally:
        scene.client.connection.close()


def pause_until(moment: float) -> None:
    """Let time pass until a moment of ``time.monotonic``: for the length of a disturbance, never for its effect."""
    time.sleep(max(0.0, moment - time.monotonic()))
