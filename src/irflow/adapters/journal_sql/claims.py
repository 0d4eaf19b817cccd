"""Who works on what: claims on steps, runs of phases, leaders of roles; all kept alive by heartbeats."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, func, insert, select, update

from irflow.adapters.journal_sql.database import to_us
from irflow.adapters.journal_sql.rows import run_of
from irflow.adapters.journal_sql.tables import claims, leaders, runs
from irflow.core.errors import ClaimLost
from irflow.core.ports import Claim, Run

# Built once: building a statement costs more than running it.
_HOLDER = select(claims.c.owner, claims.c.epoch, claims.c.heartbeat_us).where(
    claims.c.incident == bindparam("incident"), claims.c.step == bindparam("step")
)
_HIGHEST = select(func.max(claims.c.epoch))
_PLACE = (claims.c.incident == bindparam("at_incident")) & (claims.c.step == bindparam("at_step"))
_TOUCH = update(claims).where(_PLACE).values(heartbeat_us=bindparam("now"))
_FIRST = insert(claims)
_NEXT = (
    update(claims)
    .where(_PLACE)
    .values(epoch=bindparam("new_epoch"), owner=bindparam("new_owner"), heartbeat_us=bindparam("now"))
)
_GIVE_BACK = (
    update(claims)
    .where(_PLACE, claims.c.owner == bindparam("at_owner"), claims.c.epoch == bindparam("at_epoch"))
    .values(owner="")
)


def claim(
    connection: Connection, incident: str, step: str, owner: str, stale_s: float, now_us: int
) -> tuple[Claim, bool] | None:
    """(claim, whether its epoch is new), or None where a live owner has it. Needs the write lock."""
    row = connection.execute(_HOLDER, {"incident": incident, "step": step}).first()
    place = {"at_incident": incident, "at_step": step}
    if row is not None and row.owner == owner:
        connection.execute(_TOUCH, {**place, "now": now_us})
        return Claim(incident, step, owner, row.epoch), False
    if row is not None and row.owner and now_us - row.heartbeat_us < stale_s * 1e6:
        return None
    epoch = max((connection.execute(_HIGHEST).scalar() or 0) + 1, now_us // 1000)
    if row is None:
        first = {"incident": incident, "step": step, "epoch": epoch, "owner": owner, "heartbeat_us": now_us}
        connection.execute(_FIRST, first)
    else:
        connection.execute(_NEXT, {**place, "new_epoch": epoch, "new_owner": owner, "now": now_us})
    return Claim(incident, step, owner, epoch), True


def check(connection: Connection, mine: Claim) -> None:
    """Raise ClaimLost unless the claim is the one in force."""
    row = connection.execute(_HOLDER, {"incident": mine.incident, "step": mine.step}).first()
    if row is None or row.owner != mine.owner or row.epoch != mine.epoch:
        now = "nobody" if row is None or not row.owner else f"{row.owner} (epoch {row.epoch})"
        raise ClaimLost(
            f"{mine.owner} (epoch {mine.epoch}) does not hold {mine.step} any more: {now} does",
            where=mine.incident,
            hint="Nothing was written; whoever holds it goes on",
        )


def release(connection: Connection, mine: Claim) -> bool:
    """Give a claim back if it is still in force. Whether it was."""
    mine_only = {
        "at_incident": mine.incident, "at_step": mine.step, "at_owner": mine.owner, "at_epoch": mine.epoch,
    }  # fmt: skip
    changed = connection.execute(_GIVE_BACK, mine_only)
    return changed.rowcount > 0


def heartbeat(connection: Connection, owner: str, now_us: int) -> None:
    """Refresh all claims and running runs of an owner."""
    connection.execute(update(claims).where(claims.c.owner == owner).values(heartbeat_us=now_us))
    connection.execute(update(runs).where(runs.c.owner == owner, runs.c.ended_us.is_(None)).values(heartbeat_us=now_us))


def begin_run(connection: Connection, run: Run, now_us: int) -> None:
    """Record a run; one that is known goes on under its new owner."""
    values = {"owner": run.owner, "executor": run.executor, "heartbeat_us": now_us, "ended_us": None}
    if connection.execute(update(runs).where(runs.c.id == run.id).values(**values)).rowcount == 0:
        started = {"id": run.id, "incident": run.incident, "phase": run.phase, "started_us": to_us(run.started_at)}
        connection.execute(insert(runs), {**started, **values})


def end_run(connection: Connection, run_id: str, now_us: int) -> None:
    """Record that a run is over; the first end counts."""
    connection.execute(update(runs).where(runs.c.id == run_id, runs.c.ended_us.is_(None)).values(ended_us=now_us))


def runs_of(connection: Connection, incident: str, phase: str) -> list[Run]:
    """All runs of a phase, oldest first."""
    query = select(runs).where(runs.c.incident == incident, runs.c.phase == phase).order_by(runs.c.position)
    return [run_of(row) for row in connection.execute(query).mappings()]


def led_by_other(connection: Connection, role: str, owner: str, now_us: int) -> bool:
    """Whether somebody else leads a role right now."""
    row = connection.execute(select(leaders).where(leaders.c.role == role)).first()
    return row is not None and row.owner != owner and row.until_us > now_us


def lead(connection: Connection, role: str, owner: str, now_us: int, ttl_s: float) -> bool:
    """Become or stay the leader, unless somebody else is. Needs the write lock."""
    if led_by_other(connection, role, owner, now_us):
        return False
    values = {"owner": owner, "until_us": now_us + round(ttl_s * 1e6)}
    if connection.execute(update(leaders).where(leaders.c.role == role).values(**values)).rowcount == 0:
        connection.execute(insert(leaders), {"role": role, **values})
    return True
