"""Reservations: every model call that a budget or a ceiling applies to is reserved before it is made.

Owns the statements around ``draft_reservations``, and how long an attempt waits for room. The rules are functions of the
database. A trigger on ``draft_usage`` settles a reservation when the call's usage is written; the bookkeeper charges those of
dead workers. Invariants: while nothing is set, no statement is sent. What was reserved for a call that is not made is given back.
"""

import asyncio
import random
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import structlog

from draftd import db
from draftd.db.sqlstate import is_schema_mismatch, told_to_log
from draftd.db.statements import statements
from draftd.errors import BudgetExceeded, LeaseLost, ModelMisconfigured, NoRoomNow
from draftd.providers.estimate import Estimate
from draftd.sanitize import storable

log = structlog.get_logger(__name__)

_SQL = statements(__name__)
RESERVE, RELEASE, CHARGE_LOST = _SQL["reserve"], _SQL["release"], _SQL["charge_lost"]
READ_BUDGETS, LIST_SPENDING, LIST_CEILINGS = _SQL["read_budgets"], _SQL["list_spending"], _SQL["list_ceilings"]

ASK_AGAIN_S = (0.05, 0.15)
"""How soon an attempt asks again whether there is room: a freed slot must be used soon, and few attempts wait at a time."""
SHORTEST_DELAY_S = 1.0
"""How long a row that found no room stays away at least."""
REFUSED_DELAY_S = 30.0
"""How long a row stays away if the server refuses the reservation itself."""
OVERTIME_S = 30.0
"""How much longer than its time limit a call may take until its usage has been written."""
NEARLY_USED = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCall(Estimate):
    """A model call before it is made: whose it is, and what it can use."""

    request_id: UUID
    requester_id: str
    lease_token: int
    call: int
    """The number of the call within this claim, from 1."""
    model: str
    send: int = 1
    """Which HTTP request of the call, from 1; all but the first count against the requests per minute only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """What a heartbeat reads of the fleet's budgets."""

    fleet_usd: Decimal | None = None
    """The fleet's budget per day; None without one."""
    fleet_spent_usd: Decimal = Decimal(0)
    fleet_reserved_usd: Decimal = Decimal(0)
    fleet_is_used_up: bool = False
    """Whether nothing that costs anything may begin until the next day."""
    have_requesters: bool = False
    """Whether any requester has a budget."""
    have_reservations: bool = False
    """Whether any call is reserved, or was lately."""

    @classmethod
    def of(cls, read: Mapping[str, Any]) -> "Budgets":
        """Return what the heartbeat's ``budgets`` says."""
        usd = read["usd_per_day"]
        return cls(
            fleet_usd=None if usd is None else Decimal(str(usd)),
            fleet_spent_usd=Decimal(str(read["spent"] or 0)),
            fleet_reserved_usd=Decimal(str(read["reserved"] or 0)),
            fleet_is_used_up=bool(read["is_used_up"]),
            have_requesters=bool(read["have_requesters"]),
            have_reservations=bool(read["have_reservations"]),
        )

    @property
    def are_any(self) -> bool:
        """Whether any budget is set."""
        return self.fleet_usd is not None or self.have_requesters

    @property
    def fleet_used(self) -> float | None:
        """The share of the fleet's budget that is spent; None without a budget."""
        if self.fleet_usd is None:
            return None
        return float(self.fleet_spent_usd / self.fleet_usd) if self.fleet_usd else 1.0


NO_BUDGETS = Budgets()


def unpriced_advice(model: str) -> str:
    """Return what is wrong with a model without a price, and how to set one."""
    return (
        "a budget is set, and the price of this model is not known; set it with "
        f"`draftd models set {model} --input-usd USD --output-usd USD`"
    )


@dataclass(slots=True)
class _Warned:
    """Whose budgets this process has warned of today."""

    day: date | None = None
    payers: set[str | None] = field(default_factory=set)

    def is_first(self, payer: str | None) -> bool:
        today = datetime.now(UTC).date()
        if today != self.day:
            self.day, self.payers = today, set()
        is_first = payer not in self.payers
        self.payers.add(payer)
        return is_first


