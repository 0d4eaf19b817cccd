"""The `irflow` command: its groups, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from irflow import __version__
from irflow.cli import (
    decide,
    drill,
    hosts,
    incidents,
    keyring,
    lab,
    leases,
    operators,
    records,
    run,
    secrets,
    services,
    setup,
    step,
    undo,
    vault,
)
from irflow.cli.output import HOME, fail
from irflow.redaction import install

app = typer.Typer(
    name="irflow",
    help="Contain an incident in seconds, prove it, undo it exactly, and write it all down.\n\n"
    "First use: irflow init && irflow doctor && irflow up. To see it work: irflow drill.\n\n"
    "Exit codes: 0 done; 1 a check failed; 2 usage; 3 refused or awaiting approval; 4 partly done; "
    "5 outcome unknown; 6 invalid configuration; 7 a needed service is missing; 130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"irflow {__version__}")
        raise typer.Exit


@app.callback()
def options(
    home: Annotated[
        Path | None, typer.Option(envvar="IRFLOW_HOME", help="Where configuration and state live.", show_default=False)
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options that stand before the command."""
    HOME["path"] = home


setup.add(app)
services.add(app)
run.add(app)
decide.add(app)
step.add(app)
undo.add(app)
app.add_typer(incidents.app, name="incidents", help="List, show and annotate incidents.")
app.add_typer(operators.app, name="operators", help="Who may decide what, and how they prove who they are.")
app.add_typer(hosts.app, name="hosts", help="The inventory, and host keys.")
app.add_typer(leases.app, name="leases", help="What is in force where, and until when.")
app.add_typer(secrets.app, name="secrets", help="Secrets in Vault: replace them, and prove that the old ones are dead.")
app.add_typer(keyring.app, name="keyring", help="Secrets in an encrypted file, for servers without a keyring.")
app.add_typer(vault.app, name="vault", help="A Vault of irflow's own, to try things out; not for production.")
app.add_typer(records.evidence, name="evidence", help="List and verify evidence.")
app.add_typer(records.journal, name="journal", help="Verify and export the journal.")
app.add_typer(records.documents, name="documents", help="List and show the documents written.")
app.add_typer(lab.app, name="lab", help="Real hosts on this machine, to practise on.")
drill.add(app)


def main() -> None:
    """Run the command line; ends the process with a documented exit code."""
    install()
    try:
        code = app(prog_name="irflow", standalone_mode=False)
    except KeyboardInterrupt:
        sys.exit(130)
    except typer.Exit as exit_:
        sys.exit(exit_.exit_code)
    except Exception as error:  # noqa: BLE001 - the outermost edge
        sys.exit(fail(error))
    sys.exit(code if isinstance(code, int) else 0)
