"""The tables behind the journal, as SQLAlchemy Core sees them; the migrations create them.

Moments that are compared (heartbeats, due times) are whole microseconds since 1970 UTC; `at` of an event is the
text that is part of its hash.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
)

metadata = MetaData()

_Number = BigInteger().with_variant(Integer, "sqlite")
"""SQLite counts up by itself only in a column declared INTEGER."""

events = Table(
    "events",
    metadata,
    # The order in which rows were written, so that verification does not have to believe `seq`.
    Column("id", _Number, primary_key=True, autoincrement=True),
    Column("incident", Text, nullable=False),
    Column("seq", _Number, nullable=False),
    Column("at", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("step", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("epoch", _Number, nullable=False),
    Column("actor", Text, nullable=False),
    Column("data", Text, nullable=False),
    Column("prev", Text, nullable=False),
    Column("hash", Text, nullable=False),
    UniqueConstraint("incident", "seq", name="events_incident_seq"),
    sqlite_autoincrement=True,
)

incidents = Table(
    "incidents",
    metadata,
    Column("id", Text, primary_key=True),
    Column("year", Integer, nullable=False),
    Column("serial", Integer, nullable=False),
    Column("number", Text, nullable=False),
    Column("closed", Boolean, nullable=False, server_default=false()),
    Column("body", Text, nullable=False),
    UniqueConstraint("year", "serial", name="incidents_year_serial"),
    UniqueConstraint("number", name="incidents_number"),
    Index("incidents_closed", "closed", "year", "serial"),
)

messages = Table(
    "messages",
    metadata,
    Column("source", Text, primary_key=True),
    Column("message_id", Text, primary_key=True),
    Column("body_sha256", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("received_at", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("response", Text, nullable=False),
)

alerts = Table(
    "alerts",
    metadata,
    Column("position", _Number, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("incident", Text),
    Column("duplicate_of", Text),
    Column("body", Text, nullable=False),
    UniqueConstraint("id", name="alerts_id"),
    Index("alerts_fingerprint", "source", "fingerprint", "position"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("position", _Number, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created_us", _Number, nullable=False),
    Column("due_us", _Number, nullable=False),
    Column("leased_until_us", _Number, nullable=False),
    Column("owner", Text, nullable=False),
    Column("error", Text, nullable=False),
    UniqueConstraint("id", name="outbox_id"),
    Index("outbox_due", "kind", "due_us"),
)

claims = Table(
    "claims",
    metadata,
    Column("incident", Text, primary_key=True),
    Column("step", Text, primary_key=True),
    Column("epoch", _Number, nullable=False),
    # Empty when the claim was given back. The row stays: its epoch is used for good.
    Column("owner", Text, nullable=False),
    Column("heartbeat_us", _Number, nullable=False),
    Index("claims_epoch", "epoch"),
    Index("claims_owner", "owner"),
)

runs = Table(
    "runs",
    metadata,
    Column("position", _Number, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False),
    Column("incident", Text, nullable=False),
    Column("phase", Text, nullable=False),
    Column("executor", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("started_us", _Number, nullable=False),
    Column("heartbeat_us", _Number, nullable=False),
    Column("ended_us", _Number),
    UniqueConstraint("id", name="runs_id"),
    Index("runs_phase", "incident", "phase"),
    Index("runs_owner", "owner"),
)

leaders = Table(
    "leaders",
    metadata,
    Column("role", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("until_us", _Number, nullable=False),
)

writers = Table(
    "writers",
    metadata,
    # One row per writing process: the number of its last committed batch. It answers, after a connection broke
    # during COMMIT, whether that commit happened.
    Column("id", Text, primary_key=True),
    Column("batch", _Number, nullable=False),
    Column("seen_us", _Number, nullable=False),
)
