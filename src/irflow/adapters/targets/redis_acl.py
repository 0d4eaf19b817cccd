"""The password of a Redis ACL user. A user has as many as one likes, so the old one works until the new one is live.

Each change is one transaction that also notes the version of the document it follows, so that whoever was overtaken
changes nothing; and each is saved: Redis forgets ACL changes at a restart, and would take the old password again. The
note is a key as any other: a server that keeps no data, or evicts keys, forgets it; then the document alone decides.

Redis copies data to replicas and users not, so each replica is changed by itself. The note is the primary's.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import redis
from pydantic import Field
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.retry import Retry

from irflow.core.errors import ConfigurationError, OutcomeUnknown, ServiceMissing
from irflow.core.model import Noun
from irflow.core.reference import Reference
from irflow.core.rotation import Document, Overtaken, SecretBusy, StillAccepted, TargetRefused, Writer
from irflow.core.rotation_means import Means
from irflow.core.secret import SecretRef, SecretStore, SecretValue

KIND = "redis"
_TIMEOUT_S = 5
_ALPHABET = string.ascii_letters + string.digits
_HASHED = re.compile(r"[#!][0-9a-f]{8,64}")


class Params(Noun):
    """user: whose password it is. tls; ca: certificate of the server's authority.

    replicas: `host:port` of each replica of the server, where the same user and admin exist.
    admin, admin_secret: who may change it: +acl +client +config|rewrite +info +multi +exec +watch, +get and +set on
    ~irflow:*.
    """

    host: str
    port: int = Field(default=6379, ge=1, le=65535)
    user: str = Field(min_length=1, max_length=128, pattern=r"^[^\s\x00]+$")
    admin: str = "default"
    admin_secret: Reference
    tls: bool = False
    ca: str = ""
    replicas: tuple[Annotated[str, Field(pattern=r"^[^\s\x00]+:[0-9]{1,5}$")], ...] = ()


def open_target(params: Params, means: Means) -> AclUser:
    """The target that the parameters name. Nothing is connected yet."""
    return AclUser(params, means.secrets)


@dataclass(frozen=True)
class AclUser:
    """core.rotation.Target."""

    params: Params
    store: SecretStore
    overlap: bool = True
    asks: bool = True

    def new_value(self) -> SecretValue:
        """40 letters and digits, 238 bits."""
        return SecretValue("".join(secrets.choice(_ALPHABET) for _ in range(40)).encode())

    @contextmanager
    def fence(self) -> Iterator[Writer]:
        """Nothing is held: each change is a transaction of its own, and refuses a version smaller than the last.

        Raises ConfigurationError for a replica, and for replicas that are not named: the old value would work there.
        """
        password = self.store.resolve(SecretRef.parse(self.params.admin_secret))
        with ExitStack() as stack:
            servers = {where: stack.enter_context(self._client(where, self.params.admin, password))
                       for where in (self._primary, *self.params.replicas)}  # fmt: skip
            about = {where: self._replication(where, client) for where, client in servers.items()}
            if about[self._primary]["role"] != "master":
                raise ConfigurationError("this is a replica", where=self._where(), hint="Name the primary as host")
            if (count := int(about[self._primary]["connected_slaves"])) > len(self.params.replicas):
                raise ConfigurationError(
                    f"{count} replicas, and {len(self.params.replicas)} are named", where=self._where(),
                    hint="Name all under replicas: each has its own users, and would go on taking the old value",
                )  # fmt: skip
            primary = servers.pop(self._primary)
            yield _AclWriter(self, primary, servers)

    def _replication(self, where: str, client: redis.Redis) -> dict[str, Any]:
        try:
            return client.info("replication")
        except redis.exceptions.RedisError as error:
            raise ServiceMissing(
                f"no connection as {self.params.admin}: {_words(error)}", where=self._where(where),
                hint="Is it running, and may the admin log in?",
            ) from None  # fmt: skip

    def admits(self, value: SecretValue) -> bool:
        """Log in at the primary. Where any value gets in, that proves nothing and is unknown."""
        return self.gets_in(self._primary, value)

    def gets_in(self, where: str, value: SecretValue) -> bool:
        """Whether the server at `host:port` lets the user in with it. Raises OutcomeUnknown."""
        if not self._tried(where, value):
            return False
        if self._tried(where, self.new_value()):
            raise OutcomeUnknown(
                f"{self.params.user} gets in with any password", where=self._where(where),
                hint="Take `nopass` from the user",
            )  # fmt: skip
        return True

    def _tried(self, where: str, value: SecretValue) -> bool:
        with self._client(where, self.params.user, value) as client:
            try:
                client.execute_command("ACL", "WHOAMI")
            except redis.exceptions.NoPermissionError:
                return True  # logged in, and may do little
            except redis.exceptions.AuthenticationError:
                return False
            except redis.exceptions.RedisError as error:
                said = f"the login neither worked nor failed: {_words(error)}"
                raise OutcomeUnknown(said, where=self._where(where)) from None
        return True

    def _client(self, where: str, user: str, password: SecretValue) -> redis.Redis:
        host, _, port = where.rpartition(":")
        return redis.Redis(
            host=host, port=int(port), username=user, password=password.reveal().decode(), ssl=self.params.tls,
            ssl_ca_certs=self.params.ca or None, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0), decode_responses=True,
        )  # fmt: skip

    @property
    def _primary(self) -> str:
        return f"{self.params.host}:{self.params.port}"

    def _where(self, server: str = "") -> str:
        return f"redis:{server or self._primary}/{self.params.user}"


@dataclass(frozen=True)
class _AclWriter:
    """replicas: by `host:port`. They change before the primary, which is asked whether a value was applied."""

    target: AclUser
    primary: redis.Redis
    replicas: dict[str, redis.Redis]

    def apply(self, new: SecretValue, document: Document) -> None:
        """Add it by its hash, which is all that the server's monitors and logs see."""
        self._change(document, [f"#{_hash(new)}"])

    def revoke(self, value: SecretValue, document: Document) -> None:
        """Take it away and end the user's connections: nobody can tell with which password they were opened.

        The live one is added again: a server that was killed before it saved, and then started, has lost it. So is
        the value itself, for Redis refuses to take away what is not there. Raises StillAccepted for a replica.
        """
        gone = _hash(value)
        self._change(document, [f"#{_hash(document.live)}", f"#{gone}", f"!{gone}"], ends=True)
        for where in self.replicas:
            if self.target.gets_in(where, value):
                raise StillAccepted(
                    "a replica still accepts it", where=where, hint="Look there, then: irflow secrets sweep"
                )

    def disable(self, document: Document) -> None:
        """Let the user in with nothing, and end its connections."""
        self._change(document, ["off"], ends=True)

    def enable(self, document: Document) -> None:
        """Let the user in again."""
        self._change(document, ["on"])

    def _change(self, document: Document, rules: Sequence[str], *, ends: bool = False) -> None:
        """Rules for the user, all or none, durable. ends: its connections go too. Raises as core.rotation.Writer."""
        where, user = self.target._where(), self.target.params.user
        try:
            with self.primary.pipeline() as transaction:
                self._watch(transaction, document)
                for client in self.replicas.values():
                    client.execute_command("ACL", "SETUSER", user, *rules)  # type: ignore[no-untyped-call]
                    _finish(client, user, ends)
                transaction.multi()
                transaction.set(_key(document), document.version)
                transaction.execute_command("ACL", "SETUSER", user, *rules)  # type: ignore[no-untyped-call]
                transaction.execute()
            _finish(self.primary, user, ends)
        except redis.exceptions.WatchError:
            raise SecretBusy("another rotation is under way", where=where, hint="Try again") from None
        except redis.exceptions.ResponseError as error:
            raise TargetRefused(
                f"the server refuses: {_words(error)}", where=where, hint=f"May {self.target.params.admin} do it?"
            ) from None
        except redis.exceptions.RedisError as error:
            said = f"the connection was lost: {_words(error)}"
            raise OutcomeUnknown(said, where=where, hint="irflow secrets sweep goes on") from None

    def _watch(self, transaction: Pipeline, document: Document) -> None:
        """Have the transaction fail when another notes a version. Raises Overtaken."""
        transaction.watch(_key(document))  # type: ignore[no-untyped-call]
        seen = int(transaction.get(_key(document)) or 0)
        if seen > document.version:
            raise Overtaken(f"version {document.version} is over: {seen} was here", where=self.target._where())


