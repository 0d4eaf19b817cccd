"""What `irflow doctor` examines: everything a run needs, and how to mend what is missing."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx

from irflow.adapters.wake import listening
from irflow.config import Settings, default_home
from irflow.core.errors import ConfigurationErrors, IrflowError, ServiceMissing
from irflow.core.inventory import Host
from irflow.core.secret import SecretRef
from irflow.operators import IMPOSTORS_MEND, asked_roles, impostors
from irflow.supervisor.ports import require_free
from irflow.supervisor.stack import web_url
from irflow.wiring import Configuration, backup_repository, build_shell, load, open_store
from irflow.wiring.secrets import secret_store, vault_session

HOST_TIMEOUT_S = 8.0
REPOSITORY_TIMEOUT_S = 20.0
DATABASE_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. needed: without it nothing works; otherwise it is a note."""

    what: str
    passed: bool
    found: str
    mend: str = ""
    needed: bool = True


def examine(home: Path | None) -> list[Finding]:
    """Look at everything, in the order a person would mend it. Never raises for what it finds."""
    findings = [*_machine()]
    home = home or default_home()
    if not (home / "irflow.yaml").exists() and not (home / "inventory.yaml").exists():
        return [*findings, Finding("configuration", False, f"there is none in {home}", "irflow init")]
    try:
        config = load(home)
    except ConfigurationErrors as error:
        return [*findings, *(Finding("configuration", False, str(one), "mend that line") for one in error.errors)]
    except IrflowError as error:
        return [*findings, Finding("configuration", False, str(error))]
    findings.append(Finding("configuration", True, str(config.settings.home)))
    findings += [
        *_state(config.settings),
        *_secrets(config),
        *_vault(config),
        *_databases(config),
        *_backups(config.settings),
        *_people(config),
        *_hosts(config),
        *_services(config),
    ]
    return findings


def _machine() -> Iterator[Finding]:
    yield Finding("Python", True, platform.python_version())
    for module, use in (("prefect", "flows"), ("paramiko", "SSH"), ("sqlalchemy", "journal"), ("apprise", "mail")):
        found = importlib.util.find_spec(module) is not None
        yield Finding(f"{module} ({use})", found, "installed" if found else "missing", "make setup")
    for tool, use in (
        ("nft", "lab and drills"), ("sshd", "lab and drills"), ("ip", "lab and drills"),
        ("restic", "emergency backups"), ("pg_restore", "checking database dumps"),
    ):  # fmt: skip
        path = shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        yield Finding(f"{tool} ({use})", path is not None, path or "missing", "make setup, as root", needed=False)


def _state(settings: Settings) -> Iterator[Finding]:
    mode = settings.home.stat().st_mode & 0o077
    yield Finding("home is private", not mode, oct(settings.home.stat().st_mode & 0o777), f"chmod 700 {settings.home}")
    free = shutil.disk_usage(settings.home).free / 2**30
    yield Finding("disk space", free > 1, f"{free:.1f} GiB free", "evidence needs room: free some")
    try:
        with open_store(settings) as store:
            store.incidents(limit=1)
        yield Finding("journal", True, settings.journal_url.rpartition("@")[2])
    except IrflowError as error:
        yield Finding("journal", False, str(error), "check IRFLOW_DATABASE_URL and that the server runs")


def _backups(settings: Settings) -> Iterator[Finding]:
    what, mend = "backup repository", "see `backup:` in irflow.yaml; irflow init --force makes the password"
    try:
        yield Finding(what, True, backup_repository(settings).describe(timeout_s=REPOSITORY_TIMEOUT_S))
    except IrflowError as error:
        yield Finding(what, False, str(error), error.hint or mend, needed=False)


def _vault(config: Configuration) -> Iterator[Finding]:
    """Whether irflow gets into Vault, where one is named or needed."""
    settings = config.settings
    if settings.vault is None:
        needing = [one.name for one in config.secrets.secrets.values() if one.ref.scheme == "vault"]
        if needing:
            told = f"irflow.yaml names none, and {needing[0]} of secrets.yaml is in one"
            yield Finding("Vault", False, told, "write vault: {url: https://...}; to try it out: irflow vault up")
        return
    try:
        yield Finding("Vault", True, f"{settings.vault.url}, {vault_session(settings).describe()}")
    except IrflowError as error:
        yield Finding("Vault", False, str(error), error.hint)


