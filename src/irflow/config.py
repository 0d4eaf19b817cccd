"""Settings of one installation: read once from `irflow.yaml` under IRFLOW_HOME, then frozen."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from irflow.core.errors import ConfigurationError
from irflow.core.model import Duration, Noun, parse_duration
from irflow.core.secret import SecretRef

BUILT_IN = ("dashboard", "log")
"""Receivers that need no URL: `dashboard` shows what the journal says anyhow, `log` is the responder's log."""


class NotifySettings(Noun):
    """channels: channel name -> references to apprise URLs (a URL holds a password, so it is a secret), or built-in."""

    channels: dict[str, tuple[str, ...]] = {}
    timeout_s: float = Field(default=10.0, gt=0, le=60)


class ResponderSettings(Noun):
    """How the responder works.

    first_response: off sends everything through Prefect. parallel: hosts worked on at once.
    claim_stale: a step whose owner gave no sign of life for that long may be taken over.
    restart_after: how long after its last sign of life a run is started again; most_runs: then it escalates.
    """

    first_response: bool = True
    parallel: int = Field(default=32, ge=1, le=256)
    poll: Duration = Field(default=parse_duration("1s"), validate_default=True)
    claim_stale: Duration = parse_duration("10s")
    restart_after: Duration = parse_duration("10s")
    most_runs: int = Field(default=3, ge=1)
    lease: Duration = parse_duration("8h")


ISOLATION = ("isolate", "release", "status")
"""What a hook must do to cut hosts off: also bring them back, and say how they stand."""


class HookSettings(Noun):
    """Something that acts on hosts where SSH cannot: a program, or a web service.

    hosts, groups: what it is for. verbs: what it can do. command: the program and its fixed arguments; the request
    comes on its standard input. url: where requests are posted, HTTPS or loopback; key: reference to the key that signs
    them; ca: certificate of its authority, where the system does not know it. timeout: for one call.
    """

    hosts: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    verbs: tuple[Annotated[str, Field(pattern=r"^[a-z][a-z_]{0,31}$")], ...] = ISOLATION
    command: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    url: str = ""
    key: str = ""
    ca: Path | None = None
    timeout: Duration = parse_duration("20s")

    @field_validator("key")
    @classmethod
    def _reference(cls, value: str) -> str:
        try:
            if value:
                SecretRef.parse(value)
        except ConfigurationError as error:  # as a ValueError it keeps its place in the file
            raise ValueError(str(error)) from None
        return value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if bool(self.command) == bool(self.url):
            raise ValueError("needs either a command or a url")
        if not self.hosts and not self.groups:
            raise ValueError("names neither hosts nor groups, so it is for nobody")
        if self.command and not Path(self.command[0]).is_absolute():
            raise ValueError("the program of a command is an absolute path")
        if self.url:
            _check_url(self.url)
            if not self.key:
                raise ValueError("a url needs the key that signs requests: key: file:keys/NAME.hook")
        wanted = {"isolate", "release", "status"}
        if wanted & set(self.verbs) and not wanted <= set(self.verbs):
            raise ValueError("isolate, release and status go together: what cuts off must be provable and reversible")
        return self


def _check_url(url: str) -> None:
    """Raises ValueError unless requests to it cannot be read or changed on their way."""
    parts = urlsplit(url)
    loopback = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and loopback)):
        raise ValueError("the url is HTTPS, or HTTP on this machine (127.0.0.1)")
    if parts.username or parts.password:
        raise ValueError("no password in the url: keys and tokens go with the requests")


class BackupSettings(Noun):
    """Where `backup.emergency` saves to.

    repository: what restic calls it: a folder, `sftp:user@host:/folder`, `rest:https://...`; empty for a folder under
    home. A reference (`file:keys/backup.location`) where the location itself holds a password.
    password: reference to its password; empty for a file under home that is made at the first use.
    keep_free_mb: so much of a local repository's disk is never filled, because the journal may be on it.
    parallel: most backups at once, each needs about 150 MB of memory and a core.
    """

    repository: str = ""
    password: str = ""
    keep_free_mb: int = Field(default=1024, ge=0)
    parallel: int = Field(default=4, ge=1, le=64)

    @property
    def location_is_secret(self) -> bool:
        """Whether the location stands elsewhere, in a secret."""
        return self.repository.startswith(("vault:", "keyring:", "file:"))


class KeyringSettings(Noun):
    """Which keyring `keyring:` references mean: never one that happens to be there.

    backend: `encrypted-file`, irflow's own, or `secretservice`, `kwallet`. file: where irflow's own is. key: reference
    to its master key: a file, a systemd credential, or a variable of the environment.
    """

    backend: str = "encrypted-file"
    file: Path = Path("keys/keyring")
    key: str = "file:keys/keyring.key"

    @field_validator("key")
    @classmethod
    def _bootstrap(cls, value: str) -> str:
        try:
            if SecretRef.parse(value, bootstrap=True).scheme not in ("file", "env"):
                raise ValueError("what opens the keyring is a file, or a systemd credential: file:keys/keyring.key")
        except ConfigurationError as error:
            raise ValueError(str(error)) from None
        return value


