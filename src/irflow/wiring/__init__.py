"""The composition root: the only place that names concrete adapters."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ulid import ULID

from irflow.actions import load_actions
from irflow.adapters.anchors import SignedAnchors, open_anchors
from irflow.adapters.backup_restic import FirstUse, Repository, ResticBackups
from irflow.adapters.catalog import (
    LoadedCatalog,
    dry_plan,
    load_catalog,
    load_inventory,
    load_named,
    load_operators,
    load_settings,
    reference_from,
)
from irflow.adapters.document_store import FileDocumentStore
from irflow.adapters.evidence_store import FileEvidenceStore
from irflow.adapters.faults import from_environment
from irflow.adapters.hooks import ConfiguredHooks, strangers
from irflow.adapters.journal_sql import SqlStore, hearing, verify_all, verify_incident
from irflow.adapters.journal_sql import open_store as open_sql
from irflow.adapters.own_machine import mark_own
from irflow.adapters.templates import SandboxExpressions, TemplateDocuments
from irflow.adapters.wake import wake
from irflow.config import Settings
from irflow.core.action import Registry
from irflow.core.approvals import Operator
from irflow.core.databases import NO_DATABASES, Databases
from irflow.core.engine import Engine
from irflow.core.errors import ConfigurationError, ConfigurationErrors, IrflowError, UsageError
from irflow.core.inventory import Inventory
from irflow.core.journal import Verification
from irflow.core.ports import Channel, FlowStarter, Ports, SystemClock
from irflow.core.rotations import Rotations
from irflow.core.secret import SecretRef
from irflow.core.secret_inventory import SecretInventory
from irflow.intake.source import Source
from irflow.sabotage import sabotaged
from irflow.shipped import shipped
from irflow.wiring.secrets import secret_store, ssh_certifier

if TYPE_CHECKING:
    from irflow.adapters.ssh import SshShell

T = TypeVar("T")

log = logging.getLogger(__name__)

HEARTBEAT_S = 2.0
"""How often a process says that it lives; well under the 10 s after which its work is taken over."""


@dataclass(frozen=True)
class Configuration:
    """Everything that was read from files, valid."""

    settings: Settings
    catalog: LoadedCatalog
    operators: tuple[Operator, ...]
    sources: tuple[Source, ...]
    secrets: SecretInventory = field(default_factory=SecretInventory)


def load(home: Path) -> Configuration:
    """Read one installation. Raises ConfigurationErrors with every mistake of every file at its file:line."""
    errors: list[ConfigurationError] = []
    no_operators: tuple[Operator, ...] = ()
    no_sources: tuple[Source, ...] = ()

    def read(work: Callable[[], T], otherwise: T) -> T:
        try:
            return work()
        except ConfigurationErrors as wrong:
            errors.extend(wrong.errors)
            return otherwise

    settings = read(lambda: load_settings(home), Settings(home=home))
    actions = load_actions()
    if settings.sabotage:
        actions = Registry(sabotaged(action, settings.sabotage) for action in actions.all())
    inventory = read(lambda: load_inventory(home / "inventory.yaml"), Inventory())
    inventory = mark_own(inventory, (settings.journal_url, settings.prefect_url))
    operators = read(lambda: _operators(home), no_operators)
    sources = read(lambda: _sources(home), no_sources)
    expressions = SandboxExpressions()
    none = LoadedCatalog({}, {}, actions, inventory, expressions, {})
    catalog = read(
        lambda: load_catalog(
            playbooks=[home / "playbooks", shipped("playbooks")],
            runbooks=[home / "runbooks", shipped("runbooks")],
            actions=actions,
            inventory=inventory,
            expressions=expressions,
            templates=documents(home).names(),
        ),
        none,
    )
    secrets = read(lambda: _secrets(home, inventory), SecretInventory())
    errors.extend(strangers(settings.hooks, inventory) if inventory.hosts else ())
    if errors:
        raise ConfigurationErrors(errors)
    return Configuration(settings, catalog, operators, sources, secrets)


def dry_plans(config: Configuration) -> list[tuple[str, str, int]]:
    """Plan every playbook for a sample incident: (playbook, phase, number of steps). Touches nothing.

    Raises ConfigurationErrors with every phase that cannot be planned, at its file:line.
    """
    rehearsals = [one for playbook in config.catalog.playbooks.values() for one in dry_plan(config.catalog, playbook)]
    errors = {str(one.error): one.error for one in rehearsals if one.error}
    if errors:
        raise ConfigurationErrors(list(errors.values()))
    steps = {(one.playbook, one.phase.value): len(one.plan.steps) if one.plan else 0 for one in rehearsals}
    return [(playbook, phase, count) for (playbook, phase), count in steps.items()]


def _secrets(home: Path, inventory: Inventory) -> SecretInventory:
    """What secrets.yaml says. Only then the libraries of the targets are loaded."""
    path = home / "secrets.yaml"
    if not path.exists():
        return SecretInventory()
    from irflow.adapters import engines, targets
    from irflow.adapters.catalog.secrets import load_secrets

    return load_secrets(path, targets.kinds(), engines.kinds(), inventory)


def _operators(home: Path) -> tuple[Operator, ...]:
    """Who may decide, with `file:` references made absolute, from home."""
    found = load_operators(home / "operators.yaml")
    return tuple(one.model_copy(update={"totp": reference_from(home, one.totp)}) for one in found)


def _sources(home: Path) -> tuple[Source, ...]:
    path = home / "sources.yaml"
    found = load_named(path, "sources", Source).values() if path.exists() else ()
    return tuple(_at_home(one, home) for one in found)


def _at_home(source: Source, home: Path) -> Source:
    """The source with relative `file:` references made absolute, from home."""
    return source.model_copy(update={"keys": tuple(reference_from(home, key) for key in source.keys)})


def documents(home: Path) -> TemplateDocuments:
    """The document templates: local ones before shipped ones."""
    return TemplateDocuments([home / "templates", shipped("templates")])


@contextmanager
def open_store(settings: Settings) -> Iterator[SqlStore]:
    """The journal, closed at the end."""
    store = open_sql(settings.journal_url, clock=SystemClock(), fault=from_environment())
    try:
        yield store
    finally:
        store.close()


def work_told(settings: Settings) -> AbstractContextManager[None]:
    """While it is open, work that another machine left in the journal wakes the responder of this one."""
    return hearing(settings.journal_url, waker(settings))


def evidence_store(settings: Settings) -> FileEvidenceStore:
    """Where evidence lies."""
    return FileEvidenceStore(settings.evidence)


def anchors(settings: Settings) -> SignedAnchors:
    """The signed heads."""
    return open_anchors(settings.state, settings.home / "anchors")


def build_shell(config: Configuration) -> SshShell:
    """SSH to the inventory's hosts. Imported late: the web process never gets here and holds no SSH at all."""
    from irflow.adapters.ssh import SshShell

    settings = config.settings
    return SshShell(
        secret_store(settings), config.catalog.inventory,
        parallel=settings.responder.parallel, certifier=ssh_certifier(settings),
    )  # fmt: skip