def _databases(config: Configuration) -> Iterator[Finding]:
    """Whether irflow may close roles, where databases are named."""
    if not config.settings.databases:
        return
    from irflow.wiring.databases import databases

    found = databases(config)
    for name in found.names:
        try:
            yield Finding(f"database {name}", True, found.describe(name, timeout_s=DATABASE_TIMEOUT_S))
        except IrflowError as error:
            yield Finding(f"database {name}", False, str(error), error.hint)


def _secrets(config: Configuration) -> Iterator[Finding]:
    store = secret_store(config.settings)
    wanted = {f"webhook key of {one.name}": key for one in config.sources for key in one.keys}
    wanted |= {f"SSH key of {one.name}": one.key for one in config.catalog.inventory.hosts.values()}
    wanted |= {f"key of {one.name}'s one-time codes": one.totp for one in config.operators if one.totp}
    for what, ref in wanted.items():
        try:
            store.resolve(SecretRef.parse(ref))
            yield Finding(what, True, ref)
        except IrflowError as error:
            yield Finding(what, False, str(error), error.hint)


def _people(config: Configuration) -> Iterator[Finding]:
    roles = {role for one in config.operators for role in one.roles}
    for role in sorted({"incident_commander", *asked_roles(config.catalog)}):
        yield Finding(
            f"somebody is {role}", role in roles, "yes" if role in roles else "nobody", "add to operators.yaml"
        )
    for told in impostors(config.operators):
        yield Finding("people can be told apart", False, told, IMPOSTORS_MEND, needed=False)


def _hosts(config: Configuration) -> Iterator[Finding]:
    hosts = list(config.catalog.inventory.hosts.values())
    if not hosts:
        yield Finding("hosts", False, "the inventory is empty", "add hosts to inventory.yaml", needed=False)
        return
    shell = build_shell(config)

    def look(host: Host) -> Finding:
        what = f"host {host.name}"
        if not host.management:
            return Finding(what, False, "no management addresses", "isolation needs `management:` in inventory.yaml")
        if not host.host_keys:
            return Finding(what, False, "no host key on record", f"irflow hosts enrol {host.name}")
        try:
            shell.connect(host, timeout_s=HOST_TIMEOUT_S)
        except IrflowError as error:
            return Finding(what, False, error.message, error.hint)
        return Finding(what, True, f"{host.user}@{host.address}:{host.port}")

    try:
        with ThreadPoolExecutor(32) as pool:
            yield from pool.map(look, hosts)
    finally:
        shell.close()


def _services(config: Configuration) -> Iterator[Finding]:
    settings = config.settings
    if _answers(f"{web_url(settings)}/health"):
        yield Finding("web", True, web_url(settings))
    else:
        yield Finding("web", False, "not running", "irflow up starts it", needed=False)
        yield _port("web", settings.web_host, settings.web_port)
    if _answers(f"{settings.prefect_api}/health"):
        yield Finding("Prefect", True, settings.prefect_api)
    elif settings.prefect_url:
        mend = "start it, or mend prefect_url in irflow.yaml; until then hosts are contained without it"
        yield Finding("Prefect", False, f"no answer at {settings.prefect_api}", mend, needed=False)
    else:
        yield Finding("Prefect", False, "not running", "irflow up starts it", needed=False)
        yield _port("prefect", "127.0.0.1", settings.prefect_port)
    running = listening(settings.responder_socket)
    mend = "" if running else "irflow up starts it"
    yield Finding("responder", running, "running" if running else "not running", mend, needed=False)


def _answers(url: str) -> bool:
    try:
        # Only whether something of ours is there: its certificate is made for the name that others call it by.
        return httpx.get(url, timeout=3, trust_env=False, verify=False).is_success  # noqa: S501
    except (httpx.HTTPError, OSError):
        return False


def _port(service: str, host: str, port: int) -> Finding:
    """Whether `irflow up` could take the port."""
    try:
        require_free(host, port, service)
    except ServiceMissing as error:
        return Finding(f"{service} port", False, error.message, error.hint)
    return Finding(f"{service} port", True, f"{port} on {host} is free")
