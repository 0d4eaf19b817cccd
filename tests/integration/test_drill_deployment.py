"""The deployment `drill`, started as its calendar does: the real worker runs a whole drill and says how it went."""

from __future__ import annotations

import ast
import json
import tempfile
from pathlib import Path
from typing import Any

import psutil
import pytest

from irflow.lab.layout import Layout
from tests.integration.lab_leftovers import leftovers
from tests.services.prefect import PrefectSite, until

pytestmark = pytest.mark.timeout(420)


def start(site: PrefectSite, **parameters: object) -> str:
    """Have Prefect make a run of the deployment; its id."""
    found = site.http.get("/deployments/name/drill/irflow").raise_for_status().json()
    reply = site.http.post(f"/deployments/{found['id']}/create_flow_run", json={"parameters": parameters})
    run: str = reply.raise_for_status().json()["id"]
    return run


def homes() -> set[Path]:
    """Of drills; the folder of the flow itself has a longer name."""
    return set(Path(tempfile.gettempdir()).glob("irflow-drill-????????"))


def test_the_monthly_drill_runs_by_the_worker_and_leaves_its_checks_and_nothing_else(prefect_site: PrefectSite) -> None:
    before = homes()
    run_id = start(prefect_site)
    until("the end of the drill", lambda: prefect_site.api.run_state(run_id) in ("COMPLETED", "FAILED"), 300.0)
    state = prefect_site.run(run_id)["state"]
    assert state["type"] == "COMPLETED", state["message"]
    assert state["message"].startswith("passed; contained in ")
    wanted = {"artifacts": {"flow_run_id": {"any_": [run_id]}}}
    (table,) = prefect_site.http.post("/artifacts/filter", json=wanted).raise_for_status().json()
    rows: list[dict[str, Any]] = json.loads(table["data"])
    assert table["key"] == "drill-checks"
    assert {"name": "attacker's beacon from web-1", "before": "heard", "after": "silent", "passed": "True"} in [
        {name: _plain(value) for name, value in row.items()} for row in rows
    ]
    assert homes() == before
    ours = prefect_site.store.incidents(limit=50)
    assert all("Beacon" not in one.title for one, _ in ours), "the drill's incidents are in a journal of its own"


def test_a_drill_that_is_cancelled_ends_with_everything_it_started(prefect_site: PrefectSite) -> None:
    before = homes()
    run_id = start(prefect_site)
    (home,) = until("the drill's home", lambda: homes() - before, 60.0)
    until("its lab", lambda: (home / "lab/lab.json").exists(), 60.0)
    reply = prefect_site.http.post(f"/flow_runs/{run_id}/set_state", json={"state": {"type": "CANCELLING"}})
    assert reply.json()["status"] == "ACCEPT"
    until("the end of its home", lambda: not home.exists(), 60.0)
    until("the end of the run", lambda: prefect_site.api.run_state(run_id) in ("CANCELLED", "FAILED", "CRASHED"), 60.0)
    until("the end of its processes", lambda: _of(home) == [], 30.0)
    assert leftovers(home / "lab", Layout(home / "lab").id) == []


def _of(home: Path) -> list[str]:
    return [" ".join(one.info["cmdline"] or ()) for one in psutil.process_iter(["cmdline"])
            if str(home) in " ".join(one.info["cmdline"] or ())]  # fmt: skip


def _plain(value: str) -> str:
    return ast.literal_eval(f'"{value}"') if "\\" in value else value
