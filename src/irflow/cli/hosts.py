"""`irflow hosts`: the inventory, and host keys recorded with a person's yes."""

from __future__ import annotations

from typing import Annotated

import typer

from irflow.cli.output import configuration, dump, say, table
from irflow.cli.person import As, Code, Json

app = typer.Typer(no_args_is_help=True)


@app.command("list")
def list_(json: Json = False) -> None:
    """List the hosts irflow may touch. Example: irflow hosts list"""
    inventory = configuration().catalog.inventory
    if json:
        dump([host.model_dump(mode="json") for host in inventory.hosts.values()])
        return
    if not inventory.hosts:
        say("No hosts: add them to inventory.yaml")
        return
    table(
        "",
        ("host", "address", "login", "groups", "protected", "key on record"),
        [
            (
                one.name,
                f"{one.address}:{one.port}",
                one.user + (" (sudo)" if one.sudo else ""),
                ", ".join(one.groups) or "-",
                "yes" if one.protected else "",
                "yes" if one.host_keys else "NO: irflow hosts enrol",
            )
            for one in inventory.hosts.values()
        ],
    )


@app.command()
def enrol(
    name: Annotated[str, typer.Argument(help="Host of the inventory that has no key on record, or another now.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; the fingerprint was compared already.")] = False,
    who: As = None,
    code: Code = None,
) -> None:
    """Show a host's keys and record them once you agree. Example: irflow hosts enrol web-1"""
    from irflow.adapters.ssh import fingerprint, scan_host_keys
    from irflow.cli.person import identify
    from irflow.core.errors import UsageError
    from irflow.enrolment import record_host_keys
    from irflow.wiring import open_store

    config = configuration()
    with open_store(config.settings) as store:
        operator = identify(config, store, who, code, f"hosts enrol {name}").operator
    host = config.catalog.inventory.hosts.get(name)
    if host is None:
        raise UsageError(f"the inventory has no host {name}", hint="Add its address to inventory.yaml first")
    keys = scan_host_keys(host)
    for key in keys:
        known = "on record" if key in host.host_keys else "NOT the one on record" if host.host_keys else "new"
        say(f"{key.split()[0]}  {fingerprint(key)}  ({known})")
    say("Compare with what the host itself says: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub")
    if not yes:
        typer.confirm(f"Record these as {name}'s keys?", abort=True)
    record_host_keys(config.settings, name, keys, operator)
    say(f"recorded for {name}")