def backup_repository(settings: Settings) -> ResticBackups:
    """Where `backup.emergency` saves to. Nothing is opened or made before the first use."""
    store, backup = secret_store(settings), settings.backup
    password = backup.password or f"file:{settings.backup_password_file}"

    def location() -> bytes:
        if backup.location_is_secret:
            return store.resolve(SecretRef.parse(backup.repository)).reveal()
        return os.fsencode(backup.repository or settings.home / "backups")

    repository = Repository(
        location,
        lambda: store.resolve(SecretRef.parse(password)).reveal(),
        settings.state / "restic-cache",
        "the configured repository" if backup.location_is_secret else os.fsdecode(location()),
    )
    own = None if backup.password else settings.backup_password_file
    first_use = FirstUse(repository, own)
    return ResticBackups(repository, first_use, keep_free=backup.keep_free_mb << 20, parallel=backup.parallel)


def verify_journals(settings: Settings, incident: str | None) -> tuple[Verification, ...]:
    """Verify one chain or all, each named as people say it. Raises UsageError for an unknown incident."""
    with open_store(settings) as store:
        if incident is None:
            results = verify_all(store, anchors(settings))
        else:
            found = store.find_incident(incident)
            if found is None:
                raise UsageError(f"no incident {incident}", hint="List them: irflow incidents list")
            results = (verify_incident(store, anchors(settings), found.id),)
        numbers = {one.id: one.number for one, _ in store.incidents(limit=100_000)}
    return tuple(replace(one, incident=numbers.get(one.incident, one.incident)) for one in results)


