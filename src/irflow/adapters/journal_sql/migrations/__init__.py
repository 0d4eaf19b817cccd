"""The schema's history, run by alembic when a database is opened."""