class VaultSettings(Noun):
    """Where Vault is, and the AppRole that irflow logs in with.

    ca: certificate of its authority, where the system does not know it. role, secret: references to the role-id and
    the secret-id; never to Vault itself. timeout: for one call.
    """

    url: str
    ca: Path | None = None
    role: str = "file:keys/vault.role"
    secret: str = "file:keys/vault.secret"  # noqa: S105 - a reference
    timeout: Duration = parse_duration("8s")

    @field_validator("url")
    @classmethod
    def _safe(cls, value: str) -> str:
        _check_url(value)
        return value.rstrip("/")

    @field_validator("role", "secret")
    @classmethod
    def _bootstrap(cls, value: str) -> str:
        try:
            if SecretRef.parse(value, bootstrap=True).scheme == "vault":
                raise ValueError("what opens Vault cannot be in Vault: use file: or keyring:")
        except ConfigurationError as error:
            raise ValueError(str(error)) from None
        return value


class DatabaseSettings(Noun):
    """A PostgreSQL database in which `database.restrict` closes roles.

    host: name, address or socket folder. user, password: who may change what roles can do, and a reference to its
    password. tls: libpq's sslmode. ca: certificate of the server's authority.
    """

    host: str
    port: int = Field(default=5432, ge=1, le=65535)
    database: str = "postgres"
    user: str = Field(min_length=1, max_length=63)
    password: str
    tls: str = Field(default="prefer", pattern=r"^(disable|prefer|require|verify-ca|verify-full)$")
    ca: Path | None = None

    @field_validator("password")
    @classmethod
    def _reference(cls, value: str) -> str:
        try:
            SecretRef.parse(value)
        except ConfigurationError as error:  # as a ValueError it keeps its place in the file
            raise ValueError(str(error)) from None
        return value


class Settings(Noun):
    """All settings, with defaults that work on one machine.

    home: where state lives. database_url: empty for SQLite under home. web_*: where alerts come in.
    prefect_url: an existing Prefect API; empty starts one on prefect_port (0: any free port). prefect_public_url: where
    people's browsers find Prefect's pages, as behind a TLS proxy; empty for the same as irflow itself.
    vault, keyring: where references to them are resolved.
    hooks: by name, what acts on hosts where SSH cannot. databases: by name, where `database.restrict` closes roles.
    sabotage: drills only; the id of a step whose effect is skipped while it claims success, to show that the checks
    from outside notice.
    """

    home: Path = Path()
    database_url: str = ""
    web_host: str = "127.0.0.1"
    web_port: int = Field(default=8765, ge=0, le=65535)
    web_tls_certificate: Path | None = None
    web_tls_key: Path | None = None
    prefect_url: str = ""
    prefect_public_url: Annotated[str, Field(pattern=r"^(https?://[^/?#\s]+(/[^?#\s]*)?)?$")] = ""
    prefect_port: int = Field(default=4200, ge=0, le=65535)
    drill_schedule: str = "0 3 1 * *"
    responder: ResponderSettings = ResponderSettings()
    notify: NotifySettings = NotifySettings()
    backup: BackupSettings = BackupSettings()
    vault: VaultSettings | None = None
    keyring: KeyringSettings | None = None
    hooks: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")], HookSettings] = {}
    databases: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")], DatabaseSettings] = {}
    sabotage: str | None = None

    @property
    def journal_url(self) -> str:
        """The database: what IRFLOW_DATABASE_URL or the file says, else SQLite under home."""
        return self.database_url or f"sqlite:///{self.state / 'journal.db'}"

    @property
    def state(self) -> Path:
        """Journal, signing key, anchors."""
        return self.home / "state"

    @property
    def run(self) -> Path:
        """Sockets, locks and process ids."""
        return self.home / "run"

    @property
    def logs(self) -> Path:
        """One file per process."""
        return self.home / "logs"

    @property
    def evidence(self) -> Path:
        """The evidence store."""
        return self.home / "evidence"

    @property
    def documents(self) -> Path:
        """Rendered documents."""
        return self.home / "documents"

    @property
    def backup_password_file(self) -> Path:
        """The password of our own backup repository (0600), made at the first use."""
        return self.home / "keys" / "backup.password"

    @property
    def responder_socket(self) -> Path:
        """Where the responder is woken."""
        return self.run / "responder.sock"

    @property
    def prefect_home(self) -> Path:
        """Prefect's own files."""
        return self.home / "prefect"

    @property
    def prefect_auth_file(self) -> Path:
        """The auth string of our Prefect server (0600), made at its first start."""
        return self.state / "prefect.auth"

    @property
    def prefect_api(self) -> str:
        """The API's base URL: configured, or of our own server as noted by the supervisor when it started."""
        if self.prefect_url:
            return self.prefect_url.rstrip("/")
        note = self.run / "prefect.url"
        if note.exists():
            return note.read_text().strip()
        return f"http://127.0.0.1:{self.prefect_port}/api"

    @property
    def prefect_pages(self) -> str:
        """Where people look at Prefect."""
        return self.prefect_public_url.rstrip("/") or self.prefect_api.removesuffix("/api")


def default_home() -> Path:
    """IRFLOW_HOME, or the XDG state folder (XDG Base Directory Specification 0.8)."""
    named = os.environ.get("IRFLOW_HOME")
    if named:
        return Path(named).expanduser().absolute()
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "irflow"
