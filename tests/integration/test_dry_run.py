"""A dry run looks at real hosts and changes nothing: no file and no rule of any host, and nothing in the journal."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from irflow.adapters.catalog import LoadedCatalog
from irflow.core.runbook import ParameterType, Runbook
from irflow.lab.lab import Lab
from irflow.lab.model import LabHost, Level
from irflow.wiring import load, open_store
from tests.integration.cli_site import FIRST, Desk, desk

pytestmark = pytest.mark.timeout(240)

GIVEN = {
    ParameterType.HOSTS: "web-1",
    ParameterType.HOST: "web-1",
    ParameterType.ADDRESSES: "203.0.113.9",
    ParameterType.DURATION: "1h",
    ParameterType.STRING: "alice",
    ParameterType.STRINGS: "alice",
    ParameterType.INTEGER: "1",
    ParameterType.BOOLEAN: "true",
}
"""Something to give for a required parameter of each type."""
BY_NAME = {"hashes": "ab" * 32}
"""Where the type does not say enough."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab.up(2, tmp_path_factory.mktemp("lab") / "run", level=Level.ROOT) as running:
        yield running


@pytest.fixture(scope="module")
def here(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return desk(tmp_path_factory.mktemp("site") / "home", lab)


def fingerprint(lab: Lab, host: LabHost) -> dict[str, str]:
    """Every path that differs from the host's birth, with what is there now, and its firewall; logins apart."""
    root = Path(f"/proc/{host.pid}/root")
    found = {path: _what(root / path.lstrip("/")) for path in lab.diff(host)}
    return {**found, "firewall": lab.exec(host, ["nft", "list", "ruleset"]).stdout.decode()}


def _what(path: Path) -> str:
    try:
        seen = path.lstat()
    except FileNotFoundError:
        return "gone"
    content = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(seen.st_mode) else ""
    return f"{seen.st_mode:o} {seen.st_uid} {seen.st_gid} {content}"


def journal(here: Desk) -> dict[str, int]:
    """How many events each incident has."""
    with open_store(load(here.home).settings) as store:
        return {one.number: len(store.events(one.id)) for one, _ in store.incidents()}


def arguments(runbook: Runbook) -> list[str]:
    needed = {name: one.type for name, one in runbook.parameters.items() if one.required}
    given = {name: BY_NAME.get(name, GIVEN[type_]) for name, type_ in needed.items()}
    if "roots" in runbook.parameters:
        given["roots"] = "/usr/local"  # its default has a lab host hash all of this machine's programs
    return [word for name, value in given.items() for word in ("--param", f"{name}={value}")]


def catalog(here: Desk) -> LoadedCatalog:
    return load(here.home).catalog


def test_a_run_shows_what_each_step_would_change_and_changes_nothing(here: Desk, lab: Lab) -> None:
    before, events = fingerprint(lab, lab.hosts[0]), journal(here)
    words = ("run", "isolate-host", "--param", "hosts=web-1", "--dry-run", "--as", FIRST)
    done = here.irflow(*words, "--json")
    assert done.code == 0, done.err
    told = done.json
    by_step = {one["key"].partition("@")[0]: one for one in told["dry_run"]}
    cut = by_step["run-1/isolate-host.isolate"]
    assert (cut["target"], cut["would"]) == ("web-1", "change")
    assert cut["changes"][0]["summary"].startswith("cut web-1 off the network for 28800 s")
    assert by_step["run-1/isolate-host.tell-owner"]["would"] == "person"
    assert len(told["digest"]) == 64
    people = here.irflow(*words)
    assert "cut web-1 off the network for 28800 s" in people.out
    assert fingerprint(lab, lab.hosts[0]) == before
    assert journal(here) == events == {}


def test_no_shipped_runbook_changes_anything_in_a_dry_run(here: Desk, lab: Lab) -> None:
    before, events = fingerprint(lab, lab.hosts[0]), journal(here)
    for name, runbook in catalog(here).runbooks.items():
        done = here.irflow("run", name, *arguments(runbook), "--dry-run", "--as", FIRST, "--json")
        assert done.code in (0, 4), f"{name}: {done.err}"
        assert {one["key"] for one in done.json["dry_run"]} == {one["key"] for one in done.json["steps"]}
        assert "Error in" not in done.out, "an action broke"
    assert fingerprint(lab, lab.hosts[0]) == before
    assert journal(here) == events


def test_the_plan_of_an_incident_is_looked_at_with_the_digest_that_people_approve(here: Desk, lab: Lab) -> None:
    near, far = lab.hosts
    number = here.alert(near.name, far.name)
    before, events = fingerprint(lab, near), journal(here)
    lab.unplug(far)
    try:
        done = here.irflow("plan", number, "--phase", "containment", "--observe", "--json")
    finally:
        lab.plug(far)
    assert done.code == 4, done.err
    (told,) = done.json
    would = {one["key"].partition("isolate-host.")[2]: one["would"] for one in told["dry_run"]}
    assert (would["isolate@web-1"], would["isolate@web-2"]) == ("change", "unknown")
    assert fingerprint(lab, near) == before
    assert journal(here) == events
    here.work(number, "containment")
    assert here.irflow("approve", number, "--digest", told["digest"], "--as", FIRST).code == 0
    here.work(number, "containment")
    again = here.irflow("plan", number, "--phase", "containment", "--observe", "--json").json[0]
    over = {one["key"].partition("isolate-host.")[2]: one["would"] for one in again["dry_run"]}
    assert over["isolate@web-1"] == "over"
