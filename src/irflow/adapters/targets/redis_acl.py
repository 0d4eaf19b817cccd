"""The password of a Redis ACL user. A user has as many as one likes, so the old one works until the new one is live.

Each change is one transaction that also notes the version of the document it follows, so that whoever was overtaken
changes nothing; and each is saved: Redis forgets ACL changes at a restart, and would take the old password again.
"""

from __future__ import annotations

import hashlib
import secrets
import string
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import redis
from pydantic import Field
from redis.backoff import NoBackoff
from redis.retry import Retry

from irflow.core.errors import OutcomeUnknown, ServiceMissing
from irflow.core.model import Noun
from irflow.core.rotation import Document, Means, Overtaken, SecretBusy, TargetRefused, Writer
from irflow.core.secret import SecretRef, SecretStore, SecretValue

KIND = "redis"
_TIMEOUT_S = 5
_ALPHABET = string.ascii_letters + string.digits


class Params(Noun):
    """user: whose password it is. tls; ca: certificate of the server's authority.

    admin, admin_secret: who may change it: +acl +client +config|rewrite +info +multi +exec +watch, +get and +set on
    ~irflow:*.
    """

    host: str
    port: int = Field(default=6379, ge=1, le=65535)
    user: str = Field(min_length=1, max_length=128, pattern=r"^[^\s\x00]+$")
    admin: str = "default"
    admin_secret: str
    tls: bool = False
    ca: str = ""


def open_target(params: Params, means: Means) -> AclUser:
    """The target that the parameters name. Nothing is connected yet."""
    return AclUser(params, means.secrets)


@dataclass(frozen=True)
class AclUser:
    """core.rotation.Target."""

    params: Params
    store: SecretStore
    overlap: bool = True

    def new_value(self) -> SecretValue:
        """40 letters and digits, 238 bits."""
        return SecretValue("".join(secrets.choice(_ALPHABET) for _ in range(40)).encode())

    @contextmanager
    def fence(self) -> Iterator[Writer]:
        """Nothing is held: each change is a transaction of its own, and refuses a version smaller than the last."""
        password = self.store.resolve(SecretRef.parse(self.params.admin_secret))
        with self._client(self.params.admin, password) as client:
            try:
                role = client.info("replication")["role"]
            except redis.exceptions.RedisError as error:
                raise ServiceMissing(
                    f"no connection as {self.params.admin}: {_words(error)}", where=self._where,
                    hint="Is it running, and may the admin log in?",
                ) from None  # fmt: skip
            if role != "master":
                raise TargetRefused(
                    "this is a replica", where=self._where, hint="Name the primary: its users are copied"
                )
            yield _AclWriter(client, self.params.user, self._where)

    def admits(self, value: SecretValue) -> bool:
        """Log in with it. Where any value gets in, that proves nothing and is unknown."""
        if not self._gets_in(value):
            return False
        if self._gets_in(self.new_value()):
            raise OutcomeUnknown(
                f"{self.params.user} gets in with any password", where=self._where, hint="Take `nopass` from the user"
            )
        return True

    def _gets_in(self, value: SecretValue) -> bool:
        with self._client(self.params.user, value) as client:
            try:
                client.execute_command("ACL", "WHOAMI")
            except redis.exceptions.NoPermissionError:
                return True  # logged in, and may do little
            except redis.exceptions.AuthenticationError:
                return False
            except redis.exceptions.RedisError as error:
                raise OutcomeUnknown(
                    f"the login neither worked nor failed: {_words(error)}", where=self._where
                ) from None
        return True

    def _client(self, user: str, password: SecretValue) -> redis.Redis:
        one = self.params
        return redis.Redis(
            host=one.host, port=one.port, username=user, password=password.reveal().decode(), ssl=one.tls,
            ssl_ca_certs=one.ca or None, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0), decode_responses=True,
        )  # fmt: skip

    @property
    def _where(self) -> str:
        return f"redis:{self.params.host}:{self.params.port}/{self.params.user}"


@dataclass(frozen=True)
class _AclWriter:
    client: redis.Redis
    user: str
    where: str

    def apply(self, new: SecretValue, document: Document) -> None:
        """Add it by its hash, which is all that the server's monitors and logs see."""
        self._change(document, f"#{_hash(new)}")

    def revoke(self, value: SecretValue, document: Document) -> None:
        """Take it away and end the user's connections: nobody can tell with which password they were opened."""
        self._change(document, f"!{_hash(value)}", ends=True)

    def disable(self, document: Document) -> None:
        """Let the user in with nothing, and end its connections."""
        self._change(document, "off", ends=True)

    def enable(self, document: Document) -> None:
        """Let the user in again."""
        self._change(document, "on")

    def _change(self, document: Document, rule: str, *, ends: bool = False) -> None:
        """One rule for the user, durable. ends: its connections go as well. Raises as core.rotation.Writer."""
        try:
            self._transact(document, rule)
            if ends:
                self.client.execute_command("CLIENT", "KILL", "USER", self.user, "SKIPME", "yes")  # type: ignore[no-untyped-call]
            self._save()
        except redis.exceptions.WatchError:
            raise SecretBusy("another rotation is under way", where=self.where, hint="Try again") from None
        except redis.exceptions.ResponseError as error:
            raise TargetRefused(f"the server refuses: {_words(error)}", where=self.where) from None
        except redis.exceptions.RedisError as error:
            said = f"the connection was lost: {_words(error)}"
            raise OutcomeUnknown(said, where=self.where, hint="irflow secrets sweep goes on") from None

    def _transact(self, document: Document, rule: str) -> None:
        key = f"irflow:rotation:{hashlib.sha256(document.name.encode()).hexdigest()[:16]}"
        with self.client.pipeline() as transaction:
            transaction.watch(key)  # type: ignore[no-untyped-call]
            seen = int(transaction.get(key) or 0)
            if seen > document.version:
                raise Overtaken(f"version {document.version} is over: {seen} was here", where=self.where)
            transaction.multi()
            transaction.set(key, document.version)
            transaction.execute_command("ACL", "SETUSER", self.user, rule)  # type: ignore[no-untyped-call]
            try:
                transaction.execute()
            except redis.exceptions.ResponseError as error:
                if not (rule.startswith("!") and "does not exist" in str(error)):  # it was taken away before
                    raise

    def _save(self) -> None:
        """To the ACL file, or to the configuration file where users stand there."""
        try:
            self.client.execute_command("ACL", "SAVE")  # type: ignore[no-untyped-call]
        except redis.exceptions.ResponseError as error:
            if "not configured to use an acl file" not in str(error).lower():
                raise
            self.client.config_rewrite()


def _hash(value: SecretValue) -> str:
    return hashlib.sha256(value.reveal()).hexdigest()


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__
