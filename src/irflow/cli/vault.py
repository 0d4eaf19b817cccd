"""`irflow vault`: an OpenBao server of irflow's own, to try things out. Never for production."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from irflow.cli.output import HOME, dump, progress, say
from irflow.cli.person import Json

app = typer.Typer(no_args_is_help=True)


@app.command()
def up(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 0, json: Json = False
) -> None:
    """Start it, the first time initialise it, and say what to write into irflow.yaml. Example: irflow vault up

    One that runs and is sealed is unsealed.
    """
    from irflow.adapters.vault.embedded import EmbeddedVault, running_vault
    from irflow.core.errors import UsageError

    folder = _folder()
    vault = running_vault(folder)
    if vault is None:
        vault = EmbeddedVault(folder, port)
        vault.start()
    elif vault.sealed():
        vault.unseal()
    else:
        raise UsageError("it is running already", hint="irflow vault status, or irflow vault down")
    if json:
        dump({"url": vault.url, "ca": str(vault.ca), "role": str(vault.login.role), "secret": str(vault.login.secret)})
        return
    progress("not for production: its unseal key and root token lie beside its data, in " + str(folder / "keys"))
    say("vault:")
    say(f"  url: {vault.url}")
    say(f"  ca: {vault.ca}")
    say(f"  role: {vault.login.role}")
    say(f"  secret: {vault.login.secret}")


@app.command()
def down() -> None:
    """Stop it; what it holds stays. Example: irflow vault down"""
    from irflow.adapters.vault.embedded import end

    say("stopped" if end(_folder()) else "it was not running")


@app.command()
def status(json: Json = False) -> None:
    """Say whether it runs, where, and whether it is sealed. Exit 7 when it is no use. Example: irflow vault status"""
    from irflow.adapters.vault.embedded import running_pid, running_vault

    folder = _folder()
    pid, vault = running_pid(folder), running_vault(folder)
    sealed = vault.sealed() if vault else None
    if json:
        dump({"pid": pid, "url": vault.url if vault else None, "sealed": sealed})
    elif vault:
        say(f"{vault.url}, process {pid}" + (", sealed; irflow vault up unseals it" if sealed else ""))
    else:
        say("half made; irflow vault up makes it anew" if pid else "not running")
    if vault is None or sealed:
        raise typer.Exit(7)


def _folder() -> Path:
    from irflow.config import default_home

    return (HOME["path"] or default_home()).absolute() / "vault"
