"""The journal in a database: SQLite for one machine, PostgreSQL for several."""

from irflow.adapters.journal_sql.news import hearing
from irflow.adapters.journal_sql.store import SqlStore, open_store
from irflow.adapters.journal_sql.verification import verify_all, verify_incident

__all__ = ["SqlStore", "hearing", "open_store", "verify_all", "verify_incident"]
