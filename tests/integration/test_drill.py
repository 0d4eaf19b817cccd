"""`irflow drill` as a person gives it: it passes, it fails when it must, it can be looked at, and it leaves nothing."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from irflow.wiring import load, open_store
from tests.integration.drill_command import Done, Running, irflow, left, short_folder
from tests.services.irflow_site import until

pytestmark = pytest.mark.timeout(420)

PHASES = {"detection": 900.0, "containment": 900.0, "recovery": 14_400.0, "lessons_learned": 604_800.0}
FIELDS: dict[str, type | tuple[type, ...]] = {
    "schema": int, "scenario": str, "level": str, "incident": str, "phases": list, "checks": list,
    "time_to_contain_s": (float, type(None)), "documents": list, "journal_verified": bool,
}  # fmt: skip
"""DESIGN section 6: what every reader of a scorecard may count on."""
MORE = {"passed": bool, "hosts": int, "seconds": float, "processes": list, "sabotage": (str, type(None))}
PHASE = {
    "phase": str,
    "window_s": float,
    "elapsed_s": float,
    "machine_s": float,
    "human_s": float,
    "met": bool,
    "trouble": list,
}
CHECK = {"name": str, "before": str, "after": str, "passed": bool}
DOCUMENT = {"name": str, "path": str, "sha256": str}


@dataclass(frozen=True)
class Result:
    """A drill that has ended. folder: what it kept. tmp: where its temporary folders would be."""

    done: Done
    card: dict[str, Any]
    folder: Path
    tmp: Path


def fits(value: dict[str, Any], fields: dict[str, Any]) -> bool:
    """Whether the fields are exactly these and of these types; a bool is no number here."""
    return value.keys() == fields.keys() and all(
        isinstance(value[name], kind) and (not isinstance(value[name], bool) or kind is bool)
        for name, kind in fields.items()
    )


@pytest.fixture(scope="module")
def passed() -> Iterator[Result]:
    """Three attacked hosts, everything kept in a folder."""
    with short_folder() as tmp:
        folder, file = tmp / "out", tmp / "cards/card.json"
        done = irflow("drill", "compromised-host", "--hosts", "3", "--out", folder, "--json", file, tmp=tmp)
        assert file.exists(), done.err
        yield Result(done, json.loads(file.read_text()), folder, tmp)


def test_a_drill_passes_with_exit_status_0(passed: Result) -> None:
    assert passed.done.code == 0, passed.done.out + passed.done.err
    assert passed.card["passed"] is True
    assert passed.card["journal_verified"] is True
    assert [one for one in passed.card["checks"] if not one["passed"]] == []


def test_the_scorecard_is_what_readers_count_on(passed: Result) -> None:
    card = passed.card
    assert fits(card, FIELDS | MORE), {name: type(value) for name, value in card.items()}
    assert (card["schema"], card["scenario"], card["level"], card["hosts"]) == (1, "compromised-host", "root", 3)
    assert re.fullmatch(r"IR-\d{4}-\d{4}", card["incident"])
    assert card["sabotage"] is None
    assert all(fits(one, PHASE) for one in card["phases"])
    assert all(fits(one, CHECK) for one in card["checks"])
    assert all(fits(one, DOCUMENT) for one in card["documents"])
    assert {one["phase"]: one["window_s"] for one in card["phases"]} == PHASES
    assert list(PHASES) == [one["phase"] for one in card["phases"]]
    for one in card["phases"]:
        assert one["met"] is (0 < one["elapsed_s"] <= one["window_s"]) is True
        assert 0 <= one["machine_s"] <= one["elapsed_s"]
        assert one["human_s"] >= 0
    assert 0 < card["time_to_contain_s"] < card["phases"][1]["elapsed_s"]


def test_it_asks_about_every_attacked_host_and_one_that_nobody_attacked(passed: Result) -> None:
    found = {one["name"]: (one["before"], one["after"]) for one in passed.card["checks"]}
    for host in ("web-1", "web-2", "web-3"):
        assert found[f"attacker's SSH session on {host}"] == ("alive", "dead")
        assert found[f"attacker's beacon from {host}"] == ("heard", "silent")
        assert found[f"attacker's new login on {host}"] == ("possible", "impossible")
        assert found[f"{host} by IPv4 from the attacker"] == ("answers", "silent")
        assert found[f"{host} by IPv6 from the attacker"] == ("answers", "silent")
        assert found[f"{host} from the responder"] == ("answers", "answers")
        assert found[f"{host} after release, from outside"] == ("answers", "answers")
        assert found[f"attacker's login at the end on {host}"] == ("possible", "impossible")
        assert found[f"evidence from {host}"][1] == "snapshot, volatile; unchanged; deleted binary found"
    assert found["bystander web-4 from outside"] == ("answers", "answers")
    assert found["incident closed"] == ("open", "closed")


def test_people_read_it_without_the_file(passed: Result) -> None:
    out, err = passed.done.out, passed.done.err
    assert out.splitlines()[-2] == "PASSED"
    assert f"Drill compromised-host: 3 hosts, level root, incident {passed.card['incident']}" in out
    assert re.search(r"^containment +15 min +\d+\.\d s +\d+\.\d s +\d+\.\d s +met$", out, re.MULTILINE)
    assert re.search(r"^attacker's beacon from web-2 +heard +silent +passed$", out, re.MULTILINE)
    assert f"time to contain: {passed.card['time_to_contain_s']:.2f} s   journal: verified" in out
    assert f"scorecard written to {passed.tmp / 'cards/card.json'}" in out
    assert err.startswith("lab: 4 hosts, level root\n")
    assert "attack staged on web-1,web-2,web-3: SSH session, beacon from a deleted binary, changed files" in err


def test_operators_answered_with_commands_that_anyone_could_give(passed: Result) -> None:
    number = passed.card["incident"]
    said = [one for one in passed.done.err.splitlines() if one.startswith("operator: ")]
    assert f"operator: irflow approve {number} --phase recovery --as first-responder --reason drill" in said
    assert all(one.split()[2] in ("approve", "step") for one in said)


def test_the_documents_are_kept_where_it_says(passed: Result) -> None:
    names = [one["name"] for one in passed.card["documents"]]
    assert {"incident-report", "stakeholder-update", "post-incident-review"} == set(names)
    for one in passed.card["documents"]:
        path = Path(one["path"])
        assert path.is_relative_to(passed.folder / "documents")
        assert hashlib.sha256(path.read_bytes()).hexdigest() == one["sha256"]
        assert passed.card["incident"] in path.read_text()


def test_its_incident_is_marked_as_a_drill(passed: Result) -> None:
    with open_store(load(passed.folder).settings) as store:
        incident = store.find_incident(passed.card["incident"])
        assert incident is not None and incident.drill


def test_a_drill_that_ended_leaves_only_what_it_kept(passed: Result) -> None:
    assert left(passed.tmp) == []
    assert not (passed.folder / "lab").exists()


@pytest.fixture(scope="module")
def kept() -> Iterator[Result]:
    """The cut of the one attacked host was sabotaged, and everything was left up."""
    with short_folder() as tmp:
        file = tmp / "card.json"
        try:
            done = irflow("drill", "--sabotage", "isolate", "--keep", "--json", file, tmp=tmp)
            assert file.exists(), done.err
            yield Result(done, json.loads(file.read_text()), Path(shlex.split(done.line("take it down:"))[2]), tmp)
        finally:
            for home in tmp.glob("irflow-drill-*"):
                irflow("--home", home, "lab", "down", "--stack", tmp=tmp)


@pytest.fixture
def tmp() -> Iterator[Path]:
    """Where the temporary folders of one drill go."""
    with short_folder() as folder:
        yield folder


def take_down(done: Done, tmp: Path) -> Done:
    """Give the command that was on the screen."""
    words = shlex.split(done.line("take it down:"))
    assert words[0] == "irflow"
    return irflow(*words[1:], tmp=tmp)


def test_a_cut_that_only_claims_to_be_one_fails_the_drill_by_name(kept: Result) -> None:
    assert kept.done.code == 1
    failed = {one["name"]: one["after"] for one in kept.card["checks"] if not one["passed"]}
    assert failed == {
        "attacker's SSH session on web-1": "alive", "attacker's beacon from web-1": "heard",
        "attacker's new login on web-1": "possible", "web-1 by IPv4 from the attacker": "answers",
        "web-1 by IPv6 from the attacker": "answers", "web-1 from the visitor": "answers",
    }  # fmt: skip
    assert (kept.card["passed"], kept.card["sabotage"], kept.card["time_to_contain_s"]) == (False, "isolate", None)
    last = kept.done.out.splitlines()[-2]
    assert last.startswith("FAILED: ")
    assert set(last.removeprefix("FAILED: ").split("; ")) == set(failed)


def test_what_was_kept_can_be_looked_at_and_goes_when_told(kept: Result) -> None:
    url, ui = re.findall(r"http://127\.0\.0\.1:\d+", kept.done.line("left up:"))
    assert httpx.get(f"{url}/health", trust_env=False).status_code == 200
    assert httpx.get(f"{ui}/api/health", trust_env=False).status_code == 200
    home = ("--home", kept.folder)
    assert f"look: irflow --home {kept.folder} incidents show {kept.card['incident']}" in kept.done.err
    shown = irflow(*home, "incidents", "show", kept.card["incident"], tmp=kept.tmp)
    assert shown.code == 0 and "containment/isolate-host.isolate@web-1" in shown.out
    assert irflow(*home, "lab", "exec", "web-1", "--", "hostname", tmp=kept.tmp).out.strip() == "web-1"
    knock = ("bash", "-c", "exec 3<>/dev/tcp/10.77.1.1/22; head -c 4 <&3")
    assert irflow(*home, "lab", "from", "visitor", "--", *knock, tmp=kept.tmp).out == "SSH-"

    down = take_down(kept.done, kept.tmp)

    assert (down.code, down.out.strip()) == (0, "down")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health", trust_env=False)
    assert left(kept.tmp) == [f"folder {kept.folder}"], "documents, evidence and journal stay"
    assert kept.done.line("documents, evidence and journal stay in").startswith(str(kept.folder))
    assert irflow(*home, "journal", "verify", tmp=kept.tmp).code == 0


def test_a_drill_that_is_killed_leaves_nothing(tmp: Path) -> None:
    with Running(tmp=tmp) as drill:
        drill.reached("attack staged")
        assert len(left(tmp)) > 10, "the finder of leftovers must find a living drill"
        drill.process.kill()
        drill.process.wait()
        until(lambda: left(tmp) == [], 60.0, "everything is gone")


@pytest.mark.parametrize(
    ("number", "moment", "code"),
    [(signal.SIGINT, "lab: 2 hosts", 130), (signal.SIGTERM, "web: ready", 143)],
    ids=["Ctrl-C", "asked to end"],
)
def test_a_drill_that_is_stopped_cleans_up_before_it_ends(
    number: signal.Signals, moment: str, code: int, tmp: Path
) -> None:
    with Running(tmp=tmp) as drill:
        drill.reached(moment)
        os.killpg(drill.process.pid, number)
        ended = drill.process.wait(timeout=60)
        # Python ends itself by SIGINT where Ctrl-C met an exec() of text, as dataclasses do: to a shell it is the same.
        assert (128 - ended if ended < 0 else ended) == code, drill.err
        assert "Traceback" not in drill.err
        assert left(tmp) == []


def test_a_step_that_does_not_exist_cannot_be_sabotaged(tmp: Path) -> None:
    done = irflow("drill", "--sabotage", "isolat", tmp=tmp)
    assert done.code == 2
    assert "no step 'isolat'" in done.err and "isolate" in done.err.partition("There is ")[2]
    assert left(tmp) == []


def test_what_cannot_be_asked_is_refused_before_anything_starts(tmp: Path) -> None:
    unknown = irflow("drill", "meteor", tmp=tmp)
    assert unknown.code == 2
    assert "compromised-host" in unknown.err and "irflow drill --list" in unknown.err
    few = irflow("drill", "lateral-movement", "--hosts", "2", tmp=tmp)
    assert (few.code, few.err) == (2, "error: lateral-movement needs at least 3 hosts, not 2\n")


def test_the_scenarios_are_listed(tmp: Path) -> None:
    done = irflow("drill", "--list", tmp=tmp)
    assert done.code == 0
    names = [line.split()[0] for line in done.out.splitlines()[3:]]
    assert names == ["brute-force", "compromised-account", "compromised-host", "lateral-movement", "leaked-credential"]
