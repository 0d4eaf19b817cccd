"""The journal in a database: SQLite for one machine, PostgreSQL for several."""

from irflow.adapters.journal_sql.store import SqlStore, open_store

__all__ = ["SqlStore", "open_store"]
