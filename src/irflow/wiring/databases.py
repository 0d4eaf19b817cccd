"""The databases in which roles can be closed."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from irflow.adapters.postgresql_access import PostgresqlDatabases, Way
from irflow.adapters.postgresql_login import Server
from irflow.core.secret import SecretRef
from irflow.wiring import Configuration
from irflow.wiring.secrets import secret_store


def databases(config: Configuration) -> PostgresqlDatabases:
    """Those of irflow.yaml. Nothing is connected before the first use."""
    settings = config.settings
    ways = {
        name: Way(
            Server(host=one.host, port=one.port, database=one.database, tls=one.tls, ca=str(one.ca or "")),
            one.user,
            SecretRef.parse(one.password),
        )
        for name, one in settings.databases.items()
    }
    return PostgresqlDatabases(ways, secret_store(settings), _own(config))


def _own(config: Configuration) -> frozenset[str]:
    """Roles that irflow logs in as: at its journal, at these databases, and to replace others' passwords."""
    settings = config.settings
    admins = {str(one.target["admin"]) for one in config.secrets.secrets.values() if "admin" in one.target}
    journal = unquote(urlsplit(settings.journal_url).username or "")
    return frozenset({*admins, *(one.user for one in settings.databases.values()), journal} - {""})
