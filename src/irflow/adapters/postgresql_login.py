"""Log-ins to PostgreSQL: of those who change it, and of those who try what they have stolen."""

from __future__ import annotations

import re
import secrets

import psycopg
from pydantic import Field

from irflow.core.errors import OutcomeUnknown
from irflow.core.model import Noun
from irflow.core.secret import SecretValue

_CONNECT_S = 5
# How libpq passes on what the server says: its word for FATAL, a colon, two blanks. A network that is cut would
# otherwise answer every password alike, and so look like a server that refuses.
_FROM_SERVER = re.compile(r"\S:  \S")


class Server(Noun):
    """host: name, address or socket folder. database: one that all who log in may connect to.

    tls: libpq's sslmode; ca: certificate of the server's authority.
    """

    host: str
    port: int = Field(default=5432, ge=1, le=65535)
    database: str = "postgres"
    tls: str = Field(default="prefer", pattern=r"^(disable|prefer|require|verify-ca|verify-full)$")
    ca: str = ""


def connect(server: Server, user: str, password: SecretValue) -> psycopg.Connection:
    """A connection that commits by itself. Raises psycopg.OperationalError."""
    return psycopg.connect(
        host=server.host, port=server.port, dbname=server.database, user=user, password=password.reveal().decode(),
        sslmode=server.tls, sslrootcert=server.ca or None, connect_timeout=_CONNECT_S, autocommit=True,
        application_name="irflow", passfile="/dev/null",
        keepalives_idle=5, keepalives_interval=3, keepalives_count=3, tcp_user_timeout=15000,
    )  # fmt: skip


def admits(server: Server, user: str, value: SecretValue) -> bool:
    """Log in with it. What is refused like a value that nobody knows is refused.

    Raises OutcomeUnknown on everything else, which decides nothing.
    """
    said = _try(server, user, value)
    if said is None or "password authentication failed" in said:
        return said is None
    unknown = SecretValue(secrets.token_hex(20).encode())
    if _FROM_SERVER.search(said) and said == _try(server, user, unknown):  # it may not speak English
        return False
    where = f"postgresql:{server.host}:{server.port}/{user}"
    raise OutcomeUnknown(f"the login neither worked nor failed: {said}", where=where)


def _try(server: Server, user: str, value: SecretValue) -> str | None:
    """None when it gets in, else the last line of what the server says."""
    try:
        connect(server, user, value).close()
    except psycopg.OperationalError as error:
        return str(error).strip().splitlines()[-1]
    return None
