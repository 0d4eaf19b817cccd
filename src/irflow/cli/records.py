"""`irflow evidence`, `irflow journal`, `irflow documents`: what will be read in court."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from irflow.cli.output import configuration, dump, say, short, table
from irflow.cli.person import Json, Name, find

evidence = typer.Typer(no_args_is_help=True)
journal = typer.Typer(no_args_is_help=True)
documents = typer.Typer(no_args_is_help=True)


def _status(incident: str) -> Any:
    from irflow.core.status import fold
    from irflow.wiring import open_store

    with open_store(configuration().settings) as store:
        return fold(store.events(find(store, incident).id))


@evidence.command("list")
def list_evidence(incident: Name, json: Json = False) -> None:
    """List the items with their custody. Example: irflow evidence list IR-2026-0001"""
    items = _status(incident).evidence
    if json:
        dump(items)
        return
    if not items:
        say("No evidence")
        return
    settings = configuration().settings
    table(
        f"below {settings.evidence}",
        ("item", "from", "by", "when", "bytes", "SHA-256"),
        [
            (one["path"], one["where"], one["who"], one["when"][:19] + "Z", one["bytes"], short(one["sha256"], 17))
            for one in items
        ],
    )


@evidence.command("verify")
def verify_evidence(incident: Name, json: Json = False) -> None:
    """Hash every item again and compare with the journal. Example: irflow evidence verify IR-2026-0001"""
    from irflow.wiring import evidence_store

    store = evidence_store(configuration().settings)
    rows = store.verify(_status(incident).evidence)
    _verdict(rows, json, what="item")


@documents.command("list")
def list_documents(incident: Name, json: Json = False) -> None:
    """List the documents written so far. Example: irflow documents list IR-2026-0001"""
    items = _status(incident).documents
    if json:
        dump(items)
        return
    if not items:
        say("No documents yet")
        return
    table(
        f"below {configuration().settings.documents}",
        ("name", "path", "SHA-256"),
        [(one["name"], one["path"], short(one["sha256"], 17)) for one in items],
    )


@documents.command("show")
def show_document(incident: Name, name: Annotated[str, typer.Argument(help="As `documents list` names it.")]) -> None:
    """Print a document. Example: irflow documents show IR-2026-0001 incident-report"""
    from irflow.core.errors import UsageError

    found = [one for one in _status(incident).documents if one["name"] == name]
    if not found:
        raise UsageError(f"{incident} has no document {name}", hint=f"List them: irflow documents list {incident}")
    say((configuration().settings.documents / found[-1]["path"]).read_text())


@journal.command("verify")
def verify_journal(
    incident: Annotated[str | None, typer.Argument(metavar="[INCIDENT]", help="All when left out.")] = None,
    json: Json = False,
) -> None:
    """Check chain, hashes and signed heads; exit 1 when anything was changed. Example: irflow journal verify"""
    from irflow.wiring import verify_journals

    results = verify_journals(configuration().settings, incident)
    rows: list[dict[str, Any]] = [
        {
            "incident": one.incident,
            "events": one.events,
            "passed": one.intact,
            "unanchored": list(one.unanchored),
            "findings": [{"damage": f.damage.value, "seq": f.seq, "detail": f.detail} for f in one.findings],
        }
        for one in results
    ]
    if json:
        dump(rows)
    else:
        table(
            "",
            ("incident", "events", "verdict", "not yet signed"),
            [
                (row["incident"], row["events"], "passed" if row["passed"] else "failed", len(row["unanchored"]))
                for row in rows
            ],
        )
        for row in rows:
            for finding in row["findings"]:
                say(f"{row['incident']} event {finding['seq']}: {finding['damage']}: {finding['detail']}")
    if not all(row["passed"] for row in rows):
        raise typer.Exit(1)


@journal.command("export")
def export_journal(
    incident: Name, file: Annotated[Path | None, typer.Option("--out", help="Write there instead.")] = None
) -> None:
    """Write the events as JSON lines, with hashes. Example: irflow journal export IR-2026-0001 --out journal.jsonl"""
    import dataclasses
    import json as json_

    from irflow.wiring import open_store

    with open_store(configuration().settings) as store:
        events = store.events(find(store, incident).id)
    lines = "".join(json_.dumps(dataclasses.asdict(event), ensure_ascii=False) + "\n" for event in events)
    if file is None:
        typer.echo(lines, nl=False)
    else:
        file.write_text(lines)
        say(f"{len(events)} events in {file}")


def _verdict(rows: list[dict[str, Any]], json: bool, *, what: str) -> None:
    if json:
        dump(rows)
    else:
        for row in rows:
            say(f"{'passed' if row['passed'] else 'FAILED'}  {row['path']}  {row.get('detail', '')}".rstrip())
        good = sum(1 for row in rows if row["passed"])
        say(f"{good} of {len(rows)} {what}s are unchanged")
    if not all(row["passed"] for row in rows):
        raise typer.Exit(1)