@dataclass(frozen=True)
class Runtime:
    """An engine with everything it needs, in one process."""

    configuration: Configuration
    engine: Engine
    store: SqlStore

    @property
    def settings(self) -> Settings:
        """The settings."""
        return self.configuration.settings


@contextmanager
def open_runtime(config: Configuration, *, process: str) -> Iterator[Runtime]:
    """Wire up an engine and keep its heart beating; everything is closed at the end.

    process: `responder`, `flow` or `cli`; it becomes the journal's actor.
    """
    from irflow.adapters.prober import TcpProber

    settings = config.settings
    owner = f"{process}:{socket.gethostname()}:{os.getpid()}:{ULID()}"
    with open_store(settings) as store, ExitStack() as cleanup:
        shell = build_shell(config)
        cleanup.callback(shell.close)
        ports = Ports(
            SystemClock(),
            store,
            anchors(settings),
            config.catalog.inventory,
            shell,
            TcpProber(),
            evidence_store(settings),
            FileDocumentStore(settings.documents),
            documents(settings.home),
            config.catalog.expressions,
            ConfiguredHooks(settings.hooks, secret_store(settings)),
            backup_repository(settings),
            _rotations(config, shell),
            _databases(config),
        )
        engine = Engine(
            ports,
            config.catalog,
            actor=f"irflow:{process}",
            owner=owner,
            parallel=settings.responder.parallel,
            stale_s=settings.responder.claim_stale.total_seconds(),
        )
        stop = threading.Event()
        heart = threading.Thread(target=_beat, args=(store, owner, stop), name="heart", daemon=True)
        heart.start()
        cleanup.callback(heart.join)
        cleanup.callback(stop.set)
        yield Runtime(config, engine, store)


def _rotations(config: Configuration, shell: SshShell) -> Rotations | None:
    """What rotates secrets, None where secrets.yaml names none; only then its libraries are loaded."""
    if not config.secrets.secrets:
        return None
    from irflow.wiring.rotators import VaultRotations

    return VaultRotations(config, shell, shell)


def _databases(config: Configuration) -> Databases:
    """Where roles can be closed; the library is loaded only where irflow.yaml names a database."""
    if not config.settings.databases:
        return NO_DATABASES
    from irflow.wiring.databases import databases

    return databases(config)


def _beat(store: SqlStore, owner: str, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_S):
        try:
            store.heartbeat(owner)
        except IrflowError as error:  # the next beat may get through; if none does, others take over
            log.warning("no heartbeat: %s", error)


def flow_starter(settings: Settings) -> FlowStarter:
    """Who starts flow runs."""
    from irflow.adapters.prefect_api import PrefectApi

    return PrefectApi(settings)


def notification_channel(settings: Settings) -> Channel:
    """How people are told."""
    from irflow.adapters.notify import AppriseChannel

    return AppriseChannel(settings.notify.channels, secret_store(settings), timeout_s=settings.notify.timeout_s)


def waker(settings: Settings) -> Callable[[], None]:
    """What wakes the responder."""
    return lambda: wake(settings.responder_socket)
