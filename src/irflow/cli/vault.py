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
    """Start it, the first time initialise it, and say what to write into irflow.yaml. Example: irflow vault up"""
    from irflow.adapters.vault.embedded import EmbeddedVault, running_pid
    from irflow.core.errors import UsageError

    folder = _folder()
    if running_pid(folder):
        raise UsageError("it is running already", hint="irflow vault status, or irflow vault down")
    vault = EmbeddedVault(folder, port)
    vault.start()
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
    """Say whether it runs, and where. Exit 7 when it does not. Example: irflow vault status"""
    from irflow.adapters.vault.embedded import running_pid

    folder = _folder()
    pid, port = running_pid(folder), folder / "port"
    url = f"https://127.0.0.1:{port.read_text()}" if pid and port.exists() else None
    if json:
        dump({"pid": pid, "url": url})
    else:
        say(f"{url}, process {pid}" if pid else "not running")
    if not pid:
        raise typer.Exit(7)


def _folder() -> Path:
    from irflow.config import default_home

    return (HOME["path"] or default_home()).absolute() / "vault"
