"""Stores to test: SQLite and a real PostgreSQL."""

from tests.services.stores import opened, postgres, store, url

__all__ = ["opened", "postgres", "store", "url"]