def _finish(client: redis.Redis, user: str, ends: bool) -> None:
    """End the connections, and save to the ACL file, or to the configuration file where users stand there.

    The server answers when the file is in its place. Raises OutcomeUnknown when it could not write it.
    """
    if ends:
        client.execute_command("CLIENT", "KILL", "USER", user, "SKIPME", "yes")  # type: ignore[no-untyped-call]
    try:
        try:
            client.execute_command("ACL", "SAVE")  # type: ignore[no-untyped-call]
        except redis.exceptions.ResponseError as error:
            if "not configured to use an acl file" not in str(error).lower():
                raise
            client.config_rewrite()
    except redis.exceptions.NoPermissionError:
        raise
    except redis.exceptions.ResponseError as error:
        raise OutcomeUnknown(
            f"changed, but not saved: {_words(error)}", where=f"redis user {user}",
            hint="See the server's log, make its file writable, then: irflow secrets sweep",
        ) from None  # fmt: skip


def _key(document: Document) -> str:
    return f"irflow:rotation:{hashlib.sha256(document.name.encode()).hexdigest()[:16]}"


def _hash(value: SecretValue) -> str:
    return hashlib.sha256(value.reveal()).hexdigest()


def _words(error: Exception) -> str:
    """What it says, without hashes of passwords: one that a person chose is found by its hash."""
    return _HASHED.sub("***", str(error)) or type(error).__name__
