"""What `irflow doctor` examines: everything a run needs, and how to mend what is missing."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx

from irflow.config import Settings, default_home
from irflow.core.errors import IrflowError
from irflow.core.inventory import Host
from irflow.core.secret import SecretRef
from irflow.wiring import Configuration, build_shell, load, open_store, secret_store

HOST_TIMEOUT_S = 8.0


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
    try:
        config = load(home or default_home())
    except IrflowError as error:
        return [*findings, Finding("configuration", False, str(error), "irflow init, or mend the lines named")]
    findings.append(Finding("configuration", True, str(config.settings.home)))
    findings += [*_state(config.settings), *_secrets(config), *_people(config), *_hosts(config), *_services(config)]
    return findings


def _machine() -> Iterator[Finding]:
    yield Finding("Python", True, platform.python_version())
    for module, use in (("prefect", "flows"), ("paramiko", "SSH"), ("sqlalchemy", "journal"), ("apprise", "mail")):
        found = importlib.util.find_spec(module) is not None
        yield Finding(f"{module} ({use})", found, "installed" if found else "missing", "make setup")
    for tool, use in (("nft", "lab and drills"), ("sshd", "lab and drills"), ("ip", "lab and drills")):
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


def _secrets(config: Configuration) -> Iterator[Finding]:
    store = secret_store()
    wanted = {f"webhook key of {one.name}": key for one in config.sources for key in one.keys}
    wanted |= {f"SSH key of {one.name}": one.key for one in config.catalog.inventory.hosts.values()}
    for what, ref in wanted.items():
        try:
            store.resolve(SecretRef.parse(ref))
            yield Finding(what, True, ref)
        except IrflowError as error:
            yield Finding(what, False, str(error), error.hint)


def _people(config: Configuration) -> Iterator[Finding]:
    roles = {role for one in config.operators for role in one.roles}
    for role in ("incident_commander", "communications"):
        yield Finding(
            f"somebody is {role}", role in roles, "yes" if role in roles else "nobody", "add to operators.yaml"
        )


def _hosts(config: Configuration) -> Iterator[Finding]:
    hosts = list(config.catalog.inventory.hosts.values())
    if not hosts:
        yield Finding("hosts", False, "the inventory is empty", "add hosts to inventory.yaml", needed=False)
        return
    shell = build_shell(config)

    def look(host: Host) -> Finding:
        if not host.management:
            return Finding(
                host.name, False, "no management addresses", "isolation needs `management:` in inventory.yaml"
            )
        if not host.host_keys:
            return Finding(host.name, False, "no host key on record", f"irflow hosts enrol {host.name}")
        try:
            shell.connect(host, timeout_s=HOST_TIMEOUT_S)
        except IrflowError as error:
            return Finding(host.name, False, str(error), error.hint)
        return Finding(host.name, True, f"{host.user}@{host.address}:{host.port}")

    try:
        with ThreadPoolExecutor(32) as pool:
            yield from pool.map(look, hosts)
    finally:
        shell.close()


def _services(config: Configuration) -> Iterator[Finding]:
    settings = config.settings
    try:
        httpx.get(f"{settings.prefect_api}/health", timeout=3, trust_env=False).raise_for_status()
        yield Finding("Prefect", True, settings.prefect_api)
    except (httpx.HTTPError, OSError):
        yield Finding("Prefect", False, f"no answer at {settings.prefect_api}", "irflow up starts it", needed=False)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(os.fspath(settings.responder_socket))
            yield Finding("responder", True, "running")
        except OSError:
            yield Finding("responder", False, "not running", "irflow up starts it", needed=False)
