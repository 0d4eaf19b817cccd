"""Scenarios are found by being there, one a file, and a drill asks for what can be had before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from irflow.core.errors import UsageError
from irflow.drill import checks, scenarios
from irflow.drill.run import run_drill
from irflow.drill.scenario import Scenario


def test_every_file_is_a_scenario_under_its_own_name() -> None:
    files = {path.stem for path in Path(scenarios.__file__).parent.glob("*.py")} - {"__init__"}
    assert files == {name.replace("-", "_") for name in scenarios.load()}


@pytest.mark.parametrize("scenario", scenarios.load().values(), ids=lambda one: one.name)
def test_a_scenario_says_what_it_needs(scenario: Scenario) -> None:
    assert scenario.title and scenario.containing and scenario.least_hosts >= 1
    assert len(scenario.alert) == 2 and scenario.documents


def test_a_file_without_a_scenario_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty.py").write_text("")
    monkeypatch.setattr(scenarios, "__path__", [str(tmp_path)])
    with pytest.raises(TypeError, match=r"scenarios\.empty has no SCENARIO"):
        scenarios.load()


def test_an_unknown_scenario_lists_all() -> None:
    with pytest.raises(UsageError, match="compromised-host"):
        scenarios.find("meteor")


def test_too_few_hosts_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 3 hosts, not 1"):
        run_drill("lateral-movement", hosts=1, out=tmp_path / "x", keep=False, sabotage=None, report=print)
    assert not (tmp_path / "x").exists()


def probe(was: bool, now: bool, wanted: tuple[bool, bool]) -> bool:
    one = checks.Probe("x", lambda: now, ("yes", "no"), wanted)
    (score,) = checks.score([one], [was], checks.ask([one]))
    assert (score.before, score.after) == ("yes" if was else "no", "yes" if now else "no")
    return score.passed


def test_a_probe_that_never_changed_proves_nothing() -> None:
    assert probe(True, False, checks.ENDS)
    assert not probe(False, False, checks.ENDS), "it was silent before too: the attack was never there"
    assert not probe(True, True, checks.ENDS)
    assert probe(True, True, checks.STAYS)
    assert not probe(True, False, checks.STAYS)
    assert not probe(False, True, checks.STAYS)