class Reservations:
    """Reserves what model calls may use.

    Args:
        link: the connection to ask on; nothing urgent may wait behind it.
        worker_id: this process.
    """

    def __init__(self, *, link: db.Link, worker_id: UUID) -> None:
        self._link = link
        self._worker_id = worker_id
        self._releases: set[asyncio.Task[Any]] = set()
        self._warned = _Warned()
        self.budgets = NO_BUDGETS
        """As the last heartbeat read them."""

    def update(self, budgets: Budgets) -> bool:
        """Take over what a heartbeat read; return whether the fleet's budget has room again.

        Warns once a day when most of the budget is spent.
        """
        has_room_again = self.budgets.fleet_is_used_up and not budgets.fleet_is_used_up
        self.budgets = budgets
        used = budgets.fleet_used
        if used is not None and used >= NEARLY_USED and self._warned.is_first(None):
            log.warning(
                "budget nearly used",
                used=f"{used:.0%}",
                spent_usd=str(budgets.fleet_spent_usd),
                usd_per_day=str(budgets.fleet_usd),
            )
        return has_room_again

    def is_needed(self, *, has_ceilings: bool) -> bool:
        """Return whether a call to a model needs a reservation.

        Args:
            has_ceilings: whether the model has any.
        """
        return has_ceilings or self.budgets.are_any

    async def reserve(self, planned: PlannedCall, *, time_s: float, wait_s: float) -> None:
        """Wait until a call may be made, and reserve what it may use; its usage settles that.

        Args:
            planned: the call.
            time_s: the call's own time limit, in seconds.
            wait_s: how long to wait for room, in seconds.

        Raises:
            BudgetExceeded: what is left of the day's budget does not hold the call.
            NoRoomNow: calls in flight or a ceiling of the model leave no room for it in time.
            ModelMisconfigured: a budget is set, and the model's price is not known.
            LeaseLost: the claim no longer holds the row.
        """
        ends_at = time.monotonic() + wait_s
        while (room_in_s := await self._try(planned, time_s, at_most_s=ends_at - time.monotonic())) is not None:
            left_s = ends_at - time.monotonic()
            if room_in_s > left_s or left_s <= 0:
                raise NoRoomNow(model=planned.model, retry_after_s=max(SHORTEST_DELAY_S, room_in_s))
            again_s = random.uniform(*ASK_AGAIN_S)  # noqa: S311 - keeps those who wait from asking together
            await asyncio.sleep(min(left_s, max(room_in_s, again_s)))

    async def resend(self, planned: PlannedCall, send: int, *, time_s: float) -> None:
        """Wait until a call may be sent once more, in another form; see ``reserve``."""
        await self.reserve(replace(planned, send=send, usd=Decimal(0)), time_s=time_s, wait_s=time_s)

    async def release(self, planned: PlannedCall) -> None:
        """Give back what was reserved for a call that is not made."""
        try:
            await self._link.run_until_done(RELEASE, storable(asdict(planned)), retry_refusals=True)
        except psycopg.Error as error:
            log.warning("reservation not released", sqlstate=error.sqlstate, error=told_to_log(error))

    def releases(self) -> set[asyncio.Task[Any]]:
        """Return what is being given back for calls that were aborted before they were made."""
        return set(self._releases)

    async def _try(self, planned: PlannedCall, time_s: float, *, at_most_s: float) -> float | None:
        """Ask once; return None if the call may be made, else after how many seconds there may be room."""
        params = storable(asdict(planned)) | {"worker_id": self._worker_id, "time_s": time_s + OVERTIME_S}
        asking = asyncio.create_task(self._link.run_until_done(RESERVE, params), name="reserve")
        try:
            # The statement goes on when the attempt is aborted, so that it is known what to give back.
            async with asyncio.timeout(max(1.0, at_most_s)):
                (row,) = await asyncio.shield(asking)
        except TimeoutError:
            self._release_later(planned, asking)
            raise NoRoomNow(
                "the database did not answer in time", model=planned.model, retry_after_s=SHORTEST_DELAY_S
            ) from None
        except asyncio.CancelledError:
            self._release_later(planned, asking)
            raise
        except psycopg.Error as error:
            if is_schema_mismatch(error):
                raise
            log.error("reservation refused", sqlstate=error.sqlstate, error=told_to_log(error))  # noqa: TRY400 - not a bug in draftd
            raise NoRoomNow(
                "the database refused the reservation", model=planned.model, retry_after_s=REFUSED_DELAY_S
            ) from error
        if row["refusal"] == "fleet_budget":
            await self._refresh()
        if row["used"] is not None and row["used"] >= NEARLY_USED and self._warned.is_first(planned.requester_id):
            log.warning("budget nearly used", used=f"{row['used']:.0%}", request_id=planned.request_id)
        return self._read(row, planned)

    async def _refresh(self) -> None:
        """Read the budgets at once, so that nothing more is claimed for one that is used up."""
        with suppress(*db.LOST, psycopg.Error):
            (row,) = await self._link.run(READ_BUDGETS)
            self.update(Budgets.of(row["budgets"]))

    def _read(self, row: db.Row, planned: PlannedCall) -> float | None:
        match row["refusal"]:
            case None:
                return None
            case "lost":
                raise LeaseLost
            case "price":
                raise ModelMisconfigured(f"{planned.model}: {unpriced_advice(planned.model)}", model=planned.model)
            case "fleet_budget" | "requester_budget" as refusal:
                whose = "the fleet's" if refusal == "fleet_budget" else "the requester's"
                raise BudgetExceeded(
                    f"{planned.model}: what is left of {whose} budget for today does not hold a call of up to "
                    f"{planned.usd:.4f} USD",
                    model=planned.model,
                    retry_after_s=row["wait_s"],
                )
            case _:
                return float(row["wait_s"] or 0.0)

    def _release_later(self, planned: PlannedCall, asking: "asyncio.Task[Any]") -> None:
        async def release() -> None:
            try:
                await asking
            except psycopg.Error:
                return  # nothing was reserved
            # Before a later one, the first HTTP request of the call has been made: what it reserved is settled by its usage.
            if planned.send == 1:
                await self.release(planned)

        task = asyncio.create_task(release(), name="release")
        self._releases.add(task)
        task.add_done_callback(self._releases.discard)


async def charge_lost(link: db.Link, lease_s: float) -> int:
    """Charge the calls of dead workers; return how many.

    Args:
        link: nothing is charged until it has been up for one lease.
        lease_s: how long a lease lasts.
    """
    (row,) = await link.run(CHARGE_LOST, {"lease_s": lease_s})
    charged: int = row["charged"]
    return charged
