"""The first schema: the journal, what is looked up beside it, claims and the outbox."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

Number = sa.BigInteger().with_variant(sa.Integer, "sqlite")

SQLITE_APPEND_ONLY = [
    f"CREATE TRIGGER {name} BEFORE {when} BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END"
    for name, when in (
        ("events_no_update", "UPDATE ON events"),
        ("events_no_delete", "DELETE ON events"),
        # INSERT OR REPLACE deletes without firing delete triggers.
        ("events_no_replace", "INSERT ON events WHEN EXISTS (SELECT 1 FROM events WHERE id = NEW.id)"),
        (
            "events_no_second",
            "INSERT ON events WHEN EXISTS (SELECT 1 FROM events WHERE incident = NEW.incident AND seq = NEW.seq)",
        ),
    )
]
POSTGRESQL_APPEND_ONLY = [
    """
    CREATE FUNCTION events_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'the journal is append-only' USING ERRCODE = 'integrity_constraint_violation';
    END $$
    """,
    """
    CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION events_append_only()
    """,
]


def text(name: str, **more: Any) -> sa.Column[str]:
    """A text column that is never null unless said otherwise."""
    return sa.Column(name, sa.Text, **{"nullable": False, **more})


def number(name: str, **more: Any) -> sa.Column[int]:
    """A 64-bit column that is never null unless said otherwise."""
    return sa.Column(name, Number, **{"nullable": False, **more})


def upgrade() -> None:
    """Create everything."""
    _journal()
    _intake()
    _work()
    sqlite = op.get_bind().dialect.name == "sqlite"
    for statement in SQLITE_APPEND_ONLY if sqlite else POSTGRESQL_APPEND_ONLY:
        op.execute(statement)


def _journal() -> None:
    op.create_table(
        "events", number("id", primary_key=True, autoincrement=True), text("incident"), number("seq"), text("at"),
        text("kind"), text("step"), text("target"), number("epoch"), text("actor"), text("data"), text("prev"),
        text("hash"), sa.UniqueConstraint("incident", "seq", name="events_incident_seq"), sqlite_autoincrement=True,
    )  # fmt: skip
    op.create_table(
        "incidents", text("id", primary_key=True), sa.Column("year", sa.Integer, nullable=False),
        sa.Column("serial", sa.Integer, nullable=False), text("number"),
        sa.Column("closed", sa.Boolean, nullable=False, server_default=sa.false()), text("body"),
        sa.UniqueConstraint("year", "serial", name="incidents_year_serial"),
        sa.UniqueConstraint("number", name="incidents_number"),
    )  # fmt: skip
    op.create_index("incidents_closed", "incidents", ["closed", "year", "serial"])


def _intake() -> None:
    op.create_table(
        "messages", text("source", primary_key=True), text("message_id", primary_key=True), text("body_sha256"),
        sa.Column("body", sa.LargeBinary, nullable=False), text("received_at"), text("outcome"), text("response"),
    )  # fmt: skip
    op.create_table(
        "alerts", number("position", primary_key=True, autoincrement=True), text("id"), text("source"),
        text("fingerprint"), text("status"), text("incident", nullable=True), text("duplicate_of", nullable=True),
        text("body"), sa.UniqueConstraint("id", name="alerts_id"),
    )  # fmt: skip
    op.create_index("alerts_fingerprint", "alerts", ["source", "fingerprint", "position"])


def _work() -> None:
    op.create_table(
        "outbox", number("position", primary_key=True, autoincrement=True), text("id"), text("kind"), text("payload"),
        sa.Column("attempts", sa.Integer, nullable=False), number("created_us"), number("due_us"),
        number("leased_until_us"), text("owner"), text("error"), sa.UniqueConstraint("id", name="outbox_id"),
    )  # fmt: skip
    op.create_index("outbox_due", "outbox", ["kind", "due_us"])
    op.create_table(
        "claims", text("incident", primary_key=True), text("step", primary_key=True), number("epoch"), text("owner"),
        number("heartbeat_us"),
    )  # fmt: skip
    op.create_index("claims_epoch", "claims", ["epoch"])
    op.create_index("claims_owner", "claims", ["owner"])
    op.create_table(
        "runs", number("position", primary_key=True, autoincrement=True), text("id"), text("incident"), text("phase"),
        text("executor"), text("owner"), number("started_us"), number("heartbeat_us"),
        number("ended_us", nullable=True), sa.UniqueConstraint("id", name="runs_id"),
    )  # fmt: skip
    op.create_index("runs_phase", "runs", ["incident", "phase"])
    op.create_index("runs_owner", "runs", ["owner"])
    op.create_table("leaders", text("role", primary_key=True), text("owner"), number("until_us"))
    op.create_table("writers", text("id", primary_key=True), number("batch"), number("seen_us"))
